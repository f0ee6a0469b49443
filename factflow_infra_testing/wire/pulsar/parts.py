"""What commands are made of, and the metadata of messages, as in ``PulsarApi.proto``."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

PARTS: Final[Mapping[str, str]] = MappingProxyType(
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
