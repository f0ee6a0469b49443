"""The broker's end of a connection on the wire, as a ``Line``: gathered writing, and the faults that befall bytes.

What is sent is gathered, and written at the end of the loop's round. A protocol's connection derives from it and says what
the bytes mean.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from factflow_infra_testing.search.network_faults import TO_CLIENT, splits

if TYPE_CHECKING:
    from factflow_infra_testing.broker.entries import Delivery
    from factflow_infra_testing.broker.server import SimulatedBroker


class WireLine(asyncio.Protocol):
    """One connection of a front end to ``server``. ``exposed=None``: as its owner in the simulation is."""

    def __init__(self, server: SimulatedBroker, *, exposed: bool | None, client: str) -> None:
        self.server = server
        self.client = client
        self.exposed = bool(exposed)
        self.outbox: list[tuple[Any, Delivery]] = []
        self.server_open = True
        self.cut = False
        self.hosts: tuple[str, str] | None = None
        self.divisible = True
        self._asked_exposed = exposed
        self._loop = server.loop
        self._transport: Any = None
        self._client_end: Any = None  # in the simulation: the other end of the connection
        self._client_there = True
        self._deaf = False  # nothing that the client sends gets here
        self._out: list[bytes] = []
        self._write_due = False
        self._floor = 0.0
        self._last_in = self._last_out = 0.0
        self._timers: list[asyncio.TimerHandle] = []

    # --- for the protocol -------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """The broker's side is over: what is unsettled goes back. Idempotent."""
        raise NotImplementedError

    def deliver(self, consumer: Any, delivery: Delivery) -> None:
        raise NotImplementedError

    def _gather(self) -> None:
        """Send what was put off until something is written."""

    def _client_name(self, transport: asyncio.BaseTransport) -> str:
        """What to call a client without an owner."""
        address = transport.get_extra_info("peername")
        if getattr(transport, "peer", None) is not None:
            return "test"
        return f"{address[0]}:{address[1]}" if address else "client"

    # --- the connection ---------------------------------------------------------------------------------------------

    def attach(self, transport: asyncio.BaseTransport) -> bool:
        """It is made. False where the broker is down and it has been broken at once."""
        self._transport = transport
        self._last_in = self._last_out = self._loop.time()
        peer = self._client_end = getattr(transport, "peer", None)
        owner = getattr(peer, "owner", None)
        if not self.client:
            self.client = owner.name if owner is not None else self._client_name(transport)
        self.exposed = owner is not None if self._asked_exposed is None else self._asked_exposed
        if peer is not None:
            self.hosts = (peer.host, cast("Any", transport).host)
        self.connection = self.server.broker.open_connection(self.client, laboratory=not self.exposed)
        self.server.attach(self)
        if peer is not None:
            peer.when_lost(self._client_gone)
            self._client_there = not peer.is_closing()  # it may have died before anybody was here to be told
        down = not self.server.host_is_up(self.hosts[1]) if self.hosts else self._loop.time() < self.server.up_at
        if self.exposed and down:
            self._break()
        return not self.cut

    def _later(self, seconds: float, callback: Any) -> None:
        self._timers.append(self._loop.call_later(seconds, callback, context=self.server.context))

    def put(self, data: bytes) -> None:
        """Add to what is being written."""
        self._out.append(data)

    def send(self, data: bytes) -> None:
        """Write at the end of the loop's round."""
        self._out.append(data)
        if not self._write_due:
            self._write_due = True
            self._loop.call_soon(self._write, context=self.server.context)

    def _write(self) -> None:
        now = self._loop.time()
        if now < self._floor:
            self._loop.call_at(self._floor, self._write, context=self.server.context)
            return
        self._write_due = False
        self._write_now()

    def _write_now(self) -> None:
        self._gather()
        out, self._out = self._out, []
        if out and not self._transport.is_closing():
            self._last_out = self._loop.time()
            self._transport.write(b"".join(out))

    # --- its end ----------------------------------------------------------------------------------------------------

    def _break(self) -> None:
        """Close the socket at once."""
        self._end()
        self.cut = True
        self._transport.abort()
        self._discard_if_done()

    def _client_gone(self) -> None:
        self._client_there = False
        self._discard_if_done()

    def _discard_if_done(self) -> None:
        if (not self.server_open and not self._client_there) or (self._client_end is None and not self.server_open):
            for timer in self._timers:
                timer.cancel()
            self._timers.clear()
            self.server.forget(self)

    # --- as a line of the simulated broker --------------------------------------------------------------------------

    @property
    def pending(self) -> str:
        told = self._under_way()
        if self._client_end is not None:
            if self.server_open and not self._client_there:
                told.append("a dead client that the broker has not noticed")
            elif not self.server_open or self.cut or self._out_of_touch():
                told.append("a loss that one end has not noticed")
        return f"{self.client}: {', '.join(told)}" if told else ""

    def _under_way(self) -> list[str]:
        return ["frames on the line"] if self._out else []

    def _out_of_touch(self) -> bool:
        return any(end.silent or end.mute for end in (self._client_end, self._transport))

    def deliver_half(self, consumer: Any, delivery: Delivery) -> None:
        self._write_now()
        self.deliver(consumer, delivery)
        frame = b"".join(self._out)
        self._out = [frame[: len(frame) // 2]]

    def deliver_split(self, consumer: Any, delivery: Delivery, choice: int) -> None:
        self._write_now()
        self.deliver(consumer, delivery)
        before = self._transport.written
        self._write_now()
        self._transport.split_at(before + offset for offset in splits(self._transport.written - before, choice))

    def hush(self, way: int) -> None:
        if self.cut:
            return
        self._write_now()
        self._deaf = way != TO_CLIENT
        self._transport.network.hush(self._transport, way)

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
        self._gather()
        self._out.clear()
        self._later(broker_after, self._give_up_client)
        self._later(client_after, self._let_client_know)

    def _give_up_client(self) -> None:
        self.server.advance()
        self._end()
        self.server.flush()
        self._discard_if_done()

    def _let_client_know(self) -> None:
        self._transport.abort()
        self._discard_if_done()

    def stall(self, seconds: float) -> None:
        """Nothing: a client that stands still sends no heartbeats, which is noticed here in time."""

    def kill(self, *, silent: bool) -> None:
        """Nothing: the network resets a dead client's connections, or has them fall silent."""
