"""The part of the loop that knows whose callback it is: owners are killed, paused and resumed here."""

# pyright: reportPrivateUsage=false, reportUnknownMemberType=false
# ruff: noqa: SLF001 - a loop and its handles share private state, as in asyncio itself
from __future__ import annotations

from collections import deque
from heapq import heapify
from typing import TYPE_CHECKING, Any, cast
from weakref import ref

from factflow_infra_testing.simulation.asyncgens import AsyncGenerators
from factflow_infra_testing.simulation.loop_surface import LoopSurface
from factflow_infra_testing.simulation.owners import OWNER, Owner
from factflow_infra_testing.simulation.tasks import SimulatedTimer, label_of
from factflow_infra_testing.simulation.waiting import describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from factflow_infra_testing.simulation.clock import Clock
    from factflow_infra_testing.simulation.loop import DeterministicLoop
    from factflow_infra_testing.simulation.trace import Trace

_MADE_LIMIT = 1024
"""References to tasks that are kept before those to finished ones are dropped."""


class OwnedLoop(LoopSurface):
    """What is ready, what is scheduled, and whose it is.

    ``graveyard`` holds on to what the dead left behind until the run is over; ``dead`` are the owners that were killed.
    """

    def __init__(self, clock: Clock, trace: Trace | None) -> None:
        super().__init__()
        self.clock = clock
        self.graveyard: list[Any] = []
        self.dead: list[Owner] = []
        self._ready: deque[Any] = deque()
        self._scheduled: list[tuple[float, int, SimulatedTimer]] = []
        self._made: list[ref[Any]] = []
        self._made_limit = _MADE_LIMIT
        self._stopping = False
        self._thread_id: int | None = None
        self._generators = AsyncGenerators(cast("DeterministicLoop", self))
        self._trace = trace
        self._abort: BaseException | None = None
        self._on_step: Callable[[Owner, Any], None] | None = None
        self._paused: dict[Owner, list[Any]] = {}
        self._watched = self._strict = trace is not None
        """Whether ``_admit`` has to be asked about the callbacks of owners, and about all others too."""

    @property
    def on_step(self) -> Callable[[Owner, Any], None] | None:
        """Called before each callback of an owned process. Costs nothing while it is None."""
        return self._on_step

    @on_step.setter
    def on_step(self, hook: Callable[[Owner, Any], None] | None) -> None:
        self._on_step = hook
        self._watch()

    def _watch(self) -> None:
        self._strict = bool(self._trace or self._abort)
        self._watched = bool(self._strict or self.dead or self._paused or self._on_step)

    def _admit(self, handle: Any, owner: Owner | None) -> bool:
        """Whether this callback of ``owner`` may run. Only asked while there is a reason to ask."""
        if self._abort is not None:
            raise self._abort
        if owner is not None:
            step = self._on_step
            if step is not None and owner.alive and not owner.paused:
                step(owner, handle)
            if not owner.alive:
                self.graveyard.append(handle)
                return False
            if owner.paused:
                self._paused[owner].append(handle)
                return False
        if self._trace is not None:
            self._trace.add(self.clock.now, label_of(handle._callback))
        return True

    def remember(self, task: Any) -> None:
        """Keep a weak reference to a task that was made on this loop."""
        made = self._made
        made.append(ref(task))
        if len(made) > self._made_limit:
            self._made_limit = max(_MADE_LIMIT, 2 * len(self.pending_tasks()))

    def pending_tasks(self) -> list[Any]:
        """All tasks that are not done, in the order they were made."""
        # Not asyncio.all_tasks: that walks over every task of the process, those that earlier runs left included.
        found = [task for made in self._made if (task := made()) is not None and not task.done()]
        self._made[:] = [ref(task) for task in found]
        return found

    def tasks_of(self, owner: Owner | None) -> list[Any]:
        """The tasks of ``owner`` that are not done, in the order they were made."""
        return [task for task in self.pending_tasks() if getattr(task, "owner", None) is owner]

    def kill(self, owner: Owner, *, connections: str = "reset") -> None:
        """End ``owner`` at once. No code of it runs any more: no ``finally``, no ``except``, no callback, no job.

        Its ``connections``: ``"reset"`` (the peers see a reset after what was already sent), ``"eof"`` or ``"silent"``
        (the peers see nothing at all). Killing the dead changes nothing.
        """
        if not owner.alive:
            return
        # Whoever holds these references decides when coroutines are collected, and collecting one runs its `finally`.
        self.graveyard += self.tasks_of(owner)
        self.graveyard += self._generators.of(owner)
        self.graveyard += self._paused.pop(owner, ())
        owner.alive = owner.paused = False
        self.dead.append(owner)
        self._watched = True
        self.graveyard += [entry[2] for entry in self._scheduled if entry[2]._context.get(OWNER) is owner]
        self._keep_timers(lambda timer: timer._context.get(OWNER) is not owner)
        self.drop_signal_handlers(owner)
        if self._network is not None:
            self._network.owner_died(owner, connections)

    def pause(self, owner: Owner) -> None:
        """Stop running ``owner`` for a while, as SIGSTOP does: its timers fall due, its peers see only silence."""
        if owner.alive and not owner.paused:
            owner.paused = True
            self._paused[owner] = []
            self._watched = True

    def resume(self, owner: Owner) -> None:
        """Let a paused ``owner`` go on: everything that fell due meanwhile runs now, in the order it fell due."""
        if owner.paused:
            owner.paused = False
            self._ready.extend(self._paused.pop(owner))
            self._watch()

    def report(self) -> str:
        """Who waits where, now."""
        text = describe(self.pending_tasks(), [handle._callback for handle in self._ready if not handle._cancelled])
        jobs = self._jobs.describe() if self._jobs is not None else ""
        return f"{text}\n{jobs}" if jobs else text

    def abort(self, error: BaseException) -> None:
        """End the run as soon as the running callback returns: ``run_forever`` raises ``error``. The first one counts."""
        if self._abort is None:
            self._abort = error
            self._watched = self._strict = self._stopping = True

    @property
    def traced(self) -> bool:
        """Whether anything becomes of a ``note``."""
        return self._trace is not None

    def note(self, label: str) -> None:
        """Put ``label`` into the run's trace, if there is one."""
        if self._trace is not None:
            self._trace.add(self.clock.now, label)

    def _keep_timers(self, wanted: Callable[[SimulatedTimer], bool]) -> None:
        # In place: the running loop holds a reference to this list.
        self._scheduled[:] = [entry for entry in self._scheduled if wanted(entry[2])]
        heapify(self._scheduled)
