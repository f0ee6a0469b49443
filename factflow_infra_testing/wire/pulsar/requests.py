"""What clients say, and what both ends do: commands with their type numbers and fields, as in ``PulsarApi.proto``."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

REQUESTS: Final[Mapping[str, tuple[int, str]]] = MappingProxyType(
    {
        "connect": (
            2,
            """
            1! client_version string
            2 auth_method uint
            3 auth_data bytes
            4 protocol_version int
            5 auth_method_name string
            6 proxy_to_broker_url string
            10 feature_flags FeatureFlags
            """,
        ),
        "subscribe": (
            4,
            """
            1! topic string
            2! subscription string
            3! subType uint
            4! consumer_id uint
            5! request_id uint
            6 consumer_name string
            7 priority_level int
            8 durable bool
            9 start_message_id MessageIdData
            10* metadata KeyValue
            11 read_compacted bool
            12 schema Schema
            13 initialPosition uint
            14 replicate_subscription_state bool
            15 force_topic_creation bool
            16 start_message_rollback_duration_sec uint
            17 keySharedMeta KeySharedMeta
            18* subscription_properties KeyValue
            19 consumer_epoch uint
            """,
        ),
        "producer": (
            5,
            """
            1! topic string
            2! producer_id uint
            3! request_id uint
            4 producer_name string
            5 encrypted bool
            6* metadata KeyValue
            7 schema Schema
            8 epoch uint
            9 user_provided_producer_name bool
            10 producer_access_mode uint
            11 topic_epoch uint
            12 txn_enabled bool
            13 initial_subscription_name string
            """,
        ),
        "send": (
            6,
            """
            1! producer_id uint
            2! sequence_id uint
            3 num_messages int
            4 txnid_least_bits uint
            5 txnid_most_bits uint
            6 highest_sequence_id uint
            7 is_chunk bool
            8 marker bool
            """,
        ),
        "ack": (
            10,
            """
            1! consumer_id uint
            2! ack_type uint
            3* message_id MessageIdData
            4 validation_error uint
            5* properties KeyLongValue
            6 txnid_least_bits uint
            7 txnid_most_bits uint
            8 request_id uint
            """,
        ),
        "flow": (
            11,
            """
            1! consumer_id uint
            2! messagePermits uint
            """,
        ),
        "unsubscribe": (
            12,
            """
            1! consumer_id uint
            2! request_id uint
            """,
        ),
        "close_producer": (
            15,
            """
            1! producer_id uint
            2! request_id uint
            """,
        ),
        "close_consumer": (
            16,
            """
            1! consumer_id uint
            2! request_id uint
            """,
        ),
        "ping": (18, ""),
        "pong": (19, ""),
        "redeliver_unacknowledged_messages": (
            20,
            """
            1! consumer_id uint
            2* message_ids MessageIdData
            3 consumer_epoch uint
            """,
        ),
        "partitioned_metadata": (
            21,
            """
            1! topic string
            2! request_id uint
            """,
        ),
        "lookup": (
            23,
            """
            1! topic string
            2! request_id uint
            3 authoritative bool
            7 advertised_listener_name string
            """,
        ),
        "consumer_stats": (
            25,
            """
            1! request_id uint
            4! consumer_id uint
            """,
        ),
        "seek": (
            28,
            """
            1! consumer_id uint
            2! request_id uint
            3 message_id MessageIdData
            4 message_publish_time uint
            """,
        ),
        "get_last_message_id": (
            29,
            """
            1! consumer_id uint
            2! request_id uint
            """,
        ),
        "get_topics_of_namespace": (
            32,
            """
            1! request_id uint
            2! namespace string
            3 mode uint
            4 topics_pattern string
            5 topics_hash string
            """,
        ),
        "get_schema": (
            34,
            """
            1! request_id uint
            2! topic string
            3 schema_version bytes
            """,
        ),
        "auth_response": (
            37,
            """
            1 client_version string
            2 response AuthData
            3 protocol_version int
            """,
        ),
        "get_or_create_schema": (
            39,
            """
            1! request_id uint
            2! topic string
            3! schema Schema
            """,
        ),
    }
)
"""By name."""
