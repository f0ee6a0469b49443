"""One STOMP connection, as a plain ``asyncio.Protocol``: login, heart-beats, errors; and the faults that befall it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from factflow_infra_testing.broker.outcomes import Outcome
from factflow_infra_testing.search.network_faults import BEFORE, INSIDE
from factflow_infra_testing.wire.line import WireLine
from factflow_infra_testing.wire.stomp.errors import MalformedError, StompError
from factflow_infra_testing.wire.stomp.frames import CONNECTING, Cutter, write
from factflow_infra_testing.wire.stomp.operations import named

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator, Sequence

    from factflow_infra_testing.broker.entries import Delivery
    from factflow_infra_testing.broker.sessions import Session
    from factflow_infra_testing.wire.stomp.frames import Frame
    from factflow_infra_testing.wire.stomp.frontend import StompFrontEnd
    from factflow_infra_testing.wire.stomp.login import Login
    from factflow_infra_testing.wire.stomp.sending import Applied
    from factflow_infra_testing.wire.stomp.subscriptions import Subscription

HEART_BEAT: Final = b"\n"


class StompConnection(WireLine):
    """The broker's end of a connection. A ``Line`` of the simulated broker; see there for what the faults ask of it."""

    def __init__(self, front_end: StompFrontEnd, *, exposed: bool | None = None, client: str = "") -> None:
        super().__init__(front_end.server, exposed=exposed, client=client)
        self.front_end = front_end
        self.dialect = front_end.dialect
        self.version = "1.2"
        self.client_id: str | None = None
        self.user = ""
        self.number = 0
        self.channel: Session | None = None
        """What all subscriptions have in common, where they do."""
        self.subscriptions: dict[str, Subscription] = {}
        self.transactions: dict[str, list[Any]] = {}
        """What waits for the end of its transaction, as the dialect notes it."""
        self.held: dict[str, tuple[Subscription, Delivery]] = {}
        """What is to be acked, by the id of its MESSAGE frame."""
        self._cutter = Cutter(
            drops_colons=self.dialect.drops_colons,
            most_headers=self.dialect.most_headers,
            longest_header=self.dialect.longest_header,
        )
        self._login: Login | None = None
        self.last_route: tuple[str, str | None] | None = None
        self._waiting: list[bytes] = []  # what came while the broker was away, or behind a frame that is late
        self._waiting_until = 0.0
        self._late: tuple[Frame, Iterator[Frame]] | None = None
        self._unconfirmed = 0
        self._finishing = False

    # --- asyncio's side ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.attach(transport):
            self._later(self.dialect.login_seconds + self.server.downtime, self._check_patience)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._last_in = now = self._loop.time()
        if self.cut or not self.server_open or self._finishing:
            return
        if data == HEART_BEAT and self._cutter.idle:
            return
        if now < self.server.up_at or self._waiting or self._late is not None:
            # The test's own connections outlive a restart: what they send waits for its end.
            if not self._waiting and self._late is None:
                self._loop.call_at(self.server.up_at, self._catch_up, context=self.server.context)
            self._waiting.append(data)
            return
        self._take(self._cutter.feed(data))

    def _catch_up(self) -> None:
        due = max(self.server.up_at, self._waiting_until)
        if self._loop.time() < due:
            self._loop.call_at(due, self._catch_up, context=self.server.context)
            return
        late, self._late = self._late, None
        if late is not None:
            self._take(late[1], late[0])
            if self._late is not None:
                return
        waiting, self._waiting = self._waiting, []
        if waiting and not self.cut and self.server_open and not self._finishing:
            self._take(self._cutter.feed(b"".join(waiting)))

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

    def _take(self, frames: Iterator[Frame], late: Frame | None = None) -> None:
        server = self.server
        server.advance()
        at_risk = self.exposed and server.frames_at_risk
        try:
            if late is not None and not self.cut and self.server_open:
                self._take_frame(late)
            for frame in frames:
                if self.cut or not self.server_open or self._finishing:
                    break
                lost_after = False
                if at_risk:
                    survives, lost_after = self._meet(frame, frames)
                    if not survives:
                        break
                self._take_frame(frame)
                if lost_after:
                    self.reset("connection reset by peer")
        except MalformedError as error:
            self._refuse(error, None)
        server.flush()

    def _meet(self, frame: Frame, rest: Iterator[Frame]) -> tuple[bool, bool]:
        """Whether a frame reaches the broker now, and whether it is the last one to do so."""
        operation, label = named(self, frame)
        if not operation:
            return True, False
        fate = self.server.meet_frame(self, operation, label)
        if fate.delay:
            self._late, self._waiting_until = (frame, rest), self._loop.time() + fate.delay
            self._loop.call_at(self._waiting_until, self._catch_up, context=self.server.context)
            return False, False
        if fate.loss in (BEFORE, INSIDE):  # half a frame is none
            self.reset("connection reset by peer")
            return False, False
        return not self._deaf, bool(fate.loss)

    def _take_frame(self, frame: Frame) -> None:
        try:
            if frame.command in CONNECTING:
                self._connect(frame)
            else:
                self._handler(frame)(self, frame)
        except StompError as error:
            self._refuse(error, frame)

    def _handler(self, frame: Frame) -> Callable[[StompConnection, Frame], None]:
        if self._login is None:
            raise self.dialect.stranger(frame.command)
        handler = self.dialect.handlers.get(frame.command)
        if handler is None:
            raise self.dialect.unknown(frame.command)
        return handler

    def _connect(self, frame: Frame) -> None:
        if self._login is not None and self.dialect.again is not None:
            raise self.dialect.again
        login = self.dialect.log_in(self, frame.headers)
        for timer in self._timers:  # of an earlier login
            timer.cancel()
        self._timers.clear()
        self._login = login
        self.version = self._cutter.version = login.version
        self.client_id = login.client_id
        self.user = frame.headers.get("login", next(iter(self.front_end.users)))
        self.number = self.front_end.new_number()
        headers = self.dialect.welcome(login, self.number, frame.headers.get("receipt"))
        self.send(write("CONNECTED", headers, version=login.version))
        if login.sends_every:
            self._later(login.sends_every, self._beat)
        if login.patience:
            self._later(login.patience, self._check_patience)

    def _check_patience(self) -> None:
        if self.cut or not self.server_open or self._transport.is_closing():
            return
        now = self._loop.time()
        patience = self.dialect.login_seconds if self._login is None else self._login.patience
        due = max(self._last_in, self.server.up_at) + patience
        if now < due:
            self._timers = [timer for timer in self._timers if timer.when() > now]
            self._later(due - now, self._check_patience)
            return
        self.server.advance()
        if not self.dialect.tells_silence:
            self._end()
            self._finish()
            self.server.flush()
            return
        text = f"AMQ229014: Did not receive data from {self.client} within the {patience * 1000:g}ms connection TTL."
        self._refuse(StompError(f"{text} The connection will now be closed."), None)
        self.server.flush()

    def _beat(self) -> None:
        if self.cut or not self.server_open or self._transport.is_closing() or self._login is None:
            return
        now = self._loop.time()
        if now - self._last_out >= self._login.sends_every / 2 and now >= self.server.up_at:
            self._last_out = now
            self._transport.write(HEART_BEAT)
        self._timers = [timer for timer in self._timers if timer.when() > now]
        self._later(self._login.sends_every, self._beat)

    # --- for the commands -------------------------------------------------------------------------------------------

    def receipt(self, frame: Frame) -> None:
        """Answer ``frame`` where it asked for that."""
        receipt = frame.headers.get("receipt")
        if receipt is not None:
            self.send(write("RECEIPT", [("receipt-id", receipt)], version=self.version))

    def publish(self, sendings: Sequence[Applied], label: str, frame: Frame) -> None:
        """Have the broker take messages, all of them at once, and answer ``frame``, unless a fault strikes."""

        def apply() -> Outcome:
            outcomes = [sending.apply(self) for sending in sendings]
            return Outcome.REFUSED if Outcome.REFUSED in outcomes else Outcome.ROUTED

        def confirm(outcome: Outcome) -> None:
            self._unconfirmed -= 1
            if self.cut or not self.server_open:
                return
            if outcome is Outcome.REFUSED:
                self._refuse(StompError(self.dialect.full.format(label)), frame)
            else:
                self.receipt(frame)

        self._unconfirmed += 1
        self.server.meet_publish(self, label, sendings[0].key, apply, confirm)

    def forget_held(self, ack_id: str, subscription: Subscription, deliveries: list[Delivery]) -> None:
        """``deliveries`` of ``subscription`` are settled, the last of them by ``ack_id``."""
        if len(deliveries) == 1:
            del self.held[ack_id]
            return
        tags = {delivery.tag for delivery in deliveries}
        self.held = {
            key: known for key, known in self.held.items() if known[0] is not subscription or known[1].tag not in tags
        }

    def end_subscription(self, subscription: Subscription, *, forget: bool = True) -> None:
        """What it holds goes back; a queue of its own goes with it. ``forget``: acking what it held is a mistake from now on."""
        del self.subscriptions[subscription.id]
        if forget:
            self.held = {key: known for key, known in self.held.items() if known[0] is not subscription}
        self.outbox = [item for item in self.outbox if item[0] is not subscription]
        broker = self.server.broker
        broker.close_session(subscription.session)
        if subscription.temporary:
            broker.delete_queue(subscription.queue)

    def tell_cancelled(self, name: str) -> None:
        """The queue behind the subscription ``name`` was deleted, by whomever."""
        if self.cut or not self.server_open or self._finishing:
            return
        text = f"The server has canceled a subscription.\nNo more messages will be delivered for \"id='{name}'\".\n"
        headers = [("message", "Server cancelled subscription"), ("subscription", name)]
        headers += self.dialect.error_headers(StompError(""), None, len(text))
        self.send(write("ERROR", headers, text.encode(), version=self.version))

    def say_goodbye(self) -> None:
        """The client has: what is unsettled goes back, and the connection ends when all is written."""
        self._end(goodbye=True)
        self._finish()

    def _refuse(self, error: StompError, frame: Frame | None) -> None:
        """Tell the client what is wrong, and mostly end the connection."""
        if self.cut or not self.server_open or self._finishing:
            return
        body = error.details.encode("utf-8", "replace")
        headers = [("message", error.message), *self.dialect.error_headers(error, frame, len(body))]
        self.send(write("ERROR", headers, body, version=self.version))
        if error.closes:
            self._end()
            self._finish()

    # --- the ends ---------------------------------------------------------------------------------------------------

    def _end(self, *, goodbye: bool = False) -> None:
        """The broker's side is over: what is unsettled goes back. Idempotent."""
        if self.server_open:
            self.server_open = False
            self.subscriptions.clear()
            self.transactions.clear()
            self.held.clear()
            self.outbox.clear()
            self._cutter.clear()
            if self.dialect.ended is not None:
                self.dialect.ended(self)
            self.server.broker.close_connection(self.connection, goodbye=goodbye)

    def _finish(self) -> None:
        """Close the socket, after all that is still to be written."""
        self._finishing = True
        self._write_now()
        self._transport.close()
        self._discard_if_done()

    # --- as a line of the simulated broker --------------------------------------------------------------------------

    def _under_way(self) -> list[str]:
        told: list[str] = []
        if self._unconfirmed and self.server_open:
            told.append(f"{self._unconfirmed} messages without an answer")
        if self._out or self._waiting or self._late is not None:
            told.append("frames on the line")
        return told

    def deliver(self, consumer: Subscription, delivery: Delivery) -> None:
        if self.server_open and not self._finishing:
            self.send(consumer.frame(delivery))
