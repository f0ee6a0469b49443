"""One AMQP connection, as a plain ``asyncio.Protocol``: login, channels, heartbeats, errors; and the faults that befall it.

What is sent is gathered, and written at the end of the loop's round. Nothing here looks at a clock but the loop's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pamqp import commands
from pamqp.commands import Channel as ChannelMethods
from pamqp.commands import Connection as ConnectionMethods

from factflow_infra_testing.search.network_faults import BEFORE, INSIDE
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
from factflow_infra_testing.wire.amqp.operations import named
from factflow_infra_testing.wire.line import WireLine

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from factflow_infra_testing.broker.entries import Delivery
    from factflow_infra_testing.wire.amqp.channel import ChannelConsumer
    from factflow_infra_testing.wire.amqp.frontend import AmqpFrontEnd

CLOSE_SECONDS: Final = 10.0
"""How long the broker waits for the client's answer when it closes the connection."""
HANDSHAKE_SECONDS: Final = 10.0
_MISSED_HEARTBEATS: Final = 2
_NO_METHOD: Final = (0, 0)


@dataclass(frozen=True, slots=True)
class LateFrame:
    """A method that arrives later than it was sent, and the frames behind it."""

    channel: int
    index: int
    method: Any
    rest: Iterator[tuple[int, int, bytes]]


class AmqpConnection(WireLine):
    """The broker's end of a connection. A ``Line`` of the simulated broker; see there for what the faults ask of it."""

    def __init__(self, front_end: AmqpFrontEnd, *, exposed: bool | None = None, client: str = "") -> None:
        super().__init__(front_end.server, exposed=exposed, client=client)
        self.front_end = front_end
        self.frame_max = FRAME_MAX
        self.user = ""
        self._channel_max = CHANNEL_MAX
        self.wants_cancel = False
        self.channels: dict[int, Channel] = {}
        self._cutter = Cutter(FRAME_MAX)
        self._started = False
        self._head = b""
        self._held: list[bytes] = []
        self._held_until = 0.0
        self._late: LateFrame | None = None
        self._lost_after = 0  # the channel whose frame is the last one to arrive
        self._handshake: Handshake | None = Handshake(self)
        self._closing = False
        self._owing: dict[Channel, None] = {}
        self._heartbeat = 0.0
        self._consumers = 0

    # --- asyncio's side ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.attach(transport):
            self._later(HANDSHAKE_SECONDS + self.server.downtime, self._handshake_overdue)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._last_in = now = self._loop.time()
        if self.cut or not self.server_open:
            return
        if data == HEARTBEAT_FRAME and self._started and self._cutter.idle:
            return
        if now < self.server.up_at or self._held or self._late is not None:
            # The test's own connections outlive a restart: what they send waits for its end.
            if not self._held and self._late is None:
                self._loop.call_at(self.server.up_at, self._catch_up, context=self.server.context)
            self._held.append(data)
            return
        self._take(data)

    def _catch_up(self) -> None:
        due = max(self.server.up_at, self._held_until)
        if self._loop.time() < due:
            self._loop.call_at(due, self._catch_up, context=self.server.context)
            return
        late, self._late = self._late, None
        if late is not None:
            self._take_frames(late.rest, late)
            if self._late is not None:
                return
        held, self._held = self._held, []
        if held and not self.cut and self.server_open:
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
        self._take_frames(self._cutter.feed(data))

    def _take_frames(self, frames: Iterator[tuple[int, int, bytes]], late: LateFrame | None = None) -> None:
        server = self.server
        server.advance()
        at_risk = self.exposed and server.frames_at_risk
        method = _NO_METHOD
        try:
            if late is not None and not self.cut and self.server_open:
                method = (late.index >> 16, late.index & 0xFFFF)
                self._take_method(late.channel, late.index, late.method)
            for kind, channel, payload in frames:
                if self.cut or not self.server_open:
                    break
                method = _NO_METHOD
                if kind == METHOD:
                    index, decoded = read_method(payload)
                    method = (index >> 16, index & 0xFFFF)
                    if at_risk and not self._survives(LateFrame(channel, index, decoded, frames)):
                        break
                    self._take_method(channel, index, decoded)
                else:
                    self._take_other(kind, channel, payload)
                if self._lost_after and not self._half_published(self._lost_after):
                    self.reset("connection reset by peer")
        except ConnectionFailedError as error:
            self.close_with(error, method)
        server.flush()

    def _survives(self, frame: LateFrame) -> bool:
        """Whether a frame reaches the broker now. One that is late is taken up again by ``_catch_up``."""
        channel = self.channels.get(frame.channel)
        if channel is None or channel.closing or self._closing:
            return True
        operation, label = named(channel, frame.index, frame.method)
        if not operation:
            return True
        fate = self.server.meet_frame(self, operation, label)
        if fate.delay:
            self._late, self._held_until = frame, self._loop.time() + fate.delay
            self._loop.call_at(self._held_until, self._catch_up, context=self.server.context)
            return False
        if fate.loss in (BEFORE, INSIDE):  # half a frame is none
            self.reset("connection reset by peer")
            return False
        if fate.loss:
            self._lost_after = frame.channel
        return not self._deaf

    def _half_published(self, number: int) -> bool:
        channel = self.channels.get(number)
        return channel is not None and channel.publishing.under_way

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
                channel.publishing.take_header(payload)
            elif kind == BODY:
                channel.publishing.take_body(payload)
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

    def new_consumer_tag(self) -> str:
        """A consumer tag for a client that chose none."""
        self._consumers += 1
        return f"amq.ctag-{self._consumers:022d}"

    # --- sending ----------------------------------------------------------------------------------------------------

    def owe_acks(self, channel: Channel) -> None:
        """``channel`` has acks to send, which come after all that is written by then."""
        self._owing[channel] = None
        if not self._write_due:
            self._write_due = True
            self._loop.call_soon(self._write, context=self.server.context)

    def _gather(self) -> None:
        owing, self._owing = self._owing, {}
        for channel in owing:
            channel.publishing.flush_acks()

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
            channel.publishing.flush_acks()
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

    # --- as a line of the simulated broker --------------------------------------------------------------------------

    def _under_way(self) -> list[str]:
        told: list[str] = []
        unanswered = sum(channel.publishing.unconfirmed for channel in self.channels.values())
        if unanswered:
            told.append(f"{unanswered} publishes without an answer")
        if self._out or self._held or self._late is not None:
            told.append("frames on the line")
        return told

    def deliver(self, consumer: ChannelConsumer, delivery: Delivery) -> None:
        channel = consumer.channel
        if self.server_open and not self._closing and not channel.closing:
            channel.deliver(consumer, delivery)
