"""Messages as the C++ half of the library has them, and the builder that makes them."""

from __future__ import annotations

import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from factflow_infra_testing.broker.entries import Position

Key = tuple[int, int, int]
"""Ledger, entry and batch index of a message; -1 where it is in no batch."""


class Message:
    """A message, to be sent or received. ``line``: the connection that it came by."""

    __slots__ = ("_data", "batch", "key", "line", "metadata", "redeliveries", "topic")

    def __init__(
        self,
        metadata: Mapping[str, Any],
        data: bytes,
        *,
        key: Key = (-1, -1, -1),
        topic: str = "",
        redeliveries: int = 0,
        line: object = None,
        batch: Batch | None = None,
    ) -> None:
        self.metadata = metadata
        self._data = data
        self.key = key
        self.topic = topic
        self.redeliveries = redeliveries
        self.line = line
        self.batch = batch

    @property
    def position(self) -> Position:
        return self.key[:2]

    def data(self) -> bytes:
        return self._data

    def length(self) -> int:
        return len(self._data)

    def properties(self) -> dict[str, str]:
        return {pair["key"]: pair["value"] for pair in self.metadata.get("properties", ())}

    def partition_key(self) -> str:
        return self.metadata.get("partition_key", "")

    def ordering_key(self) -> str:
        return self.metadata.get("ordering_key", b"").decode("utf-8", "surrogateescape")

    def publish_timestamp(self) -> int:
        return self.metadata.get("publish_time", 0)

    def event_timestamp(self) -> int:
        return self.metadata.get("event_time", 0)

    def message_id(self) -> Any:
        return message_id(self.key)

    def topic_name(self) -> str:
        return self.topic

    def redelivery_count(self) -> int:
        return self.redeliveries

    def schema_version(self) -> str:
        return ""

    def producer_name(self) -> str:
        return self.metadata.get("producer_name", "")

    def has_null_value(self) -> bool:
        return bool(self.metadata.get("null_value", False))

    def encryption_context(self) -> None:
        return None


class Batch:
    """What of a batch is not acked yet: the entry is acked with the last of them (``BatchMessageAcker``)."""

    __slots__ = ("left",)

    def __init__(self, count: int) -> None:
        self.left = set(range(count))

    def ack(self, index: int) -> bool:
        """Whether that was the last."""
        self.left.discard(index)
        return not self.left


def message_id(key: Key) -> Any:
    """A real ``_pulsar.MessageId``: they are values only, without threads or timers."""
    ledger, entry, batch_index = key
    return import_module("_pulsar").MessageId(-1, ledger, entry, batch_index)


def key_of(message: Any) -> Key:
    """The key of a message, or of a ``_pulsar.MessageId``."""
    if isinstance(message, Message):
        return message.key
    return message.ledger_id(), message.entry_id(), message.batch_index()


class MessageBuilder:
    """As ``_pulsar.MessageBuilder``; every method gives the builder back."""

    def __init__(self) -> None:
        self._metadata: dict[str, Any] = {}
        self._data = b""

    def content(self, data: bytes | str) -> MessageBuilder:
        self._data = data.encode() if isinstance(data, str) else bytes(data)
        return self

    def set_null_value(self) -> MessageBuilder:
        return self._set("null_value", value=True)

    def property(self, key: str, value: str) -> MessageBuilder:
        if type(key) is not str or type(value) is not str:
            raise TypeError("property(): incompatible function arguments")
        self._metadata.setdefault("properties", []).append({"key": key, "value": value})
        return self

    def properties(self, properties: Mapping[str, str]) -> MessageBuilder:
        for key, value in properties.items():
            self.property(key, value)
        return self

    def partition_key(self, key: str) -> MessageBuilder:
        return self._set("partition_key", key)

    def ordering_key(self, key: str) -> MessageBuilder:
        return self._set("ordering_key", key.encode("utf-8", "surrogateescape"))

    def sequence_id(self, number: int) -> MessageBuilder:
        return self._set("sequence_id", number)

    def event_timestamp(self, milliseconds: int) -> MessageBuilder:
        return self._set("event_time", milliseconds)

    def deliver_at(self, milliseconds: int) -> MessageBuilder:
        return self._set("deliver_at_time", milliseconds)

    def deliver_after(self, delay: timedelta) -> MessageBuilder:
        return self._set("deliver_at_time", int((time.time() + delay.total_seconds()) * 1000))

    def replication_clusters(self, clusters: list[str]) -> MessageBuilder:
        del clusters  # there is one cluster
        return self

    def disable_replication(self, flag: bool) -> MessageBuilder:
        del flag
        return self

    def build(self) -> Message:
        return Message(self._metadata, self._data)

    def _set(self, name: str, value: Any) -> MessageBuilder:
        self._metadata[name] = value
        return self
