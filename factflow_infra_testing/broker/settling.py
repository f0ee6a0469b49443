"""What becomes of a delivery: acked, given back, or rejected; and the room that this makes for others."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from factflow_infra_testing.broker.dispatching import Dispatching
from factflow_infra_testing.broker.events import ACKED, DROPPED, REQUEUED
from factflow_infra_testing.broker.queue_types import Back, Flags, Place, Turns
from factflow_infra_testing.broker.queues import Dispatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from factflow_infra_testing.broker.entries import Delivery, Entry
    from factflow_infra_testing.broker.queues import Queue
    from factflow_infra_testing.broker.sessions import Consumer


def in_return_order(deliveries: Iterable[Delivery]) -> list[Delivery]:
    """The deliveries of a session in the order in which they come back at its end: where the type of queue says so, by consumer."""
    return sorted(deliveries, key=lambda delivery: _holder(delivery) if delivery.queue.type.by_consumer else _NOBODY)


def in_settling_order(deliveries: Iterable[Delivery]) -> list[Delivery]:
    """The deliveries of a session in the order in which one request that means them all settles them: by queue and consumer."""
    return sorted(deliveries, key=_group)


def _group(delivery: Delivery) -> tuple[str, tuple[bool, int, str]]:
    return delivery.queue.name, _holder(delivery)


def _holder(delivery: Delivery) -> tuple[bool, int, str]:
    """What was got without a consumer stands by itself, before what consumers hold."""
    consumer = delivery.consumer
    return (False, delivery.tag, "") if consumer is None else (True, 0, consumer.name)


_NOBODY: Final = (False, 0, "")


class Settling(Dispatching):
    """Acks, nacks, and what comes back to its queue."""

    def ack(self, delivery: Delivery) -> bool:
        """Settle for good. ``False`` where it was settled before, or its session is gone: nothing changed."""
        if delivery.session.unacked.pop(delivery.tag, None) is None:
            return False
        queue = delivery.queue
        self._let_go(delivery)
        if self.observer is not None:
            self.tell(ACKED, queue, delivery.entry, client=delivery.session.connection.client)
        self._credit(delivery)
        return True

    def ack_ready(self, queue: Queue, wanted: Callable[[Entry], bool], *, client: str) -> None:
        """Settle for good what nobody holds: a cursor moves by position, whoever was given the message."""
        for entry in queue.retain(lambda entry: not wanted(entry)):
            self.tell(ACKED, queue, entry, client=client)

    def nack(self, delivery: Delivery, *, requeue: bool) -> bool:
        """Give back, or without ``requeue`` reject for good. ``False`` as with ``ack``."""
        if delivery.session.unacked.pop(delivery.tag, None) is None:
            return False
        queue = delivery.queue
        self._let_go(delivery)
        if requeue:
            self._take_back(delivery, Back.NACKED, oldest=True)
        elif queue.alive:
            self._bury(queue, delivery.entry, "rejected")
        else:
            self.tell(DROPPED, queue, delivery.entry, reason="deleted")
        self._credit(delivery)
        if requeue and (queue.rotation or queue.options.max_length is not None):
            self._dispatch(queue)
        queue.apart = 0
        return True

    def give_back(self, deliveries: Iterable[Delivery]) -> None:
        """Take several back at once, those that were not settled yet: none goes out again before all are there."""
        touched: dict[Queue, None] = {}
        for delivery in deliveries:
            if delivery.session.unacked.pop(delivery.tag, None) is not None:
                self._let_go(delivery)
                self._take_back(delivery, Back.NACKED, oldest=True)
                touched[delivery.queue] = None
                consumer = delivery.consumer
                if consumer is not None:
                    consumer.held -= 1
                    consumer.held_bytes -= delivery.size
                    self._wait_in_turn(consumer)
                if delivery.session.limit:
                    for other in delivery.session.consumers:
                        self._wait_in_turn(other)
                        touched[other.queue] = None
        self._dispatch_all(touched)
        for queue in touched:
            queue.apart = 0

    def give_back_in_turn(self, deliveries: Iterable[Delivery]) -> None:
        """Take back what one session gives back by one request: one consumer's after another's."""
        for _, group in groupby(in_settling_order(deliveries), key=_group):
            self.give_back(group)

    def _let_go(self, delivery: Delivery) -> None:
        """``delivery`` is no longer held by its session."""
        queue = delivery.queue
        queue.unacked -= 1
        group = delivery.entry.message.group
        holder = queue.holders.get(group)
        if holder is not None and holder[0] is delivery.consumer:
            if holder[1] > 1:
                queue.holders[group] = (holder[0], holder[1] - 1)
            else:
                del queue.holders[group]

    def widen(self, consumer: Consumer) -> None:
        """Let ``consumer`` hold one message more than it might."""
        consumer.held -= 1
        self._wait_in_turn(consumer)
        self._dispatch(consumer.queue)

    def _credit(self, delivery: Delivery) -> None:
        consumer = delivery.consumer
        if consumer is not None:
            consumer.held -= 1
            consumer.held_bytes -= delivery.size
        session = delivery.session
        if session.limit:  # the common limit: any consumer of the session may go on now
            for other in list(session.consumers):
                self._wait_in_turn(other)
                self._dispatch(other.queue)
        elif consumer is not None and consumer.active:
            queue = consumer.queue
            if queue.passed_by:
                return  # it was never found without room, so that nobody looks for what waits
            if consumer.waiting and queue.dispatch is Dispatch.IN_TURN and queue.type.turns is not Turns.RING:
                return  # in line already, so that nothing waits for this room
            self._wait_in_turn(consumer)
            if queue.returned or queue.ready:
                self._dispatch(queue)

    def _take_back(self, delivery: Delivery, back: Back, *, oldest: bool) -> None:
        queue = delivery.queue
        entry = delivery.entry
        if not queue.alive:
            self.tell(DROPPED, queue, entry, reason="deleted")
            return
        flags = queue.type.flags(back)
        if flags in (Flags.ALL, Flags.KEPT) or (oldest and flags is Flags.OLDEST):
            entry.returns += 1
            entry.redelivered = True
        limit = queue.options.delivery_limit
        if limit is not None and entry.returns > limit:
            self._bury(queue, entry, "delivery_limit")
            if back is Back.NACKED and queue.type.limit_widens and delivery.consumer is not None:
                delivery.consumer.held -= 1
            return
        place = queue.nack_place if back is Back.NACKED else queue.type.lost
        queue.put_back(entry, place)
        if place is Place.TAIL:
            queue.apart += 1
        if self.observer is not None:
            self.tell(REQUEUED, queue, entry, client=delivery.session.connection.client)
