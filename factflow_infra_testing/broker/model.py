"""The broker: a pure, synchronous state machine.

It has no clock, no loop and no randomness: time is passed in (``advance``), choices are asked of ``Decisions``. Front ends
(the model tier, AMQP, STOMP) translate their protocol's requests into calls and its deliveries into frames. What differs
between brokers is read from ``Profile``.

A layer a module, each on the one before: what is declared (``topology``), held (``holdings``), published (``intake``),
delivered (``dispatching``) and settled (``settling``); here are time, connections and the broker as a whole.

Deliveries happen inside the calls that make them possible: ``Consumer.deliver`` is called in the order in which the
real broker would send, and may only note what it is given, never call back into the broker.
"""

from __future__ import annotations

from heapq import heapify
from typing import TYPE_CHECKING, Final

from factflow_infra_testing.broker.events import DROPPED, FAULT
from factflow_infra_testing.broker.faults import MESSAGES_STRANDED
from factflow_infra_testing.broker.queue_types import Back, Flags
from factflow_infra_testing.broker.queues import Dispatch
from factflow_infra_testing.broker.sessions import Connection, Session
from factflow_infra_testing.broker.settling import Settling, in_return_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from factflow_infra_testing.broker.entries import Delivery, Position
    from factflow_infra_testing.broker.events import BrokerEvent
    from factflow_infra_testing.broker.exchanges import Exchange
    from factflow_infra_testing.broker.queue_types import Profile
    from factflow_infra_testing.broker.queues import Queue
    from factflow_infra_testing.search.decisions import Decisions

MOST_ENTRIES: Final = 1_000_000_000
"""In the queues of one broker."""
_FOREVER: Final = float("inf")


class Broker(Settling):
    """A broker of ``profile``. ``observer`` is told of everything that happens to entries, which are numbered by ``entries``;
    ``number``: of this broker, where there are several.
    """

    def __init__(
        self,
        profile: Profile,
        decisions: Decisions,
        *,
        observer: Callable[[BrokerEvent], None] | None = None,
        number: int = 0,
    ) -> None:
        super().__init__(profile, decisions, observer)
        self._serial = number * MOST_ENTRIES
        self.entries = range(self._serial + 1, self._serial + MOST_ENTRIES)
        self.connections: dict[Connection, object] = {}
        self._strands = profile.strands and decisions.enabled(MESSAGES_STRANDED)

    # --- time -------------------------------------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Let it be ``now`` (seconds, never less than before): what is due by then happens, in order of its time."""
        while (due := self.next_due()) <= now:
            self.now = max(self.now, due)
            self._publish_due()
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
            for delivery in in_return_order(session.unacked.values()):
                queue = delivery.queue
                self._let_go(delivery)
                oldest = queue not in touched_here
                touched[queue] = touched_here[queue] = None
                self._take_back(delivery, back, oldest=oldest)
            session.unacked.clear()
        for session in ending:
            for consumer in session.consumers:
                if consumer.queue.dispatch is Dispatch.SINGLE:
                    touched[consumer.queue] = None
                self.forget_counts(consumer.queue)
                self.delete_if_unused(consumer.queue)
            session.consumers.clear()
        return list(touched)

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
            if queue.type.restart_forgets:
                queue.begin_anew()
        for exchange in self.exchanges.values():
            self._trim(exchange)
        for name in [name for name, exchange in self.exchanges.items() if not exchange.durable]:
            self.delete_exchange(name)
        self._scheduled = [item for item in self._scheduled if item[4].persistent]
        heapify(self._scheduled)
        self._dispatch_all(list(self.queues.values()))


_GONE: Final = object()
