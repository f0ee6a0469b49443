"""The simulated broker as a thing that runs: the pure state machine, the loop's time, connections, and their faults."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from typing import TYPE_CHECKING

from factflow_infra.errors import QueueConnectionError
from factflow_infra.queue.destinations import parse_destination
from factflow_infra.queue.transport import Address, Envelope
from factflow_infra_testing.broker.addresses import place_of, wire_names_of
from factflow_infra_testing.broker.faults import BROKER_RESTART, FAILOVER, FAILOVER_SECONDS, RESET
from factflow_infra_testing.broker.lanes import LATENCY
from factflow_infra_testing.broker.link import Link
from factflow_infra_testing.broker.model import Broker
from factflow_infra_testing.broker.outcomes import Outcome
from factflow_infra_testing.broker.pending import delayed, under_way
from factflow_infra_testing.broker.profiles import profile_named
from factflow_infra_testing.broker.strikes import Strikes
from factflow_infra_testing.broker.topology import MOST_LABELS
from factflow_infra_testing.errors import KitUsageError
from factflow_infra_testing.search.decisions import PlannedDecisions
from factflow_infra_testing.simulation.links import SYN_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable

    from factflow_infra.queue.messages import QueueMessage
    from factflow_infra_testing.broker.entries import Delivery, Message
    from factflow_infra_testing.broker.events import BrokerEvent
    from factflow_infra_testing.broker.lines import Line
    from factflow_infra_testing.broker.link import Publish
    from factflow_infra_testing.broker.queue_types import Profile
    from factflow_infra_testing.search.decisions import Decisions


class SimulatedBroker(Strikes):
    """A broker of ``profile`` (a name or a row) on ``loop``, by default the running one.

    ``decisions`` say which faults happen; without them none does. ``downtime``: seconds that a restart takes, in which
    connections are refused. ``number``: of this broker, where there are several, so that each entry in their queues has a serial
    number of its own. All times are the loop's. ``broker`` is the state machine itself; ``last_activity`` is when
    anything last moved on any line or in any queue.
    """

    def __init__(
        self,
        profile: str | Profile = "rabbitmq-quorum",
        decisions: Decisions | None = None,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        downtime: float = 2.0,
        number: int = 0,
    ) -> None:
        decisions = PlannedDecisions() if decisions is None else decisions
        super().__init__(asyncio.get_running_loop() if loop is None else loop, decisions)
        self.profile = profile_named(profile)
        self.broker = Broker(self.profile, decisions, number=number)
        self.context = contextvars.Context()  # empty: the broker's own events belong to no client, and outlive them all
        self.heartbeat = self.profile.heartbeat
        self.downtime = downtime
        self.up_at = 0.0
        self.last_activity = self.loop.time()
        self.dirty: deque[Line] = deque()
        self.missed: dict[str, None] = {}
        """Queues that somebody looked into and that were not there then."""
        self._clients: dict[str, None] = {}
        self.hosts = (self.profile.name, f"{self.profile.name}-2")
        """Where it can be reached: each its own way in to the same queues."""
        self.links.watch(self._link_changed)
        self._host_up_at: dict[str, float] = {}
        self._links: dict[Line, None] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._flushing = False

    # --- for clients ------------------------------------------------------------------------------------------------

    async def connect(
        self,
        client: str,
        on_lost: Callable[[Exception | None], None],
        *,
        exposed: bool = False,
        host: str = "localhost",
        patience: float = SYN_TIMEOUT,
    ) -> Link:
        """A connection of ``client`` on ``host``, which waits ``patience`` seconds for an answer of each host of the broker.

        Raises ``QueueConnectionError`` where none takes it.
        """
        await asyncio.sleep(2 * LATENCY)
        if exposed:
            there = await self._reach(client, host, min(patience, SYN_TIMEOUT))
        else:
            await asyncio.sleep(max(0.0, self.up_at - self.loop.time()))
            there = next((name for name in self.hosts if self.host_is_up(name)), self.hosts[0])
        link = Link(self, client, exposed=exposed, on_lost=on_lost, hosts=(host, there))
        self.attach(link)
        return link

    async def _reach(self, client: str, host: str, patience: float) -> str:
        """The first of ``hosts`` that takes a connection: asked in turn, as the providers do with a URI of several."""
        failure = QueueConnectionError("The broker has no hosts.")
        for there in self.hosts:
            try:
                async with asyncio.timeout(patience):
                    await self._meet_connect(client, host, there)
            except TimeoutError:
                failure = QueueConnectionError(f"The broker's host {there!r} did not answer within {patience:g} s.")
            except QueueConnectionError as error:
                failure = error
            else:
                if self.host_is_up(there):
                    return there
                failure = QueueConnectionError("The broker refused the connection: it is not running.")
        raise failure

    # --- for front ends ---------------------------------------------------------------------------------------------

    def attach(self, line: Line) -> None:
        """A client is connected through ``line``: it meets the faults from now on, until ``forget``."""
        self._links[line] = None
        if len(self._clients) < MOST_LABELS:
            self._clients[line.client] = None

    def attached(self) -> tuple[Line, ...]:
        """The connections that there are, in the order in which they came."""
        return tuple(self._links)

    def host_is_up(self, host: str) -> bool:
        """Whether ``host``, one of ``hosts``, takes connections."""
        return self.loop.time() >= max(self.up_at, self._host_up_at.get(host, 0.0))

    def _link_changed(self, one: str, other: str) -> None:
        for link in list(self._links):
            if isinstance(link, Link) and link.exposed and link.hosts in ((one, other), (other, one)):
                link.isolate(isolated=not self.links.passable(one, other))

    # --- for simulations and tests ----------------------------------------------------------------------------------

    def observe(self, callback: Callable[[BrokerEvent], None]) -> None:
        """Have ``callback`` called with everything that the broker truly does, as it happens."""
        self._observers.append(callback)
        self.broker.observer = callback if len(self._observers) == 1 else self._tell

    def notice(self, text: str, client: str) -> None:
        """Have the report of a failure say ``text`` of ``client``, where this is a simulation."""
        tell: Callable[[str, str], None] | None = getattr(self.loop, "on_notice", None)
        if tell is not None:
            tell(text, client)

    def restart(self, *, crash: bool = False, spare_laboratory: bool = False) -> None:
        """Restart the broker now; it is back after ``downtime``. ``spare_laboratory``: the test's own connections go on."""
        self._note_by_hand(BROKER_RESTART)
        self._restart(crash=crash, spare_laboratory=spare_laboratory)

    def _restart(self, *, crash: bool, spare_laboratory: bool) -> None:
        self.advance()
        for link in list(self._links):
            if link.exposed or not spare_laboratory:
                link.reset("the broker went down")
        self.broker.restart(crash=crash, spare_laboratory=spare_laboratory)
        self.up_at = self.loop.time() + self.downtime
        self.flush()

    def fail_over(self, host: str, *, seconds: float = FAILOVER_SECONDS) -> None:
        """One of ``hosts`` goes down for so long, with the connections to it; the other goes on, or takes over."""
        if host not in self.hosts:
            raise KitUsageError(
                f"{self.profile.name!r} has no host called {host!r}; it has {', '.join(map(repr, self.hosts))}"
            )
        self._note_by_hand(FAILOVER)
        self._fail_over(host, seconds)

    def _fail_over(self, host: str, seconds: float) -> None:
        self.advance()
        self._host_up_at[host] = self.loop.time() + seconds
        for link in list(self._links):
            if link.exposed and link.hosts is not None and link.hosts[1] == host:
                link.reset("the broker's host went down")
        self.flush()

    def calm(self) -> None:
        """Faults end: every host is up again, and reached again."""
        self._host_up_at.clear()
        self.links.heal_all()

    def disconnect(self, client: str) -> None:
        """Reset every connection of ``client``, which is a process, from its second life on ``worker/2``; it notices, and may
        connect again.
        """
        if client not in self._clients and len(self._clients) < MOST_LABELS:
            known = ", ".join(map(repr, self._clients)) or "none so far"
            raise KitUsageError(
                f"no client called {client!r} has been connected to {self.profile.name!r}; connected: {known}"
            )
        self._note_by_hand(RESET, client)
        self.advance()
        for link in list(self._links):
            if link.client == client:
                link.reset("connection reset by peer")
        self.flush()

    def drop_client(self, client: str, *, silent: bool = False) -> None:
        """The process ``client`` died. Its connections are reset, or only fall ``silent`` until heartbeats are missed."""
        for link in list(self._links):
            if link.client == client:
                link.kill(silent=silent)

    def stall_client(self, client: str, seconds: float) -> None:
        """The process ``client`` stands still for ``seconds``; past its heartbeat the broker gives its connections up."""
        for link in list(self._links):
            if link.client == client:
                link.stall(seconds)

    def enqueue(self, queue: str, message: Message) -> None:
        """Put a message into a queue (declared if need be) past all providers, for instance one that none can decode."""
        self.advance()
        self.broker.declare_queue(queue)
        self.broker.publish("", queue, message)
        self.flush()

    def queues(self) -> list[str]:
        """The queues that have been declared so far, as ``depth`` takes them; ``/topic/name#subscription`` is that of a subscription."""
        return list(self.broker.labels)

    def depth(self, destination: str, *, subscription: str | None = None) -> int:
        """How many messages a queue holds, ready and unacked; a topic's subscription is named beside it.

        0 where the queue is not there yet. In a simulation, one that is never there in a run without faults is an error at its end.
        """
        return self.broker.depth(self._queue_name(destination, subscription))

    def messages(self, destination: str, *, subscription: str | None = None) -> list[QueueMessage]:
        """What is ready in a queue, such as a dead-letter queue, in delivery order; unacked messages are not shown."""
        payloads = [message.payload for message in self.broker.ready(self._queue_name(destination, subscription))]
        envelopes = [
            payload if isinstance(payload, Envelope) else getattr(payload, "envelope", None) for payload in payloads
        ]
        return [envelope.message for envelope in envelopes if envelope is not None]

    def purge(self, destination: str, *, subscription: str | None = None) -> int:
        """Drop what is ready in a queue, and say how much that was."""
        name = self._queue_name(destination, subscription)
        return self.broker.purge(name) if name in self.broker.queues else 0

    def pending(self) -> list[str]:
        """What is still to happen, a line each: held by a queue with a live consumer, or on its way. Empty when idle."""
        return [*under_way(self), *delayed(self)]

    def waits(self) -> bool:
        """Whether all that is ``pending``, and there is something, are messages that wait for their delay."""
        return next(under_way(self), None) is None and next(delayed(self), None) is not None

    def idle(self) -> bool:
        """Whether nothing is ``pending``."""
        return next(under_way(self), None) is None and next(delayed(self), None) is None

    # --- time -------------------------------------------------------------------------------------------------------

    def touch(self) -> float:
        """Now; something moved."""
        self.last_activity = now = self.loop.time()
        return now

    def advance(self) -> float:
        """Bring the state machine to now, and return that."""
        self.last_activity = now = self.loop.time()
        self.broker.advance(now)
        return now

    def flush(self) -> None:
        """Send out what the broker's last steps gave to consumers, meeting the faults of deliveries."""
        if self._flushing:
            return
        self._flushing = True
        dirty = self.dirty
        while dirty:
            link = dirty.popleft()
            outbox, link.outbox = link.outbox, []
            if link.exposed and (self._faults.at_delivery or self._network.at_frames):
                self._deliver_with_faults(link, outbox)
            else:
                for consumer, delivery in outbox:
                    link.deliver(consumer, delivery)
        self._flushing = False
        due = self.broker.next_due()
        alarm = self._alarm
        if alarm is not None and alarm.when() != due:
            alarm.cancel()
            self._alarm = alarm = None
        if alarm is None and due != float("inf"):
            self._alarm = self.loop.call_at(max(due, self.up_at), self._ring, context=self.context)

    def _ring(self) -> None:
        self._alarm = None
        self.advance()
        self.flush()

    # --- what arrives -----------------------------------------------------------------------------------------------

    def take_publish(self, link: Link, publish: Publish) -> None:
        """A publish of the model tier arrives at the broker."""
        self.meet_publish(
            link,
            publish.place.label,
            publish.message.key,
            lambda: self._apply(link, publish),
            lambda outcome: link.confirm(publish, outcome),
        )

    def _apply(self, link: Link, publish: Publish) -> Outcome:
        place = publish.place
        broker = self.broker
        if place.durable:
            place.declare(broker, link.connection)
        if publish.delay > 0:
            # Where the broker may deliver too early, the provider asks for that much more.
            due = broker.now + publish.delay + (self.profile.queue_type().delay_slack or 0.0)
            broker.schedule(due, "" if place.queue else place.exchange, place.queue, publish.message)
            return Outcome.ROUTED
        if place.queue:
            return broker.publish("", place.queue, publish.message)
        return broker.publish(place.exchange, "", publish.message)

    def take_ack(self, link: Link, delivery: Delivery) -> None:
        """An ack of the model tier arrives at the broker, or its connection is lost just before."""
        if not self.loses_ack(link, delivery):
            self.broker.ack(delivery)

    def forget(self, link: Line) -> None:
        """Both ends of a connection are done with it."""
        self._links.pop(link, None)

    def _queue_name(self, destination: str, subscription: str | None) -> str:
        address = Address(parse_destination(destination), subscription)
        place, queues = place_of(address), self.broker.queues
        for name in (place.queue, *wire_names_of(address)):
            if name in queues:
                return name
        for queue in queues.values():
            if queue.label == place.label:
                return queue.name
        self.missed[place.label] = None
        return place.queue
