"""The two ends of an in-memory connection, as asyncio transports.

Bytes go: the writer's own buffer -> the link (in flight) -> the reader's receive buffer -> ``data_received``. A full
receive buffer holds up the link and then the writer, who is told through ``pause_writing``, as with a real socket.
"""

# ruff: noqa: SLF001 - the two ends of a connection are of one class
from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from factflow_infra_testing.simulation.owners import OWNER, Owner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextvars import Context

    from factflow_infra_testing.simulation.links import Link
    from factflow_infra_testing.simulation.loop import DeterministicLoop
    from factflow_infra_testing.simulation.network import Network

MAX_READ = 64 * 1024
RECEIVE_BUFFER = 256 * 1024
HIGH_WATER = 64 * 1024

Address = tuple[str, int]
Segment = bytes | bool | BaseException
"""What travels on a link: bytes, the end of the stream (True), or a reset (the error that it causes)."""


def connection_reset() -> ConnectionResetError:
    """The error that a reset connection gives."""
    return ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")


class SimulatedSocket:
    """What ``get_extra_info("socket")`` gives: addresses, and options that are accepted and forgotten."""

    family = socket.AF_INET
    type = socket.SOCK_STREAM
    proto = socket.IPPROTO_TCP

    def __init__(self, local: Address, peer: Address | None) -> None:
        self._local = local
        self._peer = peer

    def getsockname(self) -> Address:
        return self._local

    def getpeername(self) -> Address:
        if self._peer is None:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        return self._peer

    def setsockopt(self, *_: Any) -> None:
        """Accepted: there is nothing to tune."""

    def getsockopt(self, *_: Any) -> int:
        return 0

    def fileno(self) -> int:
        return -1


class SimulatedTransport(asyncio.Transport):
    """One end of a connection. ``peer`` is the other end."""

    peer: SimulatedTransport
    link: Link
    """On which what is written here travels."""

    def __init__(
        self, network: Network, host: str, name: str, local: Address, remote: Address, context: Context
    ) -> None:
        super().__init__({"peername": remote, "sockname": local, "socket": SimulatedSocket(local, remote)})
        self.network = network
        self.host = host
        self.name = name
        self.context = context
        self.owner: Owner | None = context.get(OWNER)
        self.silent = False  # what is written here vanishes, what comes is ignored
        self.mute = False  # what is written here vanishes
        self.is_client = False  # it connected; the other end accepted
        self.laboratory = False  # the test's own: no fault meets it
        self.framed = False  # who speaks the protocol asks for the faults of its frames, the network for none
        self.written = 0  # bytes, since the connection was made
        self._read = 0
        self._splits: deque[int] = deque()  # offsets in what comes here at which a read ends
        self._loop: DeterministicLoop = network.loop
        self._protocol: Any = None  # until the connection is made
        self._buffered = False
        self._out = bytearray()
        self.flight: deque[tuple[float, Segment]] = deque()  # on the link to the peer, in order
        self._flight_size = 0
        self._inbox = bytearray()
        self._reading = True
        self._protocol_paused = False
        self._high, self._low = HIGH_WATER, HIGH_WATER // 4
        self._closing = False
        self._lost = False
        self._eof_wanted = False  # write_eof was called
        self._fin_sent = False
        self._fin: BaseException | bool | None = None  # what ends our inbox: True for EOF, an error for a reset
        self._fin_seen = False
        self._deliver_due = False
        self._on_lost: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        state = "closed" if self._lost else "closing" if self._closing else "open"
        return f"<SimulatedTransport {self.name} {state}>"

    # -- asyncio's surface --------------------------------------------------------------------------------------------

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def get_protocol(self) -> Any:
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        if not self._closing and not self._reading:
            self._reading = True
            self.schedule_delivery()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low
        self._tell_protocol()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        return len(self._out)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not isinstance(data, (bytes, bytearray, memoryview)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"data: expecting a bytes-like instance, got {type(data).__name__}")
        if self._eof_wanted:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not data or self._lost or self._closing or self.silent or self._is_fenced():
            return
        size = len(data)
        self.written += size
        if not (self._out or self._fin_sent or self._protocol_paused) and size <= min(MAX_READ, self._room()):
            self._put(bytes(data))  # mostly all of it leaves at once
            return
        self._out += data
        self._pump()
        if self._out or self._protocol_paused:
            self._tell_protocol()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._closing and not self._eof_wanted and not self._is_fenced():
            self._eof_wanted = True
            self._pump()

    def close(self) -> None:
        if self._closing or self._is_fenced():
            return
        self._closing = True
        if not self._out:
            self._finish(None)

    def abort(self) -> None:
        if not self._is_fenced():
            # A closed socket sends FIN, unless there is something that nobody will read: then it sends RST.
            self.reset(None, to_peer=connection_reset() if self._inbox else True)

    def _is_fenced(self) -> bool:
        return self.owner is not None and not self.owner.alive

    # -- sending ------------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Move what the peer has room for onto the link."""
        while self._out and not self._fin_sent:
            room = self._room()
            if room <= 0:
                return
            self._put(_taken(self._out, min(MAX_READ, room)))
        if not self._out and not self._fin_sent:
            if self._closing:
                self._finish(None)
            elif self._eof_wanted:
                self._fin_sent = True
                self.network.send(self, True)

    def _room(self) -> int:
        """Bytes that the peer has room for beyond those under way."""
        return RECEIVE_BUFFER - len(self.peer._inbox) - self._flight_size

    def _put(self, segment: bytes) -> None:
        """Put ``segment``, for which there is room, onto the link."""
        self._flight_size += len(segment)
        self.network.send(self, segment)

    def arrive(self, segment: Segment) -> None:
        """In the peer's end: the link delivers ``segment`` from ``self.peer``."""
        if not isinstance(segment, bytes):
            if not self.silent and not self._lost and self._fin is None:
                self._fin = segment
                self.schedule_delivery()
            return
        self.peer._flight_size -= len(segment)
        if self.silent:
            return
        if self._closing:
            # Nobody will read it: the kernel answers data on a closed socket with a reset.
            self.network.send(self, connection_reset())
        elif not self._lost and self._fin is None:
            self._inbox += segment
            self.schedule_delivery()

    def _tell_protocol(self) -> None:
        size = len(self._out)
        if self._protocol_paused:
            if size <= self._low:
                self._protocol_paused = False
                self._protocol.resume_writing()
        elif size > self._high:
            self._protocol_paused = True
            self._protocol.pause_writing()

    # -- receiving ----------------------------------------------------------------------------------------------------

    def schedule_delivery(self) -> None:
        """Have the protocol given what has arrived, in the context of its owner."""
        if not self._deliver_due and not self._lost and (self._inbox or self._fin is not None):
            self._deliver_due = True
            self._loop.call_soon(self._deliver, context=self.context)

    def _deliver(self) -> None:
        self._deliver_due = False
        if self._lost or self.silent or self._protocol is None:
            return
        if isinstance(self._fin, BaseException) and not self._inbox:
            self._lose(self._fin)
            return
        if not self._reading or self._closing:
            return
        if self._inbox:
            size = min(len(self._inbox), self.peer.link.chunk or MAX_READ, MAX_READ)
            if self._splits:
                size = self._up_to_split(size)
            data = _taken(self._inbox, size)
            self._read += size
            self._give(data)
            if self.peer._out:
                self._loop.call_soon(self.peer._make_room, context=self.peer.context)
            self.schedule_delivery()
        elif self._fin is True and not self._fin_seen:
            self._fin_seen = True
            if not self._protocol.eof_received():
                self.close()

    def split_at(self, offsets: Iterable[int]) -> None:
        """Have reads at the other end stop at these ``offsets`` of all that is written here, each beyond the last."""
        self.peer._splits.extend(offsets)

    def _up_to_split(self, size: int) -> int:
        splits = self._splits
        while splits and splits[0] <= self._read:
            splits.popleft()
        return min(size, splits[0] - self._read) if splits else size

    def _give(self, data: bytes) -> None:
        if not self._buffered:
            self._protocol.data_received(data)
            return
        protocol = cast("asyncio.BufferedProtocol", self._protocol)
        while data:
            buffer = memoryview(protocol.get_buffer(len(data)))
            if not buffer:
                raise RuntimeError("get_buffer() returned an empty buffer")
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            protocol.buffer_updated(size)
            data = data[size:]

    def _make_room(self) -> None:
        if not self._lost:
            self._pump()
            if not self._closing:
                self._tell_protocol()

    # -- the end ------------------------------------------------------------------------------------------------------

    def _finish(self, error: BaseException | None) -> None:
        """Our side is done: tell the peer, then our protocol."""
        if not self._fin_sent and not self.silent:
            self._fin_sent = True
            self.network.send(self, True if error is None else error)
        self._closing = True
        self._loop.call_soon(self._lose, None, context=self.context)

    def reset(self, error: BaseException | None, *, to_peer: Segment | None) -> None:
        """Drop the connection: what has not left is lost. Our protocol gets ``error``, the peer ``to_peer`` if not None."""
        if self._lost:
            return
        self._closing = True
        self._out.clear()
        self._inbox.clear()
        if to_peer is not None and not self._fin_sent and not self.silent:
            self.network.send(self, to_peer)
        self._fin_sent = True
        self._loop.call_soon(self._lose, error, context=self.context)

    def break_off(self, error: BaseException) -> None:
        """The link broke under us: what arrived is still delivered, then ``error``."""
        if not self._lost and self._fin is None:
            self._out.clear()
            self._fin_sent = True
            self._fin = error
            self.schedule_delivery()

    def owner_died(self, how: str) -> None:
        """The process is gone; what its kernel had accepted still leaves."""
        self._out.clear()
        if how == "silent":
            self.silent = True
        elif not self._fin_sent:
            self._fin_sent = True
            self.network.send(self, True if how == "eof" else connection_reset())
        self._lost = self._closing = True
        self._lost_called()

    def _lose(self, error: BaseException | None) -> None:
        if self._lost:
            return
        self._lost = self._closing = True
        self._out.clear()
        try:
            if self._protocol is not None:
                self._protocol.connection_lost(error)
        finally:
            self._lost_called()

    def discard(self) -> None:
        """The run is over: be closed, without a word to anybody."""
        self._lost = self._closing = True
        self._on_lost.clear()
        self._protocol = None

    def when_lost(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when this end is gone."""
        self._on_lost.append(callback)

    def _lost_called(self) -> None:
        for callback in self._on_lost:
            callback()
        self._on_lost.clear()


def _taken(buffer: bytearray, size: int) -> bytes:
    """The first ``size`` bytes of ``buffer``, taken out of it."""
    if size >= len(buffer):
        data = bytes(buffer)
        buffer.clear()
    else:
        data = bytes(buffer[:size])
        del buffer[:size]
    return data
