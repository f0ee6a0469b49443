"""Pulsar's frames: a size, a command, and behind some commands a message with its checksum and metadata.

``[total size][command size][command]``, and behind ``send`` and ``message``
``[0x0e01][CRC-32C of what follows][metadata size][metadata][payload]``; sizes are 4 bytes, big-endian.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from factflow_infra_testing.wire.pulsar.commands import CODEC, NAMES, TYPES
from factflow_infra_testing.wire.pulsar.protobuf import DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from factflow_infra.queue.transport import Envelope

MAX_MESSAGE_SIZE: Final = 5 * 1024 * 1024
"""Bytes of metadata and payload that the broker takes."""
MAX_FRAME_SIZE: Final = MAX_MESSAGE_SIZE + 10 * 1024
LARGEST_BATCH: Final = 100_000
"""Messages in a batch. Clients stop at 1,000 unless told otherwise."""
_MAGIC: Final = b"\x0e\x01"
_SIZE: Final = struct.Struct(">I")
_HEAD: Final = struct.Struct(">2sII")  # magic, checksum, size of the metadata


def _crc_table() -> tuple[int, ...]:
    table: list[int] = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC_TABLE: Final = _crc_table()


def crc32c(data: bytes | memoryview) -> int:
    """The Castagnoli checksum of ``data``."""
    table, value = _CRC_TABLE, 0xFFFFFFFF
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


Single = tuple["Mapping[str, Any]", bytes]
"""A message of a batch: its own metadata, and its bytes."""


class Content:
    """A message as a producer sent it: ``raw``, all that stood behind its command, and what is in there.

    ``metadata`` is decoded; ``payload`` are the bytes behind it, of one message or of a batch, perhaps compressed.
    ``intact``: the checksum is right. Where no bytes are sent, a batch is a list, as ``read_batch`` gives it.
    """

    __slots__ = ("intact", "metadata", "payload", "raw")

    def __init__(
        self,
        raw: bytes,
        metadata: Mapping[str, Any],
        payload: memoryview | bytes | list[Single],
        *,
        intact: bool,
    ) -> None:
        self.raw = raw
        self.metadata = metadata
        self.payload = payload
        self.intact = intact

    @property
    def envelope(self) -> Envelope | None:
        """The message as the production provider reads it; ``None`` for a batch, of which it makes none."""
        from factflow_infra_testing.wire.pulsar.content import envelope_of

        return envelope_of(self)


class Cutter:
    """Cuts a stream into frames. Raises ``DecodeError`` for what cannot be one; holds at most one frame."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[str, dict[str, Any], bytes]]:
        """Take bytes; give each command that is whole by now: its name, its fields, and what stands behind it."""
        self._data += data
        at = 0
        try:
            while len(self._data) - at >= 4:
                (size,) = _SIZE.unpack_from(self._data, at)
                if not 4 <= size <= MAX_FRAME_SIZE:
                    raise DecodeError(f"a frame of {size} bytes")
                if len(self._data) - at - 4 < size:
                    break
                frame = bytes(self._data[at + 4 : at + 4 + size])
                at += 4 + size
                yield _read_frame(frame)
        finally:
            del self._data[:at]


def _read_frame(frame: bytes) -> tuple[str, dict[str, Any], bytes]:
    (size,) = _SIZE.unpack_from(frame)
    if size > len(frame) - 4:
        raise DecodeError("a command is longer than its frame")
    base = CODEC.decode("BaseCommand", memoryview(frame)[4 : 4 + size])
    name = NAMES.get(base["type"])
    if name is None:
        raise DecodeError(f"there is no command of type {base['type']}")
    fields = base.get(name)
    if fields is None:
        raise DecodeError(f"a command says that it is {name!r}, and has none")
    return name, fields, frame[4 + size :]


def read_content(raw: bytes) -> Content:
    """What stands behind a ``send``. Raises ``DecodeError``."""
    at, intact = 0, True
    if raw.startswith(_MAGIC):
        if len(raw) < _HEAD.size:
            raise DecodeError("a message is cut off")
        _, checksum, size = _HEAD.unpack_from(raw)
        at = _HEAD.size
        intact = crc32c(memoryview(raw)[at - 4 :]) == checksum
    elif len(raw) >= 4:  # clients before protocol version 6 send no checksum
        (size,) = _SIZE.unpack_from(raw)
        at = 4
    else:
        raise DecodeError("a message without metadata")
    if not intact:
        return Content(raw, {}, memoryview(b""), intact=False)
    if size > len(raw) - at:
        raise DecodeError("metadata is longer than its message")
    metadata = CODEC.decode("MessageMetadata", memoryview(raw)[at : at + size])
    if not 0 < metadata.get("num_messages_in_batch", 1) <= LARGEST_BATCH:
        raise DecodeError(f"a batch of {metadata['num_messages_in_batch']} messages")
    return Content(raw, metadata, memoryview(raw)[at + size :], intact=True)


def write_content(metadata: Mapping[str, Any], payload: bytes) -> bytes:
    """What stands behind a ``send`` or a ``message``, checksum included."""
    data = CODEC.encode("MessageMetadata", metadata)
    checked = _SIZE.pack(len(data)) + data + payload
    return _MAGIC + _SIZE.pack(crc32c(checked)) + checked


def write_batch(messages: Sequence[Single]) -> bytes:
    """The payload of a batch: for each message its own metadata and its bytes."""
    out: list[bytes] = []
    for metadata, payload in messages:
        data = CODEC.encode("SingleMessageMetadata", {**metadata, "payload_size": len(payload)})
        out += (_SIZE.pack(len(data)), data, payload)
    return b"".join(out)


def read_batch(payload: bytes | memoryview, count: int) -> list[Single]:
    """The messages of a batch. Raises ``DecodeError``."""
    view = memoryview(payload)
    found: list[Single] = []
    at = 0
    while len(found) < count:
        if len(view) - at < 4:
            raise DecodeError("a batch is cut off")
        (size,) = _SIZE.unpack_from(view, at)
        at += 4
        metadata = CODEC.decode("SingleMessageMetadata", view[at : at + size])
        at += size
        length = metadata["payload_size"]
        if length < 0 or length > len(view) - at:
            raise DecodeError("a message is longer than its batch")
        found.append((metadata, bytes(view[at : at + length])))
        at += length
    return found


def write_frame(name: str, fields: Mapping[str, Any], content: bytes = b"") -> bytes:
    """A whole frame."""
    command = CODEC.encode("BaseCommand", {"type": TYPES[name], name: fields})
    return b"".join((_SIZE.pack(4 + len(command) + len(content)), _SIZE.pack(len(command)), command, content))
