"""What is in a stored message: whose it is, when it is due, and what its subscription goes by."""

from __future__ import annotations

from base64 import b64decode
from typing import TYPE_CHECKING, Any

from factflow_infra.queue.pulsar import wire
from factflow_infra_testing.broker.transport import source_of
from factflow_infra_testing.wire.pulsar.frames import read_batch
from factflow_infra_testing.wire.pulsar.protobuf import DecodeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from factflow_infra.queue.transport import Envelope
    from factflow_infra_testing.wire.pulsar.frames import Content, Single


def singles(content: Content) -> Sequence[Single]:
    """The messages in an entry, each with its metadata; none where the broker cannot look inside (compressed)."""
    metadata, payload = content.metadata, content.payload
    if isinstance(payload, list):
        return payload
    if not is_batch(content):
        return ((metadata, bytes(payload)),)
    if metadata.get("compression"):
        return ()
    try:
        return read_batch(payload, metadata["num_messages_in_batch"])
    except DecodeError:
        return ()


def is_batch(content: Content) -> bool:
    return "num_messages_in_batch" in content.metadata


def count_of(content: Content) -> int:
    """How many messages an entry holds."""
    return max(1, content.metadata.get("num_messages_in_batch", 1))


def keys_of(content: Content) -> tuple[str, ...]:
    """The ids of the messages in an entry, as many as there are: the provider's own, or where in which producer's they are."""
    metadata = content.metadata
    base = f"{metadata['producer_name']}:{metadata['sequence_id']}"
    count = count_of(content)
    found = singles(content)
    if len(found) != count:
        return tuple(f"{base}:{index}" for index in range(count)) if count > 1 else (base,)
    return tuple(
        properties_of(single).get(wire.ID) or (f"{base}:{index}" if count > 1 else base)
        for index, (single, _) in enumerate(found)
    )


def properties_of(metadata: Mapping[str, Any]) -> dict[str, str]:
    return {pair["key"]: pair["value"] for pair in metadata.get("properties", ())}


def envelope_of(content: Content) -> Envelope | None:
    """The message as the production provider reads it; ``None`` for a batch, of which it makes none."""
    from factflow_infra_testing.api.pulsar.values import Message

    if is_batch(content):
        return None
    ((metadata, data),) = singles(content)
    return wire.decode(Message(metadata, data))[0]


def source_label(content: Content) -> str:
    """The label of the queue that a dead-lettered copy came from; empty for any other message."""
    if is_batch(content):
        return ""  # providers send none
    return source_of(properties_of(content.metadata))


def group_of(content: Content) -> str | bytes:
    """What a Key_Shared subscription goes by: the ordering key, else the partition key; of a batch, its first message's.

    A message without a key is a group of its own.
    """
    metadata = content.metadata
    alone = f"{metadata['producer_name']}-{metadata['sequence_id']}"
    if is_batch(content) and "ordering_key" not in metadata and "partition_key" not in metadata:
        metadata = next((single for single, _ in singles(content)), metadata)
    if ordering_key := metadata.get("ordering_key"):
        return ordering_key
    key = metadata.get("partition_key")
    if key is None:
        return alone
    return b64decode(key) if metadata.get("partition_key_b64_encoded") else key.encode()
