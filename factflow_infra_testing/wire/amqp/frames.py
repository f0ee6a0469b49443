"""AMQP 0-9-1 frames: cutting a stream into them, reading their methods, and writing those that are sent most.

Methods are pamqp's; only ``basic.publish``, ``basic.ack`` and ``basic.deliver``, which make up nearly all traffic, are read
and written here, as pamqp takes several times as long over them.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

from pamqp import commands
from pamqp.exceptions import PAMQPException

from factflow_infra_testing.wire.amqp.errors import (
    COMMAND_INVALID,
    FRAME_ERROR,
    SYNTAX_ERROR,
    UNEXPECTED_FRAME,
    ConnectionFailedError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pamqp.base import Frame

METHOD: Final = 1
HEADER: Final = 2
BODY: Final = 3
HEARTBEAT: Final = 8
END: Final = 0xCE
OVERHEAD: Final = 8
"""Bytes of a frame beside its payload."""
PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"
HEARTBEAT_FRAME: Final = struct.pack(">BHIB", HEARTBEAT, 0, 0, END)

_METHODS: Final = cast("dict[int, type[Any]]", cast("Any", commands).INDEX_MAPPING)
_PUBLISH: Final = commands.Basic.Publish.index
_ACK: Final = commands.Basic.Ack.index
_DELIVER: Final = struct.pack(">I", commands.Basic.Deliver.index)
_CONFIRM: Final = struct.Struct(">BHIIQBB")
_FRAME_HEAD: Final = struct.Struct(">BHI")
_CONTENT_HEAD: Final = struct.Struct(">HHQ")
_BASIC: Final = commands.Basic.frame_id
_UNREADABLE: Final = (
    PAMQPException,
    struct.error,
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
    OSError,
    RecursionError,
    ArithmeticError,
)
"""What pamqp raises for bytes that are no valid encoding."""


class Cutter:
    """Cuts what arrives into frames. ``frame_max`` bytes at most, all told; it holds one incomplete frame at most."""

    def __init__(self, frame_max: int) -> None:
        self.frame_max = frame_max
        self._rest = b""

    @property
    def idle(self) -> bool:
        """Whether nothing of a frame has come."""
        return not self._rest

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Frame type, channel and payload of each frame that is complete. Raises ``ConnectionFailedError``: 501."""
        buffer = self._rest + data if self._rest else data
        at, size = 0, len(buffer)
        self._rest = b""
        while size - at >= OVERHEAD - 1:
            kind, channel, length = _FRAME_HEAD.unpack_from(buffer, at)
            if kind not in (METHOD, HEADER, BODY, HEARTBEAT):
                raise ConnectionFailedError(FRAME_ERROR, f"unknown frame type {kind}")
            if length + OVERHEAD > self.frame_max:
                raise ConnectionFailedError(
                    FRAME_ERROR,
                    f"type {kind}, channel {channel}: payload of {length} bytes exceeds frame_max {self.frame_max}",
                )
            end = at + OVERHEAD - 1 + length
            if end >= size:
                break
            if buffer[end] != END:
                raise ConnectionFailedError(FRAME_ERROR, f"type {kind}, channel {channel}: invalid frame end marker")
            payload = buffer[at + OVERHEAD - 1 : end]
            at = end + 1
            yield kind, channel, payload
        self._rest = buffer[at:]


def read_method(payload: bytes) -> tuple[int, Frame]:
    """The index of a method, and the method. Raises ``ConnectionFailedError``: 502 or 503."""
    if len(payload) < 4:
        raise ConnectionFailedError(SYNTAX_ERROR, "a method frame without a method")
    index = int.from_bytes(payload[:4], "big")
    kind = _METHODS.get(index)
    if kind is None:
        raise ConnectionFailedError(COMMAND_INVALID, f"unknown method ({index >> 16},{index & 0xFFFF})")
    try:
        if index == _PUBLISH:
            return index, _read_publish(payload)
        method: Any = kind()
        if index == _ACK:
            method.delivery_tag, bits = struct.unpack_from(">QB", payload, 4)
            method.multiple = bool(bits & 1)
        else:
            method.unmarshal(payload[4:])
    except _UNREADABLE as error:
        raise ConnectionFailedError(SYNTAX_ERROR, f"{kind.name} cannot be read: {_shown(error)}") from error
    return index, method


def _read_publish(payload: bytes) -> commands.Basic.Publish:
    at = 7 + payload[6]
    exchange = payload[7:at]
    key_end = at + 1 + payload[at]
    key = payload[at + 1 : key_end]
    bits = payload[key_end]
    method = commands.Basic.Publish()
    method.exchange, method.routing_key = exchange.decode(), key.decode()
    method.mandatory, method.immediate = bool(bits & 1), bool(bits & 2)
    return method


def read_header(payload: bytes) -> tuple[int, bytes, commands.Basic.Properties]:
    """Body size, the properties as they came, and read. Raises ``ConnectionFailedError``: 502 or 505."""
    try:
        kind, _, size = _CONTENT_HEAD.unpack_from(payload)
        properties = commands.Basic.Properties()
        raw = payload[_CONTENT_HEAD.size :]
        flags = int.from_bytes(raw[:2], "big")
        if flags & 1 or len(raw) < 2:
            raise ValueError("property flags")
        properties.unmarshal(flags, raw[2:])
    except _UNREADABLE as error:
        raise ConnectionFailedError(SYNTAX_ERROR, f"a content header cannot be read: {_shown(error)}") from error
    if kind != _BASIC:
        raise ConnectionFailedError(UNEXPECTED_FRAME, f"expected content header for class 60, got one for class {kind}")
    return size, raw, properties


def _shown(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:120]


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """A whole frame."""
    return b"%b%b\xce" % (_FRAME_HEAD.pack(kind, channel, len(payload)), payload)


def answer(kind: Any, **values: Any) -> Any:
    """A method with all of its ``values``. pamqp refuses to write one of a name that RabbitMQ allows: of more than 127 bytes,
    or with characters outside a short list.
    """
    generous = _generous(kind)
    method = generous.__new__(generous)
    for name, value in values.items():
        setattr(method, name, value)
    return method


@cache
def _generous(kind: Any) -> Any:
    """``kind`` without a check of its values; pamqp reads what there is to write off the slots of the class itself."""

    def unchecked(_: Any) -> None:
        pass

    return type(kind.__name__, (kind,), {"__slots__": kind.__slots__, "validate": unchecked})


def write_method(channel: int, method: Frame) -> bytes:
    """A method as a frame."""
    return frame(METHOD, channel, struct.pack(">I", method.index) + method.marshal())


def write_confirm(channel: int, tag: int, *, multiple: bool, nack: bool) -> bytes:
    """``basic.ack`` or ``basic.nack`` towards a publisher."""
    index = commands.Basic.Nack.index if nack else _ACK
    return _CONFIRM.pack(METHOD, channel, 13, index, tag, int(multiple), END)


def write_content(channel: int, properties: bytes, body: bytes, frame_max: int) -> bytes:
    """A content header and the body behind it, cut into frames of at most ``frame_max`` bytes (0: no limit)."""
    size = len(body)
    header = frame(HEADER, channel, _CONTENT_HEAD.pack(_BASIC, 0, size) + properties)
    if not size:
        return header
    room = frame_max - OVERHEAD if frame_max else size
    if size <= room:
        return b"%b%b%b\xce" % (header, _FRAME_HEAD.pack(BODY, channel, size), body)
    return b"".join([header, *(frame(BODY, channel, body[at : at + room]) for at in range(0, size, room))])


def write_deliver(channel: int, consumer: bytes, tag: int, exchange: str, key: str, *, redelivered: bool) -> bytes:
    """``basic.deliver``. ``consumer`` is the consumer tag."""
    to, by = exchange.encode(), key.encode()
    payload = b"%b%c%b%b%c%b%c%b" % (
        _DELIVER,
        len(consumer),
        consumer,
        struct.pack(">QB", tag, int(redelivered)),
        len(to),
        to,
        len(by),
        by,
    )
    return frame(METHOD, channel, payload)
