"""Where faults strike: on connecting, at frames, publishes, acks and deliveries. What each is, is in the registries.

At each point all kinds are asked for, so that no answer shifts the ordinals of another; the first that deviates happens.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from factflow_infra.errors import QueueConnectionError
from factflow_infra_testing.broker.events import FAULT, BrokerEvent
from factflow_infra_testing.broker.faults import (
    ACK_LOST,
    BROKER_RESTART,
    CONFIRM_DELAYED,
    CONFIRM_LOST,
    CONSUMER_PAUSED,
    DELAYS,
    DELIVERY_DELAYED,
    FAILOVER,
    FAILOVER_SECONDS,
    HALF_OPEN,
    PUBLISH_LOST,
    PUBLISH_REFUSED,
    RESET,
    FaultPoints,
)
from factflow_infra_testing.broker.outcomes import Outcome
from factflow_infra_testing.search.network_faults import (
    AFTER,
    CONNECT_REFUSED,
    DNS_FAILURE,
    INSIDE,
    MUTE,
    TO_SERVER,
    UNANSWERED,
    UNHARMED,
    Fate,
    NetworkFaults,
)
from factflow_infra_testing.simulation.links import SYN_TIMEOUT, Links

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable

    from factflow_infra_testing.broker.entries import Delivery
    from factflow_infra_testing.broker.lines import Line
    from factflow_infra_testing.broker.queue_types import Profile
    from factflow_infra_testing.search.decisions import Decisions

_SLOWER_END: Final = 1.5
"""How many heartbeats the end that notices a silent connection last takes."""


class Strikes:
    """The part of a simulated broker that asks for faults and has its lines suffer them."""

    profile: Profile
    heartbeat: float
    context: contextvars.Context

    def __init__(self, loop: asyncio.AbstractEventLoop, decisions: Decisions) -> None:
        self.loop = loop
        network: Any = getattr(loop, "network", None)
        self.links: Links = network.links if network is not None else Links()
        """Between the hosts of clients and broker: those of the simulation's network, where there is one."""
        self._network = NetworkFaults(decisions)
        self._faults = FaultPoints(decisions)
        self._observers: list[Callable[[BrokerEvent], None]] = []

    if TYPE_CHECKING:

        def _restart(self, *, crash: bool, spare_laboratory: bool) -> None: ...
        def _fail_over(self, host: str, seconds: float) -> None: ...

    # --- connecting -------------------------------------------------------------------------------------------------

    def meet_connect(self, client: str, there: str) -> tuple[str, int]:
        """What befalls an attempt of ``client`` to connect to the broker's host ``there``: a kind of fault and its choice, or
        ``("", 0)``.
        """
        name = client.partition("/")[0]
        kind, choice = self._network.at_connect(f"{name}>{there}")
        if choice and self._observers:
            self._tell(BrokerEvent(self.loop.time(), FAULT, there, "", 0, client=client, reason=kind))
        return kind, choice

    async def _meet_connect(self, client: str, host: str, there: str) -> None:
        """The faults of a network between the model tier's client on ``host`` and ``there``, as a client library tells them."""
        kind, choice = self.meet_connect(client, there)
        if kind == DNS_FAILURE:
            raise QueueConnectionError("The broker's host is not known to the name server.")
        if choice == (UNANSWERED if kind == CONNECT_REFUSED else MUTE):
            await asyncio.sleep(SYN_TIMEOUT)
        if kind:
            raise QueueConnectionError("The broker refused the connection, or ended it at once.")
        while not self.links.passable(host, there):
            await self.links.healed(self.loop)

    # --- frames -----------------------------------------------------------------------------------------------------

    @property
    def frames_at_risk(self) -> bool:
        """Whether it is worth while to ask ``meet_frame``."""
        return self._network.at_frames

    def meet_frame(self, line: Line, operation: str, label: str) -> Fate:
        """What befalls a frame that reaches the broker on ``line``, such as an ``ack`` on queue ``label``.

        A frame that is lost, or falls into silence, must not be taken; ``Fate`` says what else there is to do.
        """
        if not line.exposed or line.hosts is None:
            return UNHARMED
        fate = self._network.at_frame(f"{operation} {label}", divisible=False, apart=True)
        if fate.kind:
            self._note_fault(fate.kind, label, line, "")
        if fate.silent:
            line.hush(fate.silent)
        elif fate.partition:
            self.partition(line, fate.partition)
        return fate

    def partition(self, line: Line, seconds: float) -> None:
        """Nothing passes between the two hosts of ``line`` for so long."""
        if line.hosts is not None:
            self.links.cut_for(*line.hosts, seconds, loop=self.loop, context=self.context)

    # --- publishes and acks -----------------------------------------------------------------------------------------

    def meet_publish(
        self,
        line: Line,
        label: str,
        key: str,
        apply: Callable[[], Outcome],
        confirm: Callable[[Outcome], None],
    ) -> None:
        """A publish of message ``key`` to ``label`` arrives on ``line``: it is taken and confirmed, or meets a fault.

        ``apply`` puts it into its queues; ``confirm`` sends the answer, perhaps later. Either may not be called at all.
        """
        kind, choice = "", 0
        if line.exposed and self._faults.at_publish:
            kind, choice = self._faults.ask(self._faults.at_publish, label)
            if choice:
                self._note_fault(kind, label, line, key)
        if kind == PUBLISH_LOST:
            line.reset("connection reset by peer")
            return
        outcome = Outcome.REFUSED if kind == PUBLISH_REFUSED else apply()
        if kind == CONFIRM_LOST:
            line.reset("connection reset by peer")
        elif kind == FAILOVER:
            self._fail_over_by_fault(line)
        elif kind == BROKER_RESTART:
            self._restart_by_fault(choice)
        elif kind == CONFIRM_DELAYED:
            self.loop.call_later(DELAYS[choice], confirm, outcome, context=self.context)
        else:
            confirm(outcome)

    def loses_ack(self, line: Line, delivery: Delivery) -> bool:
        """Whether ``line`` is lost (it is reset then) before the ack of ``delivery`` reaches the broker."""
        if line.exposed and self._faults.at_ack:
            label = delivery.queue.label
            if self._faults.ask(self._faults.at_ack, label)[1]:
                self._note_fault(ACK_LOST, label, line, delivery.entry.message.key)
                line.reset("connection reset by peer")
                return True
        return False

    # --- deliveries -------------------------------------------------------------------------------------------------

    def _deliver_with_faults(self, link: Line, outbox: list[tuple[Any, Delivery]]) -> None:
        for consumer, delivery in outbox:
            if not link.server_open or link.cut:
                return  # what the broker still meant to send went back to its queue with the rest
            label = delivery.queue.label
            kind, choice = self._faults.ask(self._faults.at_delivery, label)
            fate = UNHARMED
            if self._network.at_frames and link.hosts is not None:
                fate = self._network.at_frame(f"deliver {label}", divisible=link.divisible, apart=True)
            if not choice:
                self._deliver_to_fate(link, consumer, delivery, fate)
                continue
            self._note_fault(kind, label, link, delivery.entry.message.key)
            if kind == DELIVERY_DELAYED:
                link.delay_down(DELAYS[choice])
                link.deliver(consumer, delivery)
            elif kind == RESET:
                if choice == 2:
                    link.deliver(consumer, delivery)
                link.reset("connection reset by peer")
            elif kind == CONSUMER_PAUSED:
                link.deliver(consumer, delivery)
                link.fall_silent(broker_after=self.heartbeat, client_after=_SLOWER_END * self.heartbeat, keep_sent=True)
            elif kind == HALF_OPEN:
                first, last = self.heartbeat, _SLOWER_END * self.heartbeat
                by_broker, by_client = (first, last) if choice == 1 else (last, first)
                link.fall_silent(broker_after=by_broker, client_after=by_client)
            elif kind == FAILOVER:
                self._fail_over_by_fault(link)
            else:
                self._restart_by_fault(choice)

    def _deliver_to_fate(self, link: Line, consumer: Any, delivery: Delivery, fate: Fate) -> None:
        if fate.kind:
            self._note_fault(fate.kind, delivery.queue.label, link, delivery.entry.message.key)
        if fate.delay:
            link.delay_down(fate.delay)
        if fate.split:
            link.deliver_split(consumer, delivery, fate.split)
        elif fate.loss == INSIDE:
            link.deliver_half(consumer, delivery)
        elif fate.loss in (0, AFTER) and fate.silent in (0, TO_SERVER):
            link.deliver(consumer, delivery)
        if fate.loss:
            link.reset("connection reset by peer")
        elif fate.silent:
            link.hush(fate.silent)
        elif fate.partition:
            self.partition(link, fate.partition)

    def _fail_over_by_fault(self, line: Line) -> None:
        if line.hosts is None:
            line.reset("the broker's host went down")
        else:
            self._fail_over(line.hosts[1], FAILOVER_SECONDS)

    def _restart_by_fault(self, choice: int) -> None:
        self._restart(crash=choice == 2, spare_laboratory=True)

    def _note_fault(self, kind: str, label: str, link: Line, key: str) -> None:
        if self._observers:
            self._tell(BrokerEvent(self.loop.time(), FAULT, label, key, 0, client=link.client, reason=kind))

    def _note_by_hand(self, kind: str, client: str = "") -> None:
        """The test itself has the broker suffer a fault of this kind."""
        if self._observers:
            self._tell(BrokerEvent(self.loop.time(), FAULT, self.profile.name, "", 0, client=client, reason=kind))

    def _tell(self, event: BrokerEvent) -> None:
        for observer in self._observers:
            observer(event)
