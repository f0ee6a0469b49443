"""What the broker says: commands with their type numbers and fields, as in ``PulsarApi.proto``."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

ANSWERS: Final[Mapping[str, tuple[int, str]]] = MappingProxyType(
    {
        "connected": (
            3,
            """
            1! server_version string
            2 protocol_version int
            3 max_message_size int
            4 feature_flags FeatureFlags
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
        "get_last_message_id_response": (
            30,
            """
            1! last_message_id MessageIdData
            2! request_id uint
            3 consumer_mark_delete_position MessageIdData
            """,
        ),
        "reached_end_of_topic": (27, "1! consumer_id uint"),
        "active_consumer_change": (
            31,
            """
            1! consumer_id uint
            2 is_active bool
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
        "ack_response": (
            38,
            """
            1! consumer_id uint
            4 error uint
            5 message string
            6 request_id uint
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
"""By name."""
