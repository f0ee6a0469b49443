"""How a run comes to rest: on under faults for a while, then without them until there is nothing left to do."""

from __future__ import annotations

import asyncio
from collections import Counter
from math import inf
from typing import TYPE_CHECKING, Final

from factflow_infra_testing.errors import KitUsageError
from factflow_infra_testing.history.operations import LOOKS
from factflow_infra_testing.simulation.names import LABORATORY
from factflow_infra_testing.simulation.observing import RESTLESS_EVENTS, restless
from factflow_infra_testing.simulation.striking import Striking

if TYPE_CHECKING:
    from factflow_infra_testing.search.decisions import Decisions
    from factflow_infra_testing.simulation.loop import DeterministicLoop
    from factflow_infra_testing.simulation.processes import Process
    from factflow_infra_testing.simulation.session import SimulationSession

QUIET_SECONDS: Final = 60.0
FAULTY_SECONDS: Final = 300.0
"""How long a drain lets a run go on under faults, in virtual seconds, before it ends them."""
SETTLED_SECONDS: Final = 2.0
"""How long nothing must have happened, in virtual seconds, before a drain ends the faults early."""
CONVERGENCE_SECONDS: Final = 4 * 3600.0
"""How long a run may take to come to rest after the last fault, in virtual seconds."""


class Draining(Striking):
    """The end of faults, and convergence after it."""

    def __init__(self, *, decisions: Decisions, session: SimulationSession, loop: DeterministicLoop) -> None:
        super().__init__(decisions=decisions, session=session, loop=loop)
        self.drained_at: int | None = None
        """How many operations there were when the run was last drained."""
        self._calm = False

    async def drain(
        self,
        *,
        quiet: float = QUIET_SECONDS,
        under_faults: float = FAULTY_SECONDS,
        within: float = CONVERGENCE_SECONDS,
    ) -> None:
        """Run until there is nothing left to do, then return; the test's own calls meet no faults. All times are virtual seconds.

        First under faults, until the brokers are idle, ``under_faults`` seconds have passed, or so much has happened that
        nothing else would be seen. Then faults end:
        connections heal, processes resume and are started again, a broker that strands messages is restarted, and the run
        must converge: no queue with a live subscription holds anything, no provider is reconnecting, and for ``quiet`` seconds nothing has
        happened. Raises ``CheckFailedError`` where it does not ``within`` so many seconds: a message goes round for ever, is never
        settled, or waits for a longer delay. What delays take longer because a clock was set forward does not count.
        """
        _check_seconds(quiet=quiet, under_faults=under_faults, within=within)
        if any(self._decisions.enabled(kind) for kind in _kinds()):
            await self._run_under_faults(under_faults)
        self.end_faults()
        for broker in self._brokers.values():
            if broker.broker.stranded:
                broker.restart(spare_laboratory=True)  # as an operator has to: nothing else gives those messages back
        limit = self.time() + within
        held: list[str] = []
        waited = 0.0
        while True:
            before, held_before = self._progress(), held
            await asyncio.sleep(quiet)
            held = [line for broker in self._brokers.values() for line in broker.pending()]
            held += [f"{process.name} is still reconnecting" for process in self._reconnecting()]
            moved = before != self._progress()
            if not moved and not held and not self._restarting():
                break
            # A broker that is told the time at which a message is due (Pulsar) believes the sender's clock, which may be hours ahead.
            waited = 0.0 if moved or not self._only_waits() else waited + quiet
            if 0.0 < waited <= self.loop.clock.most_ahead():
                limit += quiet
            if self.time() > limit and (held or not held_before):
                raise restless(self._explained(within, held))
        self.drained_at = len(self.history.operations)

    def end_faults(self) -> None:
        """No more faults from here on; paused processes go on."""
        self._calm = True
        self._allowed_events = RESTLESS_EVENTS + len(self._events)
        self._decisions.quiet()
        self.loop.on_step = None
        self.loop.network.calm()
        for broker in self._brokers.values():
            broker.calm()
        for process in self._processes.values():
            process.resume()

    def _too_many_events(self) -> None:
        """Only what goes round without faults is the service's doing: with them, each redelivery may meet the next."""
        if self._calm or not self._decisions.deviations:
            super()._too_many_events()
            return
        self._calm = True
        self._allowed_events += len(self._events)  # until they have ended
        told = f"faults end here: {len(self._events)} events of the broker under them"
        self.history.note(self.time(), LABORATORY, "log", "warning", detail=told)
        self.loop.call_soon(self.end_faults, context=self.context)  # not in the middle of the broker's work

    async def _run_under_faults(self, seconds: float) -> None:
        end = self.time() + seconds
        pause, now = 0.05, self._progress()
        while self.time() < end and not self._calm:
            before = now
            await asyncio.sleep(min(pause, end - self.time()))
            now = self._progress()
            if before != now or self._restarting() or not all(b.idle() for b in self._brokers.values()):
                pause = min(pause * 2, 30.0)
            elif pause < SETTLED_SECONDS:
                pause = SETTLED_SECONDS  # a service that only waits a moment is still to meet its faults
            else:
                return

    def _reconnecting(self) -> list[Process]:
        # Their subscriptions are not live, so what waits for them in a queue is not held: it will be.
        return [
            process
            for process, life, provider in self._providers
            if process.lives == life and process.status == "running" and provider.health().reconnect_in_progress
        ]

    def _restarting(self) -> bool:
        return any(process.status in ("restarting", "paused") for process in self._processes.values())

    def _progress(self) -> tuple[int, int]:
        return self.history.moves, len(self._events)

    def _only_waits(self) -> bool:
        """Whether messages wait for their delay, and there is nothing else to do."""
        busy = [broker for broker in self._brokers.values() if not broker.idle()]
        return (
            bool(busy)
            and all(broker.waits() for broker in busy)
            and not self._reconnecting()
            and not self._restarting()
        )

    def _explained(self, within: float, held: list[str]) -> str:
        text = f"no rest {_span(within)} after the last fault: {'; '.join(held) if held else self._unrest()}"
        if self._only_waits():
            text += (
                ". If such delays are meant, give the run the time: `await sim.drain(within=...)` in virtual seconds, which cost "
                f"nothing; it was {within:g}"
            )
        return text

    def _unrest(self) -> str:
        moves = Counter(f"{op.process} {op.kind} {op.target}" for op in self.history.operations if op.kind not in LOOKS)
        told = [f"{what} ({times} times)" for what, times in moves.most_common(3)]
        return f"it goes on and on: {', '.join(told)}"


def _span(seconds: float) -> str:
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds:g} s"


def _check_seconds(**given: object) -> None:
    for name, seconds in given.items():
        least_is_wrong = name == "quiet" and seconds == 0
        if (
            isinstance(seconds, bool)
            or not isinstance(seconds, (int, float))
            or not 0 <= seconds < inf
            or least_is_wrong
        ):
            least = "above 0" if name == "quiet" else "from 0"
            raise KitUsageError(f"sim.drain takes `{name}` in virtual seconds, a number {least}, got {seconds!r}")


def _kinds() -> tuple[str, ...]:
    from factflow_infra_testing.search.faults import known_kinds

    return tuple(known_kinds())
