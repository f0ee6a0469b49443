"""What a run knows of itself: what the brokers did and what was recorded, as the checks and the digest ask for it."""

from __future__ import annotations

from collections import Counter
from contextvars import Context, copy_context
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from factflow_infra.errors import InfraError
from factflow_infra.queue.destinations import parse_destination
from factflow_infra.queue.transport import DestinationKind
from factflow_infra_testing.broker.events import ACCEPTED, ACKED, DEAD_LETTERED, DELIVERED, DROPPED, FAULT, REQUEUED
from factflow_infra_testing.history.checkers import Judgement, Verdict
from factflow_infra_testing.history.operations import MARKED, History
from factflow_infra_testing.simulation import oversights
from factflow_infra_testing.simulation.checks import CheckFailedError
from factflow_infra_testing.simulation.names import LABORATORY, Names
from factflow_infra_testing.simulation.owners import current_owner
from factflow_infra_testing.simulation.processes import Incarnation
from factflow_infra_testing.simulation.seen import Seen

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from factflow_infra_testing.broker.events import BrokerEvent
    from factflow_infra_testing.broker.server import SimulatedBroker
    from factflow_infra_testing.search.decisions import Decisions
    from factflow_infra_testing.simulation.loop import DeterministicLoop
    from factflow_infra_testing.simulation.owners import Owner

_WITNESSED: Final = {
    ACCEPTED: "published to",
    DELIVERED: "got from",
    ACKED: "acked on",
    REQUEUED: "gave back to",
    DROPPED: "dropped from",
    DEAD_LETTERED: "dead-lettered from",
}
RESTLESS_EVENTS: Final = 10_000
RESTLESS_EVENTS_A_MESSAGE: Final = 100
"""A run with more broker events than these allow is going round in circles, whatever the clock says. Faults may be why: then they
end, and what happens from there on is counted."""


class Observing:
    """The history of a run, and the events of its brokers."""

    def __init__(self, *, decisions: Decisions, loop: DeterministicLoop) -> None:
        self.loop = loop
        self.context: Context = copy_context()
        """Of the test itself: what runs in it belongs to no process."""
        self.history = History()
        self._decisions = decisions
        self._brokers: dict[str, SimulatedBroker] = {}
        self._events: list[BrokerEvent] = []
        self._allowed_events = RESTLESS_EVENTS
        self._keys: set[str] = set()
        self.unrecorded = False
        """Whether somebody may have a client of its own, whose dealings are in no history."""
        self._witnessed: list[tuple[int, BrokerEvent]] = []
        self.names = Names()
        self._struck = False  # by a fault of the broker or the network, whether the decisions know of it or the test did it by hand
        loop.network.on_fault = self._network_fault
        loop.on_notice = self._notice
        loop.on_late_job = self._late_job

    def time(self) -> float:
        """Virtual seconds since the run began."""
        return self.loop.clock.now

    @property
    def decisions(self) -> Decisions:
        """Where every choice of this run comes from."""
        return self._decisions

    # -- what happens -----------------------------------------------------------------------------------------------------

    def _observe(self, event: BrokerEvent) -> None:
        if self.history.closed:
            return
        self._events.append(event)
        if self.unrecorded:
            self._witnessed.append((len(self.history.operations), event))
        if event.kind == FAULT:
            self._struck = True
            self.history.note(event.time, event.client or "broker", "fault", event.queue, event.key, event.reason)
        elif event.kind == ACCEPTED:
            self._keys.add(event.key)
        if len(self._events) > self._allowed_events + RESTLESS_EVENTS_A_MESSAGE * len(self._keys):
            self._too_many_events()

    def witness(self, recorded: Container[str]) -> None:
        """Have the report show what the brokers saw of clients of one's own, which no recorder is around: those of processes
        other than ``recorded`` ones.
        """
        for position, event in self._witnessed:
            name = event.client.partition("/")[0]
            what = _WITNESSED.get(event.kind)
            if not name and event.kind in (DROPPED, DEAD_LETTERED):
                self.history.witness(position, event.time, "broker", what or "", event.queue, event.key, event.reason)
            elif what is not None and name not in recorded and name in self.process_names():
                self.history.witness(position, event.time, name, what, event.queue, event.key, event.reason)

    def process_names(self) -> Container[str]:
        """Those of the processes of this run."""
        return ()

    def _too_many_events(self) -> None:
        moves = Counter((e.key, e.queue) for e in self._events if e.kind == DELIVERED)
        (key, queue), most = moves.most_common(1)[0]
        self.fail(restless(f"{key!r} was delivered {most} times from {queue}, and goes on"))

    def _network_fault(self, client: str, kind: str, target: str) -> None:
        if not self.history.closed:
            self.history.note(self.time(), client, "fault", target, detail=kind)

    def struck(self, target: str, fault: str) -> None:
        """A fault of storage strikes the process whose code is running."""
        if not self.history.closed:
            self.history.note(self.time(), self._running(), "fault", target, detail=fault)

    def _late_job(self, fault: str, owner: Owner) -> None:
        if not self.history.closed:
            self.history.note(self.time(), _name_of(owner), "fault", owner.aim, detail=fault)

    def _notice(self, text: str, owner: Owner | str | None) -> None:
        name = owner.partition("/")[0] if isinstance(owner, str) else _name_of(owner)
        self.history.notice(f"{text} ({name})")

    def handler_failed(self, name: str, target: str, outcome: object) -> None:
        """A handler raised ``outcome``, or returned it where it is no verdict: the report says what the timeline has no room for."""
        if told := oversights.of_handler(target, outcome):
            self.history.notice(f"{told} ({name})")

    def log(self, level: str, text: str) -> None:
        """A provider logged something."""
        self.history.note(self.time(), self._running(), "log", level, detail=text)

    @staticmethod
    def _running() -> str:
        """Whose code is running: a process, or the test itself."""
        return _name_of(current_owner())

    def excuses(self, error: BaseException) -> bool:
        """Whether a crash may be put down to the faults of this run."""
        return (self._struck or bool(self._decisions.deviations)) and not isinstance(error, AssertionError)

    def unhurt(self) -> bool:
        """Whether nothing has struck this run so far, neither by a plan nor by hand."""
        struck = self._struck or bool(self._decisions.deviations)
        return not struck and not any(op.kind in MARKED for op in self.history.operations)

    def fail(self, error: BaseException) -> None:
        """End the run with ``error``."""
        self.loop.abort(error)

    # -- what the checks ask ----------------------------------------------------------------------------------------------

    def canonical(self, destination: str) -> str:
        """The one spelling of a destination in histories and plans: the bare name of a queue, ``/topic/name`` of a topic."""
        return _spelled(destination) if type(destination) is str else str(destination)

    def queue_events(self) -> list[BrokerEvent]:
        """What the brokers did, in order."""
        return self._events

    def seen(self) -> Seen:
        """What happened until now, on all brokers."""
        return Seen(self.history, self._events, tuple(self._brokers.values()))

    def dead_letters(self, destination: str) -> dict[str, str]:
        """Ids of the messages that were dead-lettered from ``destination``, with the dead-letter queue each is in.

        A topic: from all of its subscriptions; ``/topic/name#subscription``: from that one.
        """
        return self.seen().dead_letters(self.canonical(destination))

    def held(self, target: str) -> set[str]:
        """Ids of the messages that a queue holds: ready, delayed and unacked."""
        return self.seen().held(target)

    def queues(self) -> dict[str, None]:
        """Every queue, topic and subscription that anybody in this run has had to do with, as checks call them."""
        told = {event.queue: None for event in self._events if event.queue}
        told |= {op.target: None for op in self.history.of("publish", "handle", "settle")}
        told |= {label: None for broker in self._brokers.values() for label in broker.queues()}
        return told | {self.canonical(name): None for name in self.names.dead_letter_queues()}

    def has_consumer(self, target: str) -> bool:
        """Whether a live subscription takes from ``target``."""
        return self.seen().has_consumer(target)

    # -- what a run leaves --------------------------------------------------------------------------------------------------------

    def lines(self) -> Iterator[str]:
        """Everything that happened, a line each: equal runs have equal lines."""
        for op in self.history.operations:
            yield f"{op.invoked!r} {op.completed!r} {op.process} {op.kind} {op.target} {op.key} {op.outcome} {op.detail}"
        for e in self._events:
            yield f"{e.time!r} {e.kind} {e.queue} {e.key} {e.entry} {e.client} {e.redelivered} {e.count} {e.source} {e.reason}"

    def digest(self) -> str:
        """32 hexadecimal digits over ``lines``."""
        digest = blake2b(digest_size=16)
        for line in self.lines():
            digest.update(line.encode("utf-8", "surrogatepass") + b"\n")
        return digest.hexdigest()


def _name_of(owner: object) -> str:
    return owner.process.name if isinstance(owner, Incarnation) else LABORATORY


@lru_cache(maxsize=1024)
def _spelled(destination: str) -> str:
    try:
        parsed = parse_destination(destination)
    except InfraError:
        return destination  # no destination: the provider says so
    return parsed.name if parsed.kind is DestinationKind.QUEUE else f"/topic/{parsed.name}"


def restless(explanation: str) -> CheckFailedError:
    """The failure of a run that finds no rest."""
    return CheckFailedError(Verdict("convergence", Judgement.FAIL, explanation))
