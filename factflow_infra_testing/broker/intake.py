"""What comes in: messages on their way into queues, and out of them again without having been delivered."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from factflow_infra_testing.broker.entries import Entry
from factflow_infra_testing.broker.events import ACCEPTED, DEAD_LETTERED, DROPPED
from factflow_infra_testing.broker.holdings import Holdings
from factflow_infra_testing.broker.outcomes import Outcome, dead_letter_of, goes_round
from factflow_infra_testing.broker.queues import Dispatch, Overflow

if TYPE_CHECKING:
    from collections.abc import Callable

    from factflow_infra_testing.broker.entries import Message
    from factflow_infra_testing.broker.events import BrokerEvent
    from factflow_infra_testing.broker.exchanges import Exchange
    from factflow_infra_testing.broker.queue_types import Profile
    from factflow_infra_testing.broker.queues import Queue


class Intake(Holdings):
    """Publishing, now or later, and dead-lettering."""

    def __init__(self, profile: Profile, observer: Callable[[BrokerEvent], None] | None) -> None:
        super().__init__(profile, observer)
        self._serial = 0
        self._scheduled: list[tuple[float, int, str, str, Message]] = []

    if TYPE_CHECKING:

        def _dispatch(self, queue: Queue) -> None: ...
        def _serve_first(self, queue: Queue, entry: Entry) -> None: ...
        def _overtakes(self, queue: Queue) -> bool: ...
        def _hand_past(self, queue: Queue, entry: Entry) -> Outcome: ...
        def _trim(self, exchange: Exchange) -> None: ...

    def publish(self, exchange: str, key: str, message: Message) -> Outcome:
        """Route ``message`` by ``exchange`` (``""``: to the queue called ``key``). Raises ``RefusedError``: no exchange."""
        message.exchange = exchange
        message.routing_key = key
        if not exchange:
            queue = self.queues.get(key)
            return Outcome.UNROUTED if queue is None else self._enqueue(queue, message)
        source = self.exchange(exchange)
        if source.log is not None:
            source.log.append(message)
            if source.log.is_full:
                self._trim(source)
        queues = source.route(key, message.headers, self.exchanges)
        if not queues:
            return Outcome.UNROUTED if source.log is None else Outcome.ROUTED
        outcomes = [self._enqueue(queue, message) for queue in queues]
        return Outcome.REFUSED if Outcome.REFUSED in outcomes else Outcome.ROUTED

    def schedule(self, due: float, exchange: str, key: str, message: Message) -> None:
        """Publish ``message`` at ``due`` (seconds): what a delay queue does. A restart keeps it if it is persistent.

        Where the profile schedules in queues it is routed now, and waits in its queues. Raises ``RefusedError`` then: no
        exchange.
        """
        if self.profile.schedules_in_queues and due > self.now:
            message.due = due
            self.publish(exchange, key, message)
            return
        self._serial += 1
        heappush(self._scheduled, (due, self._serial, exchange, key, message))

    @property
    def scheduled(self) -> list[tuple[float, str, str, Message]]:
        """What waits for its time: when, exchange, routing key, message; soonest first."""
        return [(due, exchange, key, message) for due, _, exchange, key, message in sorted(self._scheduled, key=_when)]

    def _publish_due(self) -> None:
        """Publish what was scheduled for now or before."""
        while self._scheduled and self._scheduled[0][0] <= self.now:
            _, _, exchange, key, message = heappop(self._scheduled)
            if not exchange or exchange in self.exchanges:
                self.publish(exchange, key, message)

    def _enqueue(self, queue: Queue, message: Message) -> Outcome:
        options = queue.options
        if message.deaths and goes_round(message, queue):
            self.tell(DROPPED, queue, Entry(0, message, None), reason="cycle")
            return Outcome.ROUTED
        overtakes = queue.passed_by and self._overtakes(queue)
        if options.max_length is not None and len(queue) >= options.max_length and not overtakes:
            if options.overflow is Overflow.REJECT_PUBLISH:
                return Outcome.REFUSED
            if options.max_length == 0 and not queue.rotation and options.dead_letter_exchange is None:
                self.tell(DROPPED, queue, Entry(0, message, None), reason="maxlen")
                return Outcome.ROUTED
            if len(queue):
                self._bury(queue, queue.take(), "maxlen")
        ttl = options.message_ttl
        if message.ttl is not None:
            ttl = message.ttl if ttl is None else min(ttl, message.ttl)
            self.note_timed(queue)
        self._serial = serial = self._serial + 1
        self._serial += len(message.keys) - 1
        entry = Entry(serial, message, None if ttl is None else self.now + ttl)
        queue.note_expiry(entry)
        if self.observer is not None:
            self.tell(ACCEPTED, queue, entry, client=message.client, source=message.source)
        if overtakes:
            return self._hand_past(queue, entry)
        slack = queue.type.delay_slack
        if slack is not None and message.due is not None and queue.dispatch is not Dispatch.SINGLE:
            due = message.due - slack
            if due > self.now:
                queue.set_aside(entry, due)
                self.timed_queues[queue] = None
                return Outcome.ROUTED
        queue.ready.append(entry)
        if queue.type.serves_first and (ttl == 0 or options.max_length == 0):
            self._serve_first(queue, entry)
        elif queue.rotation:
            self._dispatch(queue)
        if queue.timed and len(queue):
            self._expire(queue)
        return Outcome.ROUTED

    def _shed(self, queue: Queue) -> None:
        """Give up the oldest messages of a queue that has too many, since some came back."""
        most = queue.options.max_length
        if most is not None and queue.options.overflow is Overflow.DROP_HEAD:
            surplus = [queue.take() for _ in range(len(queue) - most)]
            for entry in surplus if queue.type.sheds_first else reversed(surplus):
                self._bury(queue, entry, "maxlen")

    def _expire(self, queue: Queue) -> None:
        gone = queue.take_expired(self.now)
        if queue.dying is not None:
            queue.dying += gone
            return
        for entry in gone:
            self._bury(queue, entry, "expired")

    def _bury(self, queue: Queue, entry: Entry, reason: str) -> None:
        """Dead-letter an entry that is out of its queue; drop it where the queue names no exchange for that."""
        options = queue.options
        if not (entry.message.persistent or self.profile.buries_transient):
            self.tell(DROPPED, queue, entry, reason=reason)
            return
        if reason == "expired" and options.expiry_queue is not None:
            self.tell(DEAD_LETTERED, queue, entry, reason=reason)
            self.publish("", options.expiry_queue, dead_letter_of(entry.message, queue, reason, self.now))
            return
        if options.dead_letter_exchange is None:
            self.tell(DROPPED, queue, entry, reason=reason)
            return
        self.tell(DEAD_LETTERED, queue, entry, reason=reason)
        message = dead_letter_of(entry.message, queue, reason, self.now)
        key = entry.message.routing_key if options.dead_letter_key is None else options.dead_letter_key
        if not options.dead_letter_exchange or options.dead_letter_exchange in self.exchanges:
            self.publish(options.dead_letter_exchange, key, message)


def _when(item: tuple[float, int, str, str, Message]) -> tuple[float, int]:
    return item[:2]
