"""The broker: a pure, synchronous state machine.

It has no clock, no loop and no randomness: time is passed in (``advance``), choices are asked of ``Decisions``. Front ends
(the model tier, AMQP, STOMP) translate their protocol's requests into calls and its deliveries into frames. What differs
between brokers is read from ``Profile``.

Deliveries happen inside the calls that make them possible: ``Consumer.deliver`` is called in the order in which the
real broker would send, and may only note what it is given, never call back into the broker.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

from factflow_infra_testing.broker.choosing import chosen
from factflow_infra_testing.broker.entries import Delivery, Entry, Message
from factflow_infra_testing.broker.events import (
    ACCEPTED,
    ACKED,
    DEAD_LETTERED,
    DELIVERED,
    DROPPED,
    FAULT,
    REQUEUED,
    BrokerEvent,
)
from factflow_infra_testing.broker.faults import DUPLICATE, MESSAGES_STRANDED, REDELIVERY_UNFLAGGED, REORDER
from factflow_infra_testing.broker.holdings import Holdings
from factflow_infra_testing.broker.outcomes import Outcome, dead_letter_of, goes_round
from factflow_infra_testing.broker.profiles import Back, Flags, Turns
from factflow_infra_testing.broker.queues import Dispatch, Overflow
from factflow_infra_testing.broker.sessions import Connection, Consumer, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from factflow_infra_testing.broker.entries import Position
    from factflow_infra_testing.broker.exchanges import Exchange
    from factflow_infra_testing.broker.profiles import Profile
    from factflow_infra_testing.broker.queues import Queue
    from factflow_infra_testing.search.decisions import Decisions

_WIDEST_REORDER: Final = 4
_FOREVER: Final = float("inf")


class Broker(Holdings):
    """A broker of ``profile``. ``observer`` is told of everything that happens to entries."""

    def __init__(
        self, profile: Profile, decisions: Decisions, *, observer: Callable[[BrokerEvent], None] | None = None
    ) -> None:
        super().__init__(profile, observer)
        self.connections: dict[Connection, object] = {}
        self._decisions = decisions
        self._serial = 0
        self._scheduled: list[tuple[float, int, str, str, Message]] = []
        self._reorders = decisions.enabled(REORDER)
        self._duplicates = decisions.enabled(DUPLICATE)
        self._unflags = profile.unflagged_redelivery and decisions.enabled(REDELIVERY_UNFLAGGED)
        self._strands = profile.strands and decisions.enabled(MESSAGES_STRANDED)

    # --- time -------------------------------------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Let it be ``now`` (seconds, never less than before): what is due by then happens, in order of its time."""
        while (due := self.next_due()) <= now:
            self.now = max(self.now, due)
            while self._scheduled and self._scheduled[0][0] <= self.now:
                _, _, exchange, key, message = heappop(self._scheduled)
                if not exchange or exchange in self.exchanges:
                    self.publish(exchange, key, message)
            for queue in list(self.timed_queues):
                if queue.recall(self.now):
                    self._dispatch(queue)
                self._expire(queue)
                if self._queue_expiry(queue) <= self.now:
                    self.delete_queue(queue.name)
        self.now = now

    def next_due(self) -> float:
        """When something is due next, in seconds; infinity where nothing is."""
        due = self._scheduled[0][0] if self._scheduled else _FOREVER
        for queue in self.timed_queues:
            if queue.timed:
                due = min(due, queue.next_expiry())
            if queue.waiting:
                due = min(due, queue.waiting[0][0])
            due = min(due, self._queue_expiry(queue))
        return due

    @staticmethod
    def _queue_expiry(queue: Queue) -> float:
        expires = queue.options.expires
        return _FOREVER if expires is None or queue.consumers else queue.idle_since + expires

    def _expire(self, queue: Queue) -> None:
        for entry in queue.take_expired(self.now):
            self._bury(queue, entry, "expired")

    # --- connections and sessions -----------------------------------------------------------------------------------

    def open_connection(self, client: str, *, laboratory: bool = False) -> Connection:
        """A new connection of ``client``. ``laboratory``: the test's own, which faults pass by."""
        connection = Connection(client, laboratory=laboratory)
        self.connections[connection] = None
        return connection

    def open_session(self, connection: Connection, *, limit: int = 0) -> Session:
        """A channel on ``connection``; ``limit`` caps what all its consumers hold together."""
        session = Session(connection, limit=limit)
        connection.sessions[session] = None
        return session

    def close_connection(self, connection: Connection, *, goodbye: bool = False) -> None:
        """End its consumers, take its unacked messages back, delete its exclusive queues. Idempotent.

        ``goodbye``: the client asked for it; else the connection was lost.
        """
        if self.connections.pop(connection, _GONE) is _GONE:
            return
        if self._strands and not goodbye and not connection.laboratory:
            self._strand(connection)
        touched = self._end_sessions(connection.sessions, Back.LOST)
        for queue in list(connection.exclusive.values()):
            self.delete_queue(queue.name)
        self._dispatch_all(touched)

    def close_session(self, session: Session) -> None:
        """End its consumers; what it holds goes back where the profile says. Idempotent."""
        self._dispatch_all(self._end_sessions([session], Back.ENDED))

    def _strand(self, connection: Connection) -> None:
        """The fault ``messages-stranded``: what a session held of a queue stays locked until the broker restarts."""
        for session in connection.sessions:
            held: dict[Queue, list[Delivery]] = {}
            for delivery in session.unacked.values():
                held.setdefault(delivery.queue, []).append(delivery)
            for queue, deliveries in held.items():
                if queue.alive and self._decisions.pick(2, MESSAGES_STRANDED, queue.label):
                    self.tell(FAULT, queue, deliveries[0].entry, reason=MESSAGES_STRANDED)
                    for delivery in deliveries:
                        del session.unacked[delivery.tag]
                        queue.unacked -= 1
                        queue.stranded.append(delivery.entry)

    @property
    def stranded(self) -> int:
        """How many messages are locked until the broker restarts."""
        return sum(len(queue.stranded) for queue in self.queues.values())

    def _end_sessions(self, sessions: Iterable[Session], back: Back) -> list[Queue]:
        # All consumers go first: no session that is closing as well may be given what another one gives back.
        ending = [session for session in sessions if session.open]
        touched: dict[Queue, None] = {}
        for session in ending:
            session.open = False
            session.connection.sessions.pop(session, None)
            for consumer in session.consumers:
                self.end_consumer(consumer)
        for session in ending:
            touched_here: dict[Queue, None] = {}
            for delivery in session.unacked.values():
                queue = delivery.queue
                self._let_go(delivery)
                oldest = queue not in touched_here
                touched[queue] = touched_here[queue] = None
                self._take_back(delivery, back, oldest=oldest)
            session.unacked.clear()
        for session in ending:
            for consumer in session.consumers:
                self.forget_counts(consumer.queue)
                self.delete_if_unused(consumer.queue)
            session.consumers.clear()
        return list(touched)

    # --- publishing -------------------------------------------------------------------------------------------------

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
        queues = source.route(key, message.headers)
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

    def _enqueue(self, queue: Queue, message: Message) -> Outcome:
        options = queue.options
        if message.deaths and goes_round(message, queue):
            self.tell(DROPPED, queue, Entry(0, message, None), reason="cycle")
            return Outcome.ROUTED
        if options.max_length is not None and len(queue) >= options.max_length:
            if options.overflow is Overflow.REJECT_PUBLISH:
                return Outcome.REFUSED
            if options.max_length == 0 and not queue.rotation:
                self.tell(DROPPED, queue, Entry(0, message, None), reason="maxlen")
                return Outcome.ROUTED
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
        slack = queue.type.delay_slack
        if slack is not None and message.due is not None and queue.dispatch is not Dispatch.SINGLE:
            due = message.due - slack
            if due > self.now:
                queue.set_aside(entry, due)
                self.timed_queues[queue] = None
                return Outcome.ROUTED
        queue.ready.append(entry)
        if queue.rotation:
            self._dispatch(queue)
        if queue.timed and len(queue):
            self._expire(queue)
        return Outcome.ROUTED

    # --- consuming --------------------------------------------------------------------------------------------------

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
    ) -> Consumer:
        """A consumer of ``queue_name``; it is last in turn. Raises ``RefusedError``: no queue, or another's exclusive one."""
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
            self.end_consumer(consumer)
            consumer.session.consumers.pop(consumer, None)
            self.delete_if_unused(consumer.queue)

    def get(self, session: Session, queue_name: str, *, auto_ack: bool = False) -> Delivery | None:
        """Take the head of a queue without a consumer, or ``None`` where it is empty."""
        queue = self.queue(queue_name, session.connection)
        return self._hand_over(queue, session, None, auto_ack=auto_ack) if len(queue) else None

    def _dispatch_all(self, queues: Iterable[Queue]) -> None:
        for queue in queues:
            self._dispatch(queue)

    def _dispatch(self, queue: Queue) -> None:
        if not queue.alive:
            return
        if queue.timed:
            self._expire(queue)
        if queue.dispatch is not Dispatch.IN_TURN:
            self._dispatch_to_chosen(queue)
            return
        rotation = queue.rotation
        ring, passed = queue.type.turns is Turns.RING, 0
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
            delivery = self._hand_over(queue, consumer.session, consumer, auto_ack=consumer.auto_ack)
            if not ring and (queue.type.turns is Turns.LINGER or consumer.has_credit()):
                consumer.waiting = True
                rotation.append(consumer)
            consumer.deliver(delivery)
            if self._duplicates:
                self._send_again(delivery)

    def _dispatch_to_chosen(self, queue: Queue) -> None:
        for entry, consumer in chosen(queue):
            queue.remove(entry)
            consumer.deliver(
                self._hand_over(queue, consumer.session, consumer, auto_ack=consumer.auto_ack, entry=entry)
            )

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
        if self._unflags and entry.redelivered:
            entry.redelivered = not self._decisions.pick(2, REDELIVERY_UNFLAGGED, queue.label)
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
        ring = consumer.queue.type.turns is Turns.RING
        if not consumer.waiting and consumer.active and (ring or consumer.has_credit()):
            consumer.waiting = True
            consumer.queue.rotation.append(consumer)

    # --- settling ---------------------------------------------------------------------------------------------------

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

    def ack_ready(self, queue: Queue, wanted: Callable[[Entry], bool], *, client: str) -> None:
        """Settle for good what nobody holds: a cursor moves by position, whoever was given the message."""
        for entry in queue.retain(lambda entry: not wanted(entry)):
            self.tell(ACKED, queue, entry, client=client)

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
        if requeue and queue.rotation:
            self._dispatch(queue)
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
        self._dispatch_all(touched)

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
        queue.put_back(entry, queue.nack_place if back is Back.NACKED else queue.type.lost)
        if self.observer is not None:
            self.tell(REQUEUED, queue, entry, client=delivery.session.connection.client)

    def _bury(self, queue: Queue, entry: Entry, reason: str) -> None:
        """Dead-letter an entry that is out of its queue; drop it where the queue names no exchange for that."""
        options = queue.options
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

    # --- the broker as a whole --------------------------------------------------------------------------------------

    def rewind(self, queue_name: str, exchange_name: str, after: Position) -> None:
        """Have a queue hold what the log of its topic holds behind ``after``, and nothing else that is ready."""
        log = self.exchange(exchange_name).log
        queue = self.queue(queue_name)
        self.purge(queue_name)
        for message in () if log is None else log.after(after):
            self._enqueue(queue, message)

    def _trim(self, exchange: Exchange) -> None:
        """Begin a new segment of a topic's log; those before it go that no queue needs any more."""
        log = exchange.log
        if log is None:
            return
        bound = {binding.queue: None for binding in exchange.bindings}
        held = [entry.message.position for queue in bound for entry in (*queue, *(item[2] for item in queue.waiting))]
        held += [
            delivery.entry.message.position
            for connection in self.connections
            for session in connection.sessions
            for delivery in session.unacked.values()
            if delivery.queue in bound
        ]
        log.roll(min(held, default=None))

    def restart(self, *, crash: bool = False, spare_laboratory: bool = False) -> None:
        """Stop, or crash, and start again: sessions end, what is not durable is gone.

        ``spare_laboratory``: the test's own connections, and what they own, live on as if nothing had happened.
        """
        for connection in list(self.connections):
            if not (spare_laboratory and connection.laboratory):
                self._end_sessions(connection.sessions, Back.CRASHED if crash else Back.LOST)
                del self.connections[connection]
                for queue in list(connection.exclusive.values()):
                    self.delete_queue(queue.name)
        for queue in list(self.queues.values()):
            if queue.owner is not None:
                continue  # of a connection that was spared
            if not queue.durable:
                self.delete_queue(queue.name)
                continue
            for entry in queue.stranded:
                queue.put_back(entry, queue.type.lost)
            queue.stranded.clear()
            if not queue.type.keeps_transient:
                for entry in queue.retain(lambda entry: entry.message.persistent):
                    self.tell(DROPPED, queue, entry, reason="transient")
            if crash and queue.type.crash_flags is Flags.KEPT:
                for entry in queue:
                    entry.redelivered = True
            self.forget_counts(queue)
        for exchange in self.exchanges.values():
            self._trim(exchange)
        for name in [name for name, exchange in self.exchanges.items() if not exchange.durable]:
            self.delete_exchange(name)
        self._scheduled = [item for item in self._scheduled if item[4].persistent]
        heapify(self._scheduled)
        self._dispatch_all(list(self.queues.values()))


_GONE: Final = object()


def _when(item: tuple[float, int, str, str, Message]) -> tuple[float, int]:
    return item[:2]
