"""Who gets what: consumers, their turns and their credit, and the handing over of messages to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from factflow_infra_testing.broker.choosing import chosen
from factflow_infra_testing.broker.entries import Delivery
from factflow_infra_testing.broker.events import ACKED, DELIVERED, DROPPED, FAULT
from factflow_infra_testing.broker.faults import DUPLICATE, REORDER
from factflow_infra_testing.broker.intake import Intake
from factflow_infra_testing.broker.outcomes import Outcome
from factflow_infra_testing.broker.queue_types import Turns
from factflow_infra_testing.broker.queues import Dispatch
from factflow_infra_testing.broker.sessions import Consumer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from factflow_infra_testing.broker.entries import Entry
    from factflow_infra_testing.broker.events import BrokerEvent
    from factflow_infra_testing.broker.queue_types import Profile
    from factflow_infra_testing.broker.queues import Queue
    from factflow_infra_testing.broker.sessions import Session
    from factflow_infra_testing.search.decisions import Decisions

_WIDEST_REORDER: Final = 4
_STAYING: Final = (Turns.RING, Turns.STAND)
"""Where a consumer stands in line though it has no room."""


class Dispatching(Intake):
    """Consuming, and the faults that a delivery may meet inside the broker."""

    def __init__(self, profile: Profile, decisions: Decisions, observer: Callable[[BrokerEvent], None] | None) -> None:
        super().__init__(profile, observer)
        self._decisions = decisions
        self._reorders = decisions.enabled(REORDER)
        self._duplicates = decisions.enabled(DUPLICATE)

    def consume(
        self,
        session: Session,
        queue_name: str,
        deliver: Callable[[Delivery], None],
        *,
        limit: int = 0,
        window: int = 0,
        auto_ack: bool = False,
        cancelled: Callable[[], None] | None = None,
        permits: int | None = None,
        weigh: Callable[[Delivery], int] | None = None,
        name: str = "",
    ) -> Consumer:
        """A consumer of ``queue_name``, which its client calls ``name``; it is last in turn. Raises ``RefusedError``: no queue, or another's exclusive one."""
        queue = self.queue(queue_name, session.connection)
        self._serial += 1
        consumer = Consumer(
            session,
            queue,
            deliver,
            limit=limit,
            window=window,
            auto_ack=auto_ack,
            cancelled=cancelled,
            permits=permits,
            serial=self._serial,
            weigh=weigh,
            name=name,
        )
        session.consumers[consumer] = None
        queue.consumers[consumer] = None
        queue.had_consumers = True
        self._wait_in_turn(consumer)
        queue.begin_ring()
        self._dispatch(queue)
        return consumer

    def limit_session(self, session: Session, limit: int) -> None:
        """Cap what all consumers of ``session`` hold together; 0 is no cap."""
        session.limit = limit
        for consumer in list(session.consumers):
            self._wait_in_turn(consumer)
            self._dispatch(consumer.queue)

    def flow(self, consumer: Consumer, permits: int) -> None:
        """``consumer`` asks for so many messages more."""
        if consumer.active and consumer.permits is not None:
            consumer.permits += permits
            self._wait_in_turn(consumer)
            self._dispatch(consumer.queue)

    def cancel(self, consumer: Consumer) -> None:
        """It gets no more; what it holds stays ackable until its session closes. Idempotent."""
        if consumer.active:
            queue = consumer.queue
            had_all = next(iter(queue.consumers)) is consumer
            self.end_consumer(consumer)
            consumer.session.consumers.pop(consumer, None)
            self.delete_if_unused(queue)
            if queue.dispatch is Dispatch.SINGLE:
                if queue.type.hands_on:
                    self._dispatch(queue)
                elif had_all and len(queue):
                    queue.passed_by = True

    def get(self, session: Session, queue_name: str, *, auto_ack: bool = False) -> Delivery | None:
        """Take the head of a queue without a consumer, or ``None`` where it is empty."""
        queue = self.queue(queue_name, session.connection)
        if not len(queue):
            return None
        delivery = self._hand_over(queue, session, None, auto_ack=auto_ack)
        if queue.timed:
            self._expire(queue)
        return delivery

    def _dispatch_all(self, queues: Iterable[Queue]) -> None:
        for queue in queues:
            self._dispatch(queue)

    def _dispatch(self, queue: Queue) -> None:
        if not queue.alive:
            return
        queue.passed_by = False
        if queue.type.sheds_first:
            self._shed(queue)
            if queue.timed:
                self._expire(queue)
            self._hand_out(queue)
        else:
            self._hand_out_and_shed(queue)
        if queue.owing:
            self._settle_owed(queue)

    def _serve_first(self, queue: Queue, entry: Entry) -> None:
        """Give ``entry``, which may not wait, to who has room for it now (RMQ-57); else it is too old, or too much."""
        expires_at, entry.expires_at = entry.expires_at, None
        self._hand_out(queue)
        if queue.owing:
            self._settle_owed(queue)
        entry.expires_at = expires_at
        self._shed(queue)

    def _hand_out_and_shed(self, queue: Queue) -> None:
        """What is too much goes after the others were delivered, but is buried before what expired meanwhile (RMQ-45)."""
        if queue.options.max_length is not None:
            queue.dying = []
        if queue.timed:
            self._expire(queue)
        self._hand_out(queue)
        self._shed(queue)
        dying, queue.dying = queue.dying, None
        for entry in dying or ():
            self._bury(queue, entry, "expired")

    def _settle_owed(self, queue: Queue) -> None:
        """Consumers that ack nothing have their room back, once all that could be handed out was."""
        owing, queue.owing = queue.owing, {}
        for consumer in owing:
            consumer.held = 0
            self._wait_in_turn(consumer)
        if len(queue):
            self._dispatch(queue)

    def _overtakes(self, queue: Queue) -> bool:
        """Whether what is published now goes straight to the single consumer, past what waits."""
        consumer = next(iter(queue.consumers), None)
        queue.passed_by = consumer is not None and consumer.has_credit()
        return queue.passed_by

    def _hand_past(self, queue: Queue, entry: Entry) -> Outcome:
        """Give ``entry`` to the single consumer, past what waits; with one that acks, the queue crashes of it (RMQ-47)."""
        consumer = next(iter(queue.consumers))
        if consumer.auto_ack:
            consumer.deliver(self._hand_over(queue, consumer.session, consumer, auto_ack=True, entry=entry))
            return Outcome.ROUTED
        queue.passed_by = False
        self.tell(DROPPED, queue, entry, reason="crashed")
        self.end_consumers(queue)
        for waiting in queue:
            waiting.redelivered = True
        return Outcome.REFUSED

    def _hand_out(self, queue: Queue) -> None:
        if queue.dispatch is not Dispatch.IN_TURN:
            self._dispatch_to_chosen(queue)
            return
        rotation = queue.rotation
        ring, passed = queue.type.turns is Turns.RING, 0
        together: list[Delivery] | None = [] if queue.type.by_consumer and len(queue) > queue.apart else None
        while passed < len(rotation) and (queue.returned or queue.ready):
            if self._reorders and len(rotation) > 1:
                self._shuffle(queue)
            consumer = rotation.popleft()
            consumer.waiting = ring
            if ring:
                rotation.append(consumer)
            if not consumer.has_credit():
                passed += ring
                continue
            passed = 0
            if together and len(queue) <= queue.apart:
                _deliver_together(together)
                together = None
            delivery = self._hand_over(queue, consumer.session, consumer, auto_ack=consumer.auto_ack)
            if not ring and (queue.type.turns is Turns.LINGER or consumer.has_credit()):
                consumer.waiting = True
                rotation.append(consumer)
            if together is None:
                consumer.deliver(delivery)
            else:
                together.append(delivery)
            if self._duplicates:
                self._send_again(delivery)
            if queue.timed:
                self._expire(queue)  # what has come to the head now
        if together:
            _deliver_together(together)

    def _dispatch_to_chosen(self, queue: Queue) -> None:
        any_turn = queue.dispatch is Dispatch.STANDING
        if any_turn and self._reorders and len(queue):
            self._shuffle(queue)
        for entry, consumer in chosen(queue):
            queue.remove(entry)
            delivery = self._hand_over(queue, consumer.session, consumer, auto_ack=consumer.auto_ack, entry=entry)
            consumer.deliver(delivery)
            if any_turn and self._duplicates:
                self._send_again(delivery)
            if queue.timed and (any_turn or queue.dispatch is Dispatch.SINGLE):
                self._expire(queue)
            if any_turn and self._reorders and len(queue):
                self._shuffle(queue)

    def _shuffle(self, queue: Queue) -> None:
        """The fault ``reorder``: another consumer's turn is now. Whose turn it is, no broker promises to its clients."""
        able = [consumer for consumer in queue.rotation if consumer.has_credit()]
        if len(able) < 2:
            return
        choice = self._decisions.pick(min(len(able), _WIDEST_REORDER), REORDER, queue.label)
        if choice:
            queue.rotation.remove(able[choice])
            queue.rotation.appendleft(able[choice])
            head = queue.head()
            if head is not None:
                self.tell(FAULT, queue, head, reason=REORDER)

    def _hand_over(
        self,
        queue: Queue,
        session: Session,
        consumer: Consumer | None,
        *,
        auto_ack: bool,
        entry: Entry | None = None,
    ) -> Delivery:
        if entry is None:
            entry = queue.take()
        session.last_tag = tag = session.last_tag + 1
        delivery = Delivery(tag, entry, queue, session, consumer, entry.returns + 1 if queue.type.counts else None)
        if consumer is not None and consumer.weigh is not None:
            delivery.size = consumer.weigh(delivery)
        if not auto_ack:
            session.unacked[tag] = delivery
            queue.unacked += 1
            if consumer is not None:
                if queue.dispatch is Dispatch.STICKY:
                    group = entry.message.group
                    queue.holders[group] = (consumer, queue.holders.get(group, (consumer, 0))[1] + 1)
                consumer.held += 1
                consumer.held_bytes += delivery.size
                if session.limit:  # so that the next room under the common limit is another consumer's
                    session.consumers.pop(consumer, None)
                    session.consumers[consumer] = None
        elif consumer is not None:
            consumer.held_bytes += delivery.size  # nothing is acked that could make room again (ART-34)
            if consumer.limit and queue.type.limits_auto_ack:
                consumer.held += 1
                queue.owing[consumer] = None
        if consumer is not None and consumer.permits is not None:
            consumer.permits -= len(entry.message.keys)
        if self.observer is not None:
            client = session.connection.client
            self.tell(DELIVERED, queue, entry, client=client, count=delivery.count)
            if auto_ack:
                self.tell(ACKED, queue, entry, client=client)
        return delivery

    def _send_again(self, delivery: Delivery) -> None:
        """The fault ``duplicate``: the test's message was sent twice by its producer, and the second copy arrives now."""
        message = delivery.entry.message
        before, delivery.entry.delivered = delivery.entry.delivered, True
        if not message.laboratory or before or delivery.session.connection.laboratory:
            return
        if self._decisions.pick(2, DUPLICATE, delivery.queue.label):
            self.tell(FAULT, delivery.queue, delivery.entry, reason=DUPLICATE)
            copy = message.again(laboratory=False, deaths=message.deaths, ttl=message.ttl)
            self.schedule(self.now, message.exchange, message.routing_key, copy)

    def _wait_in_turn(self, consumer: Consumer) -> None:
        stays = consumer.queue.type.turns in _STAYING
        if not consumer.waiting and consumer.active and (stays or consumer.has_credit()):
            consumer.waiting = True
            consumer.queue.rotation.append(consumer)


def _deliver_together(deliveries: list[Delivery]) -> None:
    """Deliver what goes out at once: to each session consumer by consumer, in the order of their names (RMQ-54)."""
    if len(deliveries) > 1:
        by_session: dict[Session, list[Delivery]] = {}
        for delivery in deliveries:
            by_session.setdefault(delivery.session, []).append(delivery)
        ordered = {session: iter(_by_name(session, own)) for session, own in by_session.items()}
        deliveries = [next(ordered[delivery.session]) for delivery in deliveries]
    for delivery in deliveries:
        assert delivery.consumer is not None
        delivery.consumer.deliver(delivery)


def _by_name(session: Session, deliveries: list[Delivery]) -> list[Delivery]:
    """What a session is given, in the order of its consumers' names, and numbered so."""
    ordered = sorted(deliveries, key=lambda delivery: "" if delivery.consumer is None else delivery.consumer.name)
    if ordered != deliveries:
        tags = [delivery.tag for delivery in deliveries]
        held = [session.unacked.pop(tag, None) for tag in tags]
        for tag, delivery in zip(tags, ordered, strict=True):
            delivery.tag = tag
            if delivery in held:
                session.unacked[tag] = delivery
    return ordered
