"""The reading side of a connection, where the client library lacks something.

Two things: during the handshake it keeps what the broker said when it refused (the client throws code and text away), and
on request it replaces content headers that the client cannot decode, each of which would otherwise end the connection,
for ever again, as the message is redelivered. After the handshake it costs nothing unless asked for.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from pamqp import commands
from pamqp.header import ContentHeader

from factflow_infra.queue.rabbitmq.wire import UNDECODABLE

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from yarl import URL

_PROTOCOL_HEADER: Final = ord("A")
"""What a broker without a version in common answers: ``AMQP`` and the version it speaks, in place of a frame."""
_METHOD: Final = 1
_CONTENT_HEADER: Final = 2
_MOST_NESTED: Final = 64
"""Levels of tables and lists in the headers of one message. The client reads each by a call within a call: what it can read at one
depth of the stack, it cannot at another."""
_CONNECTION_CLOSE: Final = struct.pack(">HH", 10, 50)
_CONNECTION_OPEN_OK: Final = struct.pack(">HH", 10, 41)


@dataclass(frozen=True, slots=True)
class Refusal:
    """How the broker ended the handshake: an AMQP reply code, and its text."""

    code: int
    text: str


class CarefulReader:
    """Stands before a ``StreamReader``, which the client reads in threes: 1 byte, 6 bytes, the rest of a frame."""

    def __init__(self, reader: asyncio.StreamReader, *, mend_headers: bool) -> None:
        self._reader = reader
        self._mend_headers = mend_headers
        self._start = b""
        self._rest: bytes | None = None
        self.refusal: Refusal | None = None
        self.at_eof = reader.at_eof
        self.read = reader.read
        self.readexactly: Callable[[int], Awaitable[bytes]] = self._readexactly

    async def _readexactly(self, count: int) -> bytes:
        if self._rest is not None:
            rest, self._rest = self._rest, None
            return rest
        data = await self._reader.readexactly(count)
        if not self._start:
            self._start = data
            return data
        frame_type, self._start = self._start[0], b""
        if frame_type == _PROTOCOL_HEADER:
            return data
        (size,) = struct.unpack(">I", data[2:])
        rest = await self._reader.readexactly(size + 1)
        if frame_type == _METHOD:
            self._see(rest[:-1])
        elif frame_type == _CONTENT_HEADER and self._mend_headers:
            header = mended(rest[:-1])
            data, rest = data[:2] + struct.pack(">I", len(header)), header + rest[-1:]
        self._rest = rest
        return data

    def _see(self, method: bytes) -> None:
        kind = method[:4]
        if kind == _CONNECTION_CLOSE:
            self.refusal = _refusal(method)
        elif kind == _CONNECTION_OPEN_OK and not self._mend_headers:
            self._release()

    def _release(self) -> None:
        # The frame of this very call is still to be handed out.
        async def last(_count: int) -> bytes:
            self.readexactly = self._reader.readexactly
            rest, self._rest = self._rest or b"", None
            return rest

        self.readexactly = last


class CarefulTransport(TransportFactory):
    """Opens the socket as the client would, with a ``CarefulReader`` before it."""

    def __init__(self, *, tls: bool, mend_headers: bool) -> None:
        self._inner: TransportFactory = TLSTransportFactory() if tls else TCPTransportFactory()
        self._mend_headers = mend_headers
        self._reader: CarefulReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def refusal(self) -> Refusal | None:
        return self._reader.refusal if self._reader is not None else None

    def abort(self) -> None:
        """Close the socket at once, without a farewell."""
        if self._writer is not None:
            self._writer.transport.abort()

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self._inner.create(url, **kwargs)
        self._writer = writer
        self._reader = CarefulReader(reader, mend_headers=self._mend_headers)
        return cast("asyncio.StreamReader", self._reader), writer


def mended(header: bytes) -> bytes:
    """A content header as it is, or, where the client could not decode it, one that says so in ``UNDECODABLE``."""
    read = ContentHeader()
    reason = None
    try:
        read.unmarshal(header)
    except (ValueError, TypeError, IndexError, OverflowError, OSError, RecursionError) as error:
        reason = str(error)
    else:
        if _levels(read.properties.headers) > _MOST_NESTED:
            reason = f"headers are nested more than {_MOST_NESTED} deep"
    if reason is None:
        return header
    (body_size,) = struct.unpack(">Q", header[4:12])
    properties = commands.Basic.Properties(headers={UNDECODABLE: f"properties that are not valid AMQP: {reason}"})
    return ContentHeader(body_size=body_size, properties=properties).marshal()


def _levels(headers: object) -> int:
    """How deep tables and lists are nested, level by level: recursion may be too much of it here."""
    levels, these = 0, [headers]
    while these := [value for value in these if isinstance(value, (dict, list))]:
        levels += 1
        these = [
            inner
            for value in cast("list[dict[str, object] | list[object]]", these)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
    return levels


def _refusal(close: bytes) -> Refusal:
    (code,) = struct.unpack(">H", close[4:6])
    return Refusal(code, close[7 : 7 + close[6]].decode(errors="replace"))
