"""One Pulsar connection, as a plain ``asyncio.Protocol``: frames in and out, pings, and the ways it fails.

What is sent is gathered, and written at the end of the loop's round. Frames that cannot be read close the connection, as a
real broker does. Nothing here looks at a clock but the loop's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from factflow_infra_testing.wire.pulsar.frames import Cutter, read_content, write_frame
from factflow_infra_testing.wire.pulsar.protobuf import DecodeError
from factflow_infra_testing.wire.pulsar.session import ProtocolViolationError, PulsarSession

if TYPE_CHECKING:
    from collections.abc import Mapping

    from factflow_infra_testing.broker.entries import Delivery
    from factflow_infra_testing.broker.server import SimulatedBroker
    from factflow_infra_testing.wire.pulsar.consuming import PulsarConsumer
    from factflow_infra_testing.wire.pulsar.frames import Content
    from factflow_infra_testing.wire.pulsar.frontend import PulsarFrontEnd

KEEP_ALIVE: Final = 30.0
"""Seconds between pings, and as many for the answer."""


class PulsarConnection(asyncio.Protocol):
    """The broker's end of a connection. A ``Line`` of the simulated broker; see there for what the faults ask of it."""

    def __init__(self, front_end: PulsarFrontEnd, *, exposed: bool) -> None:
        self.front_end = front_end
        self.server: SimulatedBroker = front_end.server
        self.client = ""
        self.url = ""
        self.exposed = exposed
        self.outbox: list[tuple[PulsarConsumer, Delivery]] = []
        self.server_open = True
        self.cut = False
        self.hosts: tuple[str, str] | None = None  # real sockets: no network of a simulation to strike
        self.divisible = False
        self._loop = self.server.loop
        self._transport: Any = None
        self._cutter = Cutter()
        self._out: list[bytes] = []
        self._write_due = False
        self._floor = 0.0
        self._heard = True
        self._timers: dict[asyncio.TimerHandle, None] = {}

    # --- asyncio's side ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        address = transport.get_extra_info("peername")
        self.client = f"{address[0]}:{address[1]}" if address else "client"
        here = transport.get_extra_info("sockname") or ("localhost", 0)
        self.url = f"pulsar://[{here[0]}]:{here[1]}" if ":" in here[0] else f"pulsar://{here[0]}:{here[1]}"
        self.connection = self.server.broker.open_connection(self.client, laboratory=not self.exposed)
        self.session = PulsarSession(self.front_end, self)
        self.server.attach(self)
        if self.front_end.down:
            self._break()
            return
        self._later(KEEP_ALIVE, self._beat)

    def data_received(self, data: bytes) -> None:
        self._heard = True
        if self.cut or not self.server_open:
            return
        server = self.server
        server.advance()
        try:
            for name, fields, rest in self._cutter.feed(data):
                content = read_content(rest) if name == "send" else None
                self.session.take(name, fields, content)
                if self.cut or not self.server_open:
                    break
        except (DecodeError, ProtocolViolationError):
            self._break()
        server.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.server.advance()
        self._end()
        self.server.flush()

    def pause_writing(self) -> None:
        # A client that does not read what it asked for may not ask for more: what waits for it here stays bounded.
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    # --- pings ------------------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        if not self.server_open or self.cut:
            return
        if not self._heard:
            self.server.advance()
            self._break()
            self.server.flush()
            return
        self._heard = False
        self.send("ping", {})
        self._later(KEEP_ALIVE, self._beat)

    def _later(self, seconds: float, callback: Any, *arguments: Any) -> None:
        now = self._loop.time()
        for timer in [timer for timer in self._timers if timer.when() <= now]:
            del self._timers[timer]
        self._timers[self._loop.call_later(seconds, callback, *arguments, context=self.server.context)] = None

    # --- sending ----------------------------------------------------------------------------------------------------

    def send(self, name: str, fields: Mapping[str, Any], content: Content | None = None) -> None:
        """Write a command at the end of the loop's round."""
        if self.cut or not self.server_open:
            return
        self._out.append(write_frame(name, fields, b"" if content is None else content.raw))
        if not self._write_due:
            self._write_due = True
            self._loop.call_soon(self._write, context=self.server.context)

    def _write(self) -> None:
        if self._loop.time() < self._floor:
            self._loop.call_at(self._floor, self._write, context=self.server.context)
            return
        self._write_due = False
        self._write_now()

    def _write_now(self) -> None:
        out, self._out = self._out, []
        if out and not self._transport.is_closing():
            self._transport.write(b"".join(out))

    def hang_up(self) -> None:
        """Close the connection, after what was sent."""
        self._write_now()
        self._end()
        self._transport.close()

    # --- the ends ---------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """The broker's side is over: what is unsettled goes back. Idempotent."""
        if self.server_open:
            self.server_open = False
            self.outbox.clear()
            self._out.clear()
            self.session.end()
            for timer in self._timers:
                timer.cancel()
            self._timers.clear()
            self.server.forget(self)

    def _break(self) -> None:
        """Close the socket at once."""
        self._end()
        self.cut = True
        self._transport.abort()

    # --- as a line of the simulated broker --------------------------------------------------------------------------

    @property
    def pending(self) -> str:
        if self.session.unconfirmed:
            return f"{self.client}: {self.session.unconfirmed} publishes without an answer"
        return f"{self.client}: frames on the line" if self._out else ""

    def deliver(self, consumer: PulsarConsumer, delivery: Delivery) -> None:
        self.session.consumers.deliver(consumer, delivery)

    def deliver_half(self, consumer: PulsarConsumer, delivery: Delivery) -> None:
        """Nothing: half a frame is none."""

    def deliver_split(self, consumer: PulsarConsumer, delivery: Delivery, choice: int) -> None:
        del choice
        self.deliver(consumer, delivery)

    def hush(self, way: int) -> None:
        del way
        self.fall_silent(broker_after=KEEP_ALIVE, client_after=KEEP_ALIVE)

    def delay_down(self, seconds: float) -> None:
        self._write_now()
        self._floor = max(self._floor, self._loop.time() + seconds)

    def reset(self, reason: str) -> None:
        del reason
        if not self.cut:
            self._write_now()
            self._break()

    def fall_silent(self, *, broker_after: float, client_after: float, keep_sent: bool = False) -> None:
        if self.cut:
            return
        if keep_sent:
            self._write_now()
        self.cut = True
        self._out.clear()
        self._later(broker_after, self._give_up_client)
        self._loop.call_later(client_after, self._transport.abort, context=self.server.context)

    def _give_up_client(self) -> None:
        self.server.advance()
        self._end()
        self.server.flush()

    def stall(self, seconds: float) -> None:
        """Nothing: a client that stands still answers no ping, which is noticed here in time."""

    def kill(self, *, silent: bool) -> None:
        """Nothing: the operating system resets a dead client's connections."""
