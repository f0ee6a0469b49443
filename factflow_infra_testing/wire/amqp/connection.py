"""One AMQP connection, as a plain ``asyncio.Protocol``: login, channels, heartbeats, errors; and the faults that befall it.

What is sent is gathered, and written at the end of the loop's round. Nothing here looks at a clock but the loop's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from pamqp import commands
from pamqp.commands import Channel as ChannelMethods
from pamqp.commands import Connection as ConnectionMethods

from factflow_infra_testing.wire.amqp.channel import Channel
from factflow_infra_testing.wire.amqp.errors import (
    CHANNEL_ERROR,
    COMMAND_INVALID,
    UNEXPECTED_FRAME,
    AmqpError,
    ChannelError,
    ConnectionFailedError,
)
from factflow_infra_testing.wire.amqp.frames import (
    BODY,
    HEADER,
    HEARTBEAT,
    HEARTBEAT_FRAME,
    METHOD,
    PROTOCOL_HEADER,
    Cutter,
    read_method,
    write_method,
)
from factflow_infra_testing.wire.amqp.handshake import CHANNEL_MAX, FRAME_MAX, Handshake

if TYPE_CHECKING:
    from factflow_infra_testing.broker.entries import Delivery
    from factflow_infra_testing.broker.server import SimulatedBroker
    from factflow_infra_testing.wire.amqp.channel import ChannelConsumer
    from factflow_infra_testing.wire.amqp.frontend import AmqpFrontEnd

CLOSE_SECONDS: Final = 10.0
"""How long the broker waits for the client's answer when it closes the connection."""
HANDSHAKE_SECONDS: Final = 10.0
_MISSED_HEARTBEATS: Final = 2
_NO_METHOD: Final = (0, 0)


class AmqpConnection(asyncio.Protocol):
    """The broker's end of a connection. A ``Line`` of the simulated broker; see there for what the faults ask of it."""

    def __init__(self, front_end: AmqpFrontEnd, *, exposed: bool | None = None, client: str = "") -> None:
        self.front_end = front_end
        self.server: SimulatedBroker = front_end.server
        self.client = client
        self.exposed = bool(exposed)
        self.outbox: list[tuple[ChannelConsumer, Delivery]] = []
        self.server_open = True
        self.cut = False
        self.frame_max = FRAME_MAX
        self.user = ""
        self._channel_max = CHANNEL_MAX
        self.wants_cancel = False
        self.channels: dict[int, Channel] = {}
        self._asked_exposed = exposed
        self._loop = self.server.loop
        self._transport: Any = None
        self._client_end: Any = None  # in the simulation: the other end of the connection
        self._client_there = True
        self._cutter = Cutter(FRAME_MAX)
        self._started = False
        self._head = b""
        self._held: list[bytes] = []
        self._handshake: Handshake | None = Handshake(self)
        self._closing = False
        self._out: list[bytes] = []
        self._owing: dict[Channel, None] = {}
        self._write_due = False
        self._floor = 0.0
        self._heartbeat = 0.0
        self._last_in = self._last_out = 0.0
        self._timers: list[asyncio.TimerHandle] = []
        self._consumers = 0

    # --- asyncio's side ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._last_in = self._last_out = self._loop.time()
        peer = self._client_end = getattr(transport, "peer", None)
        owner = getattr(peer, "owner", None)
        if not self.client:
            self.client = owner.name if owner is not None else self.front_end.client_name(transport)
        self.exposed = owner is not None if self._asked_exposed is None else self._asked_exposed
        self.connection = self.server.broker.open_connection(self.client, laboratory=not self.exposed)
        self.server.attach(self)
        if peer is not None:
            peer.when_lost(self._client_gone)
            self._client_there = not peer.is_closing()  # it may have died before anybody was here to be told
        if self.exposed and self.front_end.down:
            self._break()
            return
        self._later(HANDSHAKE_SECONDS + self.server.downtime, self._handshake_overdue)

    def data_received(self, data: bytes) -> None:
        self._last_in = now = self._loop.time()
        if self.cut or not self.server_open:
            return
        if now < self.server.up_at or self._held:
            # The test's own connections outlive a restart: what they send waits for its end.
            if not self._held:
                self._loop.call_at(self.server.up_at, self._catch_up, context=self.server.context)
            self._held.append(data)
            return
        self._take(data)

    def _catch_up(self) -> None:
        if self._loop.time() < self.server.up_at:
            self._loop.call_at(self.server.up_at, self._catch_up, context=self.server.context)
            return
        held, self._held = self._held, []
        if not self.cut and self.server_open:
            self._take(b"".join(held))

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._client_end is None:
            self._client_there = False
        if not self.cut:
            self.server.advance()
            self._end()
            self.server.flush()
        self._discard_if_done()

    def pause_writing(self) -> None:
        # A client that does not read what it asked for may not ask for more: what waits for it here stays bounded.
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    # --- what arrives -----------------------------------------------------------------------------------------------

    def _take(self, data: bytes) -> None:
        if not self._started:
            self._head += data
            if len(self._head) < len(PROTOCOL_HEADER) and PROTOCOL_HEADER.startswith(self._head):
                return
            head, data = self._head[: len(PROTOCOL_HEADER)], self._head[len(PROTOCOL_HEADER) :]
            self._head = b""
            if head != PROTOCOL_HEADER:
                self.send(PROTOCOL_HEADER)  # the version that the broker speaks, and goodbye
                self._finish()
                return
            self._started = True
            assert self._handshake is not None
            self._handshake.start()
        server = self.server
        server.advance()
        method = _NO_METHOD
        try:
            for kind, channel, payload in self._cutter.feed(data):
                method = _NO_METHOD
                if kind == METHOD:
                    index, decoded = read_method(payload)
                    method = (index >> 16, index & 0xFFFF)
                    self._take_method(channel, index, decoded)
                else:
                    self._take_other(kind, channel, payload)
                if self.cut or not self.server_open:
                    break
        except ConnectionFailedError as error:
            self.close_with(error, method)
        server.flush()

    def _take_method(self, number: int, index: int, method: Any) -> None:
        if self._closing:
            if index == ConnectionMethods.CloseOk.index:
                self._finish()
            elif index == ConnectionMethods.Close.index:
                self.send(write_method(0, ConnectionMethods.CloseOk()))
            return
        if number == 0:
            self._take_connection_method(index, method)
            return
        channel = self._channel_for(number, index)
        if channel is None:
            return
        if channel.closing:
            if index == ChannelMethods.CloseOk.index:
                del self.channels[number]
            elif index == ChannelMethods.Close.index:
                self.send(write_method(number, ChannelMethods.CloseOk()))
                del self.channels[number]
            return
        if index == ChannelMethods.Close.index:
            channel.end()
            del self.channels[number]
            self.send(write_method(number, ChannelMethods.CloseOk()))
            return
        try:
            channel.take_method(index, method)
        except ChannelError as error:
            self._close_channel(channel, error, (index >> 16, index & 0xFFFF))

    def _channel_for(self, number: int, index: int) -> Channel | None:
        if self._handshake is not None:
            raise ConnectionFailedError(COMMAND_INVALID, "a channel before the connection is open")
        channel = self.channels.get(number)
        if channel is not None:
            return channel
        if index != ChannelMethods.Open.index:
            if index == ChannelMethods.CloseOk.index:
                return None
            raise ConnectionFailedError(CHANNEL_ERROR, "expected 'channel.open'")
        if number > self._channel_max:
            raise ConnectionFailedError(
                CHANNEL_ERROR, f"channel {number} is above the negotiated channel_max ({self._channel_max})"
            )
        self.channels[number] = Channel(self, number)
        self.send(write_method(number, ChannelMethods.OpenOk()))
        return None

    def _take_connection_method(self, index: int, method: Any) -> None:
        if index == ConnectionMethods.Close.index:
            self._end()
            self.send(write_method(0, ConnectionMethods.CloseOk()))
            self._finish()
        elif self._handshake is not None:
            self._handshake.take(index, method)
        else:
            raise ConnectionFailedError(COMMAND_INVALID, f"{method.name} is not for an open connection")

    def _take_other(self, kind: int, number: int, payload: bytes) -> None:
        if kind == HEARTBEAT or self._closing:
            return
        channel = self.channels.get(number)
        if channel is None or self._handshake is not None:
            raise ConnectionFailedError(UNEXPECTED_FRAME, "expected method frame, got content frame instead")
        if channel.closing:
            return
        try:
            if kind == HEADER:
                channel.take_header(payload)
            elif kind == BODY:
                channel.take_body(payload)
        except ChannelError as error:
            basic_publish = (commands.Basic.frame_id, commands.Basic.Publish.index & 0xFFFF)
            self._close_channel(channel, error, basic_publish)

    # --- opening ----------------------------------------------------------------------------------------------------

    def opened(self, *, frame_max: int, heartbeat: float, channel_max: int) -> None:
        """The client has logged in."""
        self._handshake = None
        self.frame_max = self._cutter.frame_max = frame_max
        self._channel_max = channel_max
        self._heartbeat = heartbeat
        if heartbeat:
            self._later(heartbeat / 2, self._beat)

    def _handshake_overdue(self) -> None:
        if self._handshake is not None and not self.cut:
            self._break()

    def _beat(self) -> None:
        if not self.server_open or self.cut or self._transport.is_closing():
            return
        now = self._loop.time()
        if now - self._last_in >= _MISSED_HEARTBEATS * self._heartbeat and now >= self.server.up_at:
            self.server.advance()
            self._break()
            self.server.flush()
            return
        if now - self._last_out >= self._heartbeat / 2:
            self._last_out = now
            self._transport.write(HEARTBEAT_FRAME)
        self._timers = [timer for timer in self._timers if timer.when() > now]
        self._later(self._heartbeat / 2, self._beat)

    def _later(self, seconds: float, callback: Any) -> None:
        self._timers.append(self._loop.call_later(seconds, callback, context=self.server.context))

    def new_consumer_tag(self) -> str:
        """A consumer tag for a client that chose none."""
        self._consumers += 1
        return f"amq.ctag-{self._consumers:022d}"

    # --- sending ----------------------------------------------------------------------------------------------------

    def put(self, data: bytes) -> None:
        """Add to what is being written."""
        self._out.append(data)

    def send(self, data: bytes) -> None:
        """Write at the end of the loop's round."""
        self._out.append(data)
        if not self._write_due:
            self._write_due = True
            self._loop.call_soon(self._write, context=self.server.context)

    def owe_acks(self, channel: Channel) -> None:
        """``channel`` has acks to send, which come after all that is written by then."""
        self._owing[channel] = None
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
        owing, self._owing = self._owing, {}
        for channel in owing:
            channel.flush_acks()
        out, self._out = self._out, []
        if out and not self._transport.is_closing():
            self._last_out = self._loop.time()
            self._transport.write(b"".join(out))

    # --- the ends ---------------------------------------------------------------------------------------------------

    def _close_channel(self, channel: Channel, error: AmqpError, method: tuple[int, int]) -> None:
        channel.end()
        channel.closing = True
        self.send(write_method(channel.number, ChannelMethods.Close(error.code, error.reply_text, *method)))

    def close_with(self, error: AmqpError, method: tuple[int, int] = _NO_METHOD) -> None:
        """Tell the client why, and end all that it has."""
        if self._closing or self.cut or not self.server_open:
            return
        self._end_session()
        self._closing = True
        self.send(write_method(0, ConnectionMethods.Close(error.code, error.reply_text, *method)))
        self._later(CLOSE_SECONDS, self._finish)

    def _end_session(self) -> None:
        for channel in self.channels.values():
            channel.flush_acks()
        self.channels.clear()
        self.outbox.clear()
        self.server.broker.close_connection(self.connection)

    def _end(self) -> None:
        """The broker's side is over: what is unsettled goes back. Idempotent."""
        if self.server_open:
            self._end_session()
            self.server_open = False

    def _finish(self) -> None:
        """Close the socket, after all that is still to be written."""
        self._end()
        self._write_now()
        self._transport.close()

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
        told: list[str] = []
        unanswered = sum(channel.unconfirmed for channel in self.channels.values())
        if unanswered:
            told.append(f"{unanswered} publishes without an answer")
        if self._out or self._held:
            told.append("frames on the line")
        if self._client_end is not None:
            if self.server_open and not self._client_there:
                told.append("a dead client that the broker has not noticed")
            elif not self.server_open or self.cut or self._client_end.silent or self._transport.silent:
                told.append("a loss that one end has not noticed")
        return f"{self.client}: {', '.join(told)}" if told else ""

    def deliver(self, consumer: ChannelConsumer, delivery: Delivery) -> None:
        channel = consumer.channel
        if self.server_open and not self._closing and not channel.closing:
            channel.deliver(consumer, delivery)

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
        self._owing.clear()
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
