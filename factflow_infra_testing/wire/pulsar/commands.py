"""Pulsar's commands and metadata: field names and numbers as in its ``PulsarApi.proto`` (protocol version 19).

A command's type number is also the number of its field in ``BaseCommand``. Left out are transactions, topic watchers and
migration, which the client library of the production provider does not use.
"""

from __future__ import annotations

from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from factflow_infra_testing.wire.pulsar.protobuf import Codec

if TYPE_CHECKING:
    from collections.abc import Mapping

PROTOCOL_VERSION: Final = 19


class ServerError(IntEnum):
    """Why the broker refuses, as its clients know it."""

    UNKNOWN = 0
    METADATA = 1
    PERSISTENCE = 2
    AUTHENTICATION = 3
    AUTHORIZATION = 4
    CONSUMER_BUSY = 5
    SERVICE_NOT_READY = 6
    CHECKSUM = 9
    UNSUPPORTED_VERSION = 10
    TOPIC_NOT_FOUND = 11
    SUBSCRIPTION_NOT_FOUND = 12
    CONSUMER_NOT_FOUND = 13
    PRODUCER_BUSY = 16
    INVALID_TOPIC_NAME = 17
    INCOMPATIBLE_SCHEMA = 18
    CONSUMER_ASSIGN = 19
    NOT_ALLOWED = 22


class SubscriptionType(IntEnum):
    EXCLUSIVE = 0
    SHARED = 1
    FAILOVER = 2
    KEY_SHARED = 3


LATEST, EARLIEST = 0, 1
"""Initial positions of a subscription."""
INDIVIDUAL, CUMULATIVE = 0, 1
"""Kinds of ack."""
LOOKUP_CONNECT, LOOKUP_FAILED = 1, 2
METADATA_SUCCESS, METADATA_FAILED = 0, 1

_COMMANDS: Final[Mapping[str, tuple[int, str]]] = MappingProxyType(
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
        "connected": (
            3,
            """
            1! server_version string
            2 protocol_version int
            3 max_message_size int
            4 feature_flags FeatureFlags
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
        "send_receipt": (
            7,
            """
            1! producer_id uint
            2! sequence_id uint
            3 message_id MessageIdData
            4 highest_sequence_id uint
            """,
        ),
        "send_error": (
            8,
            """
            1! producer_id uint
            2! sequence_id uint
            3! error uint
            4! message string
            """,
        ),
        "message": (
            9,
            """
            1! consumer_id uint
            2! message_id MessageIdData
            3 redelivery_count uint
            4* ack_set int
            5 consumer_epoch uint
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
        "success": (
            13,
            """
            1! request_id uint
            2 schema Schema
            """,
        ),
        "error": (
            14,
            """
            1! request_id uint
            2! error uint
            3! message string
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
        "producer_success": (
            17,
            """
            1! request_id uint
            2! producer_name string
            3 last_sequence_id int
            4 schema_version bytes
            5 topic_epoch uint
            6 producer_ready bool
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
        "partitioned_metadata_response": (
            22,
            """
            1 partitions uint
            2! request_id uint
            3 response uint
            4 error uint
            5 message string
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
        "lookup_response": (
            24,
            """
            1 brokerServiceUrl string
            2 brokerServiceUrlTls string
            3 response uint
            4! request_id uint
            5 authoritative bool
            6 error uint
            7 message string
            8 proxy_through_service_url bool
            """,
        ),
        "consumer_stats": (
            25,
            """
            1! request_id uint
            4! consumer_id uint
            """,
        ),
        "consumer_stats_response": (
            26,
            """
            1! request_id uint
            2 error_code uint
            3 error_message string
            4 msgRateOut double
            5 msgThroughputOut double
            6 msgRateRedeliver double
            7 consumerName string
            8 availablePermits uint
            9 unackedMessages uint
            10 blockedConsumerOnUnackedMsgs bool
            11 address string
            12 connectedSince string
            13 type string
            14 msgRateExpired double
            15 msgBacklog uint
            """,
        ),
        "reached_end_of_topic": (27, "1! consumer_id uint"),
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
        "get_last_message_id_response": (
            30,
            """
            1! last_message_id MessageIdData
            2! request_id uint
            3 consumer_mark_delete_position MessageIdData
            """,
        ),
        "active_consumer_change": (
            31,
            """
            1! consumer_id uint
            2 is_active bool
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
        "get_topics_of_namespace_response": (
            33,
            """
            1! request_id uint
            2* topics string
            3 filtered bool
            4 topics_hash string
            5 changed bool
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
        "get_schema_response": (
            35,
            """
            1! request_id uint
            2 error_code uint
            3 error_message string
            4 schema Schema
            5 schema_version bytes
            """,
        ),
        "auth_challenge": (
            36,
            """
            1 server_version string
            2 challenge AuthData
            3 protocol_version int
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
        "ack_response": (
            38,
            """
            1! consumer_id uint
            4 error uint
            5 message string
            6 request_id uint
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
        "get_or_create_schema_response": (
            40,
            """
            1! request_id uint
            2 error_code uint
            3 error_message string
            4 schema_version bytes
            """,
        ),
    }
)

_PARTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "FeatureFlags": """
            1 supports_auth_refresh bool
            2 supports_broker_entry_metadata bool
            3 supports_partial_producer bool
            4 supports_topic_watchers bool
            """,
        "MessageIdData": """
            1! ledgerId uint
            2! entryId uint
            3 partition int
            4 batch_index int
            5* ack_set int
            6 batch_size int
            """,
        "KeyValue": """
            1! key string
            2! value string
            """,
        "KeyLongValue": """
            1! key string
            2! value uint
            """,
        "IntRange": """
            1! start int
            2! end int
            """,
        "KeySharedMeta": """
            1! keySharedMode uint
            3* hashRanges IntRange
            4 allowOutOfOrderDelivery bool
            """,
        "Schema": """
            1! name string
            3! schema_data bytes
            4! type uint
            5* properties KeyValue
            """,
        "AuthData": """
            1 auth_method_name string
            2 auth_data bytes
            """,
        "MessageMetadata": """
            1! producer_name string
            2! sequence_id uint
            3! publish_time uint
            4* properties KeyValue
            5 replicated_from string
            6 partition_key string
            8 compression uint
            9 uncompressed_size uint
            11 num_messages_in_batch int
            12 event_time uint
            16 schema_version bytes
            17 partition_key_b64_encoded bool
            18 ordering_key bytes
            19 deliver_at_time int
            24 highest_sequence_id uint
            25 null_value bool
            26 uuid string
            27 num_chunks_from_msg int
            28 total_chunk_msg_size int
            29 chunk_id int
            30 null_partition_key bool
            """,
        "SingleMessageMetadata": """
            1* properties KeyValue
            2 partition_key string
            3! payload_size int
            4 compacted_out bool
            5 event_time uint
            6 partition_key_b64_encoded bool
            7 ordering_key bytes
            8 sequence_id uint
            9 null_value bool
            10 null_partition_key bool
            """,
    }
)

TYPES: Final[Mapping[str, int]] = MappingProxyType({name: number for name, (number, _) in _COMMANDS.items()})
"""Type numbers by command."""

NAMES: Final[Mapping[int, str]] = MappingProxyType({number: name for name, number in TYPES.items()})

CODEC: Final = Codec(
    {
        **_PARTS,
        **{name: fields for name, (_, fields) in _COMMANDS.items()},
        "BaseCommand": "\n".join(("1! type uint", *(f"{number} {name} {name}" for name, number in TYPES.items()))),
    }
)
"""Reads and writes all of them."""
