"""``sim.check``: the checkers of ``history.checkers``, bound to a run, raising what a test understands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from factflow_infra_testing.errors import KitUsageError
from factflow_infra_testing.history import checkers, storage_checkers
from factflow_infra_testing.history.checkers import Judgement, Verdict
from factflow_infra_testing.history.operations import subscribed
from factflow_infra_testing.simulation.names import ASK_BEFORE, LABORATORY, check_known

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from factflow_infra_testing.history.operations import History
    from factflow_infra_testing.simulation.seen import Seen
    from factflow_infra_testing.simulation.simulation import Simulation

    Checker = Callable[[History, str], Verdict]


class CheckFailedError(AssertionError):
    """A promise was broken. ``verdict`` names the checker, and the messages concerned."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(f"{verdict.checker}: {verdict.explanation}")
        self.verdict = verdict


class CheckUnknownError(AssertionError):
    """The check cannot tell, and must not be taken for a pass."""


class Checks:
    """The checks of one run, for use after ``await sim.drain()``.

    Each raises ``CheckFailedError`` when the promise is broken, and returns its ``Verdict`` else. A verdict ``UNKNOWN`` means
    that the run had nothing to judge (no handling failed, so none could be retried too often): a search in which a check
    could never judge is reported, as a property that could not have failed is no evidence.
    """

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self.labels: dict[str, bool] = {}

    def no_loss(self, destination: str, *, subscription: str | None = None, profile: str | None = None) -> Verdict:
        """Every confirmed publish was handled (verdict ack) or dead-lettered."""
        target, seen = self._seen(destination, subscription, profile)
        return self._judge(
            checkers.no_loss(
                seen.history,
                target,
                dead_lettered=seen.dead_letters(target),
                held=seen.held(target),
                live=seen.has_consumer(target),
                recorded=not self._sim.unrecorded,
            ),
            target,
        )

    def no_phantom(self, destination: str, *, subscription: str | None = None, profile: str | None = None) -> Verdict:
        """Nothing was handled that was not sent."""
        target, seen = self._seen(destination, subscription, profile)
        return self._judge(
            checkers.no_phantom(
                seen.history,
                target,
                dead_letters=seen.dead_lettered_to(target),
                recorded=not self._sim.unrecorded,
            ),
            target,
        )

    def no_duplicate_after_ack(
        self, destination: str, *, subscription: str | None = None, profile: str | None = None
    ) -> Verdict:
        """No delivery of a message's entry started after its ack had reached the broker."""
        target, seen = self._seen(destination, subscription, profile)
        return self._judge(checkers.no_duplicate_after_ack(seen.events, target), target)

    def redelivery_honesty(
        self, destination: str, *, subscription: str | None = None, profile: str | None = None
    ) -> Verdict:
        """The redelivered flag and the delivery count told the truth, as far as the broker's profile knows it."""
        target, seen = self._seen(destination, subscription, profile)
        events = seen.events
        crashed = any(event.kind == "fault" and event.reason == "broker-restart" for event in events)
        flags = seen.flags_redelivery(target)
        return self._judge(checkers.redelivery_honesty(events, target, crashed=crashed, flags=flags), target)

    def fifo_per_key(self, destination: str, *, subscription: str | None = None, profile: str | None = None) -> Verdict:
        """First deliveries followed the order of sending, within a producer and ordering key."""
        target, seen = self._seen(destination, subscription, profile)
        return self._judge(checkers.fifo_per_key(seen.history, target), target)

    def bounded_redelivery(
        self, destination: str, *, max_retries: int = 3, subscription: str | None = None, profile: str | None = None
    ) -> Verdict:
        """At most ``max_retries + 1`` failed handlings of a message, then the dead-letter queue."""
        target, seen = self._seen(destination, subscription, profile)
        return self._judge(
            checkers.bounded_redelivery(
                seen.history,
                seen.events,
                target,
                max_retries=max_retries,
                dead_lettered=seen.dead_letters(target),
            ),
            target,
        )

    def in_flight_cap(
        self,
        destination: str,
        cap: int,
        *,
        subscription: str | None = None,
        profile: str | None = None,
        process: str | None = None,
    ) -> Verdict:
        """Never more than ``cap`` handlers at once in one process."""
        target, seen = self._seen(destination, subscription, profile)
        if process is not None:
            check_known("process", process, (*self._sim.processes(), LABORATORY))
        return self._judge(checkers.in_flight_cap(seen.history, target, cap=cap, process=process), target)

    def exactly_once_effect(self, effects: Iterable[str], *, expected: Iterable[str] | None = None) -> Verdict:
        """Each id is at most once among ``effects``; with ``expected``, exactly those are there."""
        return self._judge(checkers.exactly_once_effect(effects, expected=expected), "effects")

    def queue(self, destination: str, *, subscription: str | None = None, profile: str | None = None) -> None:
        """All that holds for any service on any queue: no loss, no phantom, no duplicate after ack, honest redelivery."""
        for check in (self.no_loss, self.no_phantom, self.no_duplicate_after_ack, self.redelivery_honesty):
            check(destination, subscription=subscription, profile=profile)

    # Storage. ``kind``, ``host`` and ``profile`` are those of ``sim.storage``. Read back what matters before, with the
    # test's own provider or ``sim.read_back``: what nobody looked at is not judged.

    def linearizable(self, kind: str = "filesystem", *, host: str = "localhost", profile: str | None = None) -> Verdict:
        """Key by key there is one order of all calls, conditional and unconfirmed ones included, that explains every answer."""
        return self._judge_storage(storage_checkers.linearizable, kind, host, profile)

    def whole_objects(
        self, kind: str = "filesystem", *, host: str = "localhost", profile: str | None = None
    ) -> Verdict:
        """S1: every read gave what one write put there, content and metadata together."""
        return self._judge_storage(storage_checkers.whole_objects, kind, host, profile)

    def durable_writes(
        self, kind: str = "filesystem", *, host: str = "localhost", profile: str | None = None
    ) -> Verdict:
        """S2: every object whose write has returned was found since, unless somebody may have deleted it."""
        return self._judge_storage(storage_checkers.durable_writes, kind, host, profile)

    def honest_listings(
        self, kind: str = "filesystem", *, host: str = "localhost", profile: str | None = None
    ) -> Verdict:
        """S5: listings were in order, hid what is hidden, and missed no finished write."""
        return self._judge_storage(storage_checkers.honest_listings, kind, host, profile)

    def honoured_conditions(
        self, kind: str = "filesystem", *, host: str = "localhost", profile: str | None = None
    ) -> Verdict:
        """S7: ``if_absent`` and ``if_match`` had one winner each."""
        return self._judge_storage(storage_checkers.honoured_conditions, kind, host, profile)

    def storage(self, kind: str = "filesystem", *, host: str = "localhost", profile: str | None = None) -> None:
        """All of these that the run can judge."""
        for checker in storage_checkers.STORAGE_CHECKERS:
            self._judge_storage(checker, kind, host, profile)

    def _judge_storage(self, checker: Checker, kind: str, host: str, profile: str | None) -> Verdict:
        store = self._sim.known_store(kind, host, profile)
        verdict = checker(self._sim.history, store)
        if verdict.judgement is Judgement.FAIL:
            raise CheckFailedError(verdict)
        self.sometimes(verdict.judgement is Judgement.PASS, f"{verdict.checker} on {store} could judge")
        return verdict

    def sometimes(self, condition: bool, label: str) -> None:
        """Say that ``condition`` should hold in some run of a search; one that never did is reported at its end."""
        self.labels[label] = self.labels.get(label, False) or bool(condition)

    def _seen(self, destination: str, subscription: str | None, profile: str | None) -> tuple[str, Seen]:
        """The target that is meant, and what happened on its broker."""
        target, seen = subscribed(self._sim.canonical(destination), subscription), self._sim.seen()
        if self._sim.drained_at is not None and self._sim.unhurt():
            check_known("queue in this run", target, self._sim.queues(), ASK_BEFORE)
        if profile is not None:
            return target, seen.of(self._sim.broker(profile))
        if seen.is_of_one:
            return target, seen
        where = seen.where(target)
        if len(where) > 1:
            names = [broker.profile.name for broker in where]
            raise KitUsageError(f"{target!r} is on {' and '.join(names)}: say which is meant, as profile={names[0]!r}")
        return target, seen.of(where[0]) if where else seen

    def _judge(self, verdict: Verdict, target: str) -> Verdict:
        drained_at = self._sim.drained_at
        if drained_at is None:
            raise CheckUnknownError(
                f"{verdict.checker} on {target} cannot tell before the run is drained: `await sim.drain()` first"
            )
        operations = self._sim.history.operations
        if any(operations[index].kind == "publish" for index in range(drained_at, len(operations))):
            raise CheckUnknownError(
                f"{verdict.checker} on {target} cannot tell: there were publishes since the run was drained; "
                "`await sim.drain()` again"
            )
        if verdict.judgement is Judgement.FAIL:
            raise CheckFailedError(verdict)
        self.sometimes(verdict.judgement is Judgement.PASS, f"{verdict.checker} on {target} could judge")
        return verdict
