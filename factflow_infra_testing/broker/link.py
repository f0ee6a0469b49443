"""A client's connection to the simulated broker, on the model tier: what each of its two ends does.

What a client sent before it died still arrives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from factflow_infra.errors import (
    PublishRefusedError,
    PublishUnconfirmedError,
    QueueConnectionError,
    TopologyMismatchError,
    UnroutableError,
)
from factflow_infra_testing.broker.errors import RefusalCode, RefusedError
from factflow_infra_testing.broker.lanes import Lanes
from factflow_infra_testing.broker.outcomes import Outcome

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from factflow_infra_testing.broker.addresses import Place
    from factflow_infra_testing.broker.entries import Delivery, Message
    from factflow_infra_testing.broker.server import SimulatedBroker
    from factflow_infra_testing.broker.sessions import Consumer, Session


class Publish:
    """A publish on its way: ``future`` is done when its outcome is known."""

    __slots__ = ("delay", "future", "message", "place")

    def __init__(self, place: Place, message: Message, delay: float, future: asyncio.Future[None]) -> None:
        self.place = place
        self.message = message
        self.delay = delay
        self.future = future


class LinkConsumer:
    """A consumer as both ends see it. The client's end calls ``on_delivery`` and ``on_cancelled``."""

    __slots__ = ("consumer", "link", "on_cancelled", "on_delivery", "open", "place", "prefetch", "session")

    def __init__(
        self,
        link: Link,
        place: Place,
        prefetch: int,
        on_delivery: Callable[[Delivery], None],
        on_cancelled: Callable[[Exception | None], None],
    ) -> None:
        self.link = link
        self.place = place
        self.prefetch = prefetch
        self.on_delivery = on_delivery
        self.on_cancelled = on_cancelled
        self.session: Session | None = None
        self.consumer: Consumer | None = None
        self.open = True  # at the client

    def deliver(self, delivery: Delivery) -> None:
        """Called in the middle of the broker's work: note it for the flush that follows."""
        link = self.link
        if not link.outbox:
            link.server.dirty.append(link)
        link.outbox.append((self, delivery))

    def cancelled(self) -> None:
        self.link.send_down(self._tell_cancelled, None)

    def _tell_cancelled(self, _: None) -> None:
        if self.open:
            self.open = False
            self.on_cancelled(QueueConnectionError(f"The broker ended the consumer of {self.place.label!r}."))


class Link(Lanes):
    """One connection. ``exposed``: it meets the faults of this run; else it belongs to the test itself.

    The client's end raises ``QueueConnectionError`` once it knows that the connection is gone. ``on_lost`` is called
    once, when it is lost and was not closed.
    """

    def __init__(
        self,
        server: SimulatedBroker,
        client: str,
        *,
        exposed: bool,
        on_lost: Callable[[Exception | None], None],
        hosts: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(server, exposed=exposed, hosts=hosts or ("localhost", server.hosts[0]))
        self.client = client
        self.connection = server.broker.open_connection(client, laboratory=not exposed)
        self.outbox = []
        self._on_lost = on_lost
        self._publishes: dict[Publish, object] = {}
        self._calls: dict[asyncio.Future[None], object] = {}

    # --- the client's end -------------------------------------------------------------------------------------------

    def publish(self, place: Place, message: Message, delay: float) -> asyncio.Future[None]:
        """Send a message; the future has its confirm, or the error."""
        self._check_open()
        publish = Publish(place, message, delay, self.loop.create_future())
        self._publishes[publish] = None
        self._send_up(self._arrive_publish, publish)
        return publish.future

    def consume(self, consumer: LinkConsumer) -> asyncio.Future[None]:
        """Start consuming; the future is done when the broker said so."""
        return self._call(self._arrive_consume, consumer)

    def cancel(self, consumer: LinkConsumer) -> asyncio.Future[None]:
        """Ask for no more deliveries; what is held stays ackable."""
        return self._call(self._arrive_cancel, consumer)

    def end(self, consumer: LinkConsumer) -> asyncio.Future[None]:
        """Cancel, and give back what is unsettled."""
        return self._call(self._arrive_end, consumer)

    def ack(self, delivery: Delivery) -> None:
        self._check_open()
        self._send_up(self._arrive_ack, delivery)

    def release(self, delivery: Delivery) -> None:
        self._check_open()
        self._send_up(self._arrive_release, delivery)

    def close(self) -> asyncio.Future[None]:
        """Say goodbye; the future is done when the broker answered. The client's end is closed at once."""
        future = self._call(self._arrive_close, None)
        self._end_client(QueueConnectionError("The connection was closed."), spare=future)
        return future

    def _check_open(self) -> None:
        if not self.client_open:
            raise QueueConnectionError("The connection to the broker is gone.")

    def _call(self, arrive: Callable[[tuple[Any, asyncio.Future[None]]], None], subject: Any) -> asyncio.Future[None]:
        self._check_open()
        future: asyncio.Future[None] = self.loop.create_future()
        self._calls[future] = None
        self._send_up(arrive, (subject, future))
        return future

    def _end_client(self, error: QueueConnectionError, *, spare: asyncio.Future[None] | None = None) -> None:
        self.client_open = False
        publishes, self._publishes = self._publishes, {}
        for publish in publishes:
            if not publish.future.done():
                publish.future.set_exception(
                    PublishUnconfirmedError(
                        f"The connection was lost before {publish.place.label!r} confirmed message "
                        f"{publish.message.key!r}: it may have been taken. Publishing it again may make a copy."
                    )
                )
        calls, self._calls = self._calls, {}
        for future in calls:
            if future is spare:
                self._calls[future] = None
            elif not future.done():
                future.set_exception(error)

    def _notice_loss(self, reason: str) -> None:
        """The client finds out."""
        if self.client_open:
            error = QueueConnectionError(f"The connection to the broker was lost: {reason}.")
            self._end_client(error)
            self._on_lost(error)
        self.settle_calls()
        self._discard_if_ended()

    def settle_calls(self) -> None:
        """What still waits for an answer, a goodbye, waits no longer."""
        calls, self._calls = self._calls, {}
        for future in calls:
            if not future.done():
                future.set_result(None)

    # --- the broker's end -------------------------------------------------------------------------------------------

    def _arrive_publish(self, publish: Publish) -> None:
        self.server.take_publish(self, publish)

    def _arrive_ack(self, delivery: Delivery) -> None:
        self.server.take_ack(self, delivery)

    def _arrive_release(self, delivery: Delivery) -> None:
        self.server.broker.nack(delivery, requeue=True)

    def _arrive_consume(self, call: tuple[LinkConsumer, asyncio.Future[None]]) -> None:
        consumer, future = call
        broker = self.server.broker
        place = consumer.place
        try:
            place.declare(broker, self.connection)
            broker.queue(place.queue, self.connection)
        except RefusedError as refusal:
            mismatch = refusal.code is RefusalCode.PRECONDITION_FAILED
            text = f"The broker refused to consume from {place.label!r}: {refusal}."
            error = TopologyMismatchError(text) if mismatch else QueueConnectionError(text)
            self.send_down(self._answer_call, (future, error))
            return
        self.send_down(self._answer_call, (future, None))  # ahead of the first delivery
        consumer.session = broker.open_session(self.connection)
        consumer.consumer = broker.consume(
            consumer.session, place.queue, consumer.deliver, limit=consumer.prefetch, cancelled=consumer.cancelled
        )

    def _arrive_cancel(self, call: tuple[LinkConsumer, asyncio.Future[None]]) -> None:
        consumer, future = call
        if consumer.consumer is not None:
            self.server.broker.cancel(consumer.consumer)
        self.server.flush()  # what it was given already is on its way before the answer
        self.send_down(self._answer_call, (future, None))

    def _arrive_end(self, call: tuple[LinkConsumer, asyncio.Future[None]]) -> None:
        consumer, future = call
        if consumer.session is not None:
            self.server.broker.close_session(consumer.session)
        self.send_down(self._answer_call, (future, None))

    def _arrive_close(self, call: tuple[None, asyncio.Future[None]]) -> None:
        self.send_down(self._answer_call, (call[1], None))
        self.close_server(goodbye=True)

    def close_server(self, _: None = None, *, goodbye: bool = False) -> None:
        """The broker ends its side: unacked messages go back. Idempotent. ``goodbye``: the client asked for it."""
        if self.server_open:
            self.server_open = False
            self._up.clear()
            self.outbox.clear()
            self.server.broker.close_connection(self.connection, goodbye=goodbye)
        self._discard_if_ended()

    def confirm(self, publish: Publish, outcome: Outcome) -> None:
        """Send the broker's answer to a publish."""
        self.send_down(self._receive_confirm, (publish, outcome))

    def _receive_confirm(self, answer: tuple[Publish, Outcome]) -> None:
        publish, outcome = answer
        if self._publishes.pop(publish, _GONE) is _GONE or publish.future.done():
            return
        place = publish.place
        if outcome is Outcome.REFUSED:
            error = PublishRefusedError(f"The broker refused message {publish.message.key!r} for {place.label!r}.")
            publish.future.set_exception(error)
        elif outcome is Outcome.UNROUTED and place.queue:
            error = UnroutableError(f"No queue takes message {publish.message.key!r} for {place.label!r}.")
            publish.future.set_exception(error)
        else:
            publish.future.set_result(None)

    def _answer_call(self, answer: tuple[asyncio.Future[None], Exception | None]) -> None:
        future, error = answer
        if self._calls.pop(future, _GONE) is not _GONE and not future.done():
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def deliver(self, consumer: LinkConsumer, delivery: Delivery) -> None:
        """Send a delivery down the line."""
        self.send_down(self._receive_delivery, (consumer, delivery))

    def _receive_delivery(self, item: tuple[LinkConsumer, Delivery]) -> None:
        consumer, delivery = item
        if consumer.open and self.client_open:
            consumer.on_delivery(delivery)

    # --- the client dies ----------------------------------------------------------------------------------------------

    def kill(self, *, silent: bool) -> None:
        """The client's process dies: what it had sent still arrives; it never hears of anything again."""
        self.client_open = False
        self._publishes.clear()
        self._calls.clear()
        self._down.clear()
        if not self.cut:
            if silent:
                self._give_up_client_in(self.server.heartbeat)
            else:
                self._send_up(self.close_server, None)
        self._discard_if_ended()

    def _discard_if_ended(self) -> None:
        if not self.client_open and not self.server_open:
            for timer in (*self._timers, *self._partition_timers):
                timer.cancel()
            self._timers.clear()
            self._partition_timers.clear()
            self.server.forget(self)

    @property
    def pending(self) -> str:
        """What is under way here, for people; empty where nothing is."""
        told: list[str] = []
        if self._up or (self._down and self.client_open):
            told.append("frames on the line")
        if self._publishes:
            told.append(f"{len(self._publishes)} publishes without an answer")
        if (self.cut or self._mute_up or self._mute_down) and (self.client_open or self.server_open):
            told.append("a loss that one end has not noticed")
        elif not self.client_open and self.server_open:
            told.append("a dead client that the broker has not noticed")
        return f"{self.client}: {', '.join(told)}" if told else ""


_GONE: Final = object()
