"""The deterministic event loop: virtual time, first in first out, and guards against runs that do not end.

A plain ``asyncio`` program runs on it unchanged. There is no selector: what would come from outside (bytes, thread
results, time) comes from simulated parts that schedule callbacks here. Callbacks run in the order that asyncio documents;
timers that are due at the very same instant run in the order they were made, unless the run's decisions permute them.
"""

# pyright: reportPrivateUsage=false, reportUnknownMemberType=false
# ruff: noqa: SLF001 - a loop and its handles share private state, as in asyncio itself
from __future__ import annotations

import asyncio
import sys
from asyncio import events
from heapq import heappop, heappush
from threading import get_ident
from typing import TYPE_CHECKING, Any, NoReturn

from factflow_infra_testing.simulation import oversights
from factflow_infra_testing.simulation.clock import Clock
from factflow_infra_testing.simulation.errors import (
    DeadlockError,
    GuardError,
    LivelockError,
    SimulationError,
    SimulationEscapeError,
    VirtualBudgetError,
)
from factflow_infra_testing.simulation.owned_loop import OwnedLoop
from factflow_infra_testing.simulation.owners import OWNER
from factflow_infra_testing.simulation.tasks import (
    SimulatedFuture,
    SimulatedHandle,
    SimulatedTask,
    SimulatedTimer,
    label_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from factflow_infra_testing.search.decisions import Decisions
    from factflow_infra_testing.simulation.owners import Owner
    from factflow_infra_testing.simulation.trace import Trace

VIRTUAL_BUDGET = 7 * 24 * 3600.0
LIVELOCK_LIMIT = 200_000
STILL = 1e-6
"""Virtual seconds: a clock that moves by less within ``LIVELOCK_LIMIT`` callbacks counts as still."""

TIMER_TIE = "timer-tie"


class DeterministicLoop(OwnedLoop):
    """An event loop in virtual time.

    ``on_step`` is called with the owner and the handle before each callback of an owned process; it may kill or pause
    that owner, and the callback then does not run. Processes are killed with ``kill``, paused with ``pause``.
    ``unhandled`` collects what asyncio would have given to its exception handler. ``on_notice`` is told what the report of a
    failure should say of the code under test besides (``oversights``), ``on_late_job`` of a fault that holds up
    a job, and whose. ``on_exit`` is asked whether a ``SystemExit`` in a callback of an owner ends only that owner.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        decisions: Decisions | None = None,
        virtual_budget: float = VIRTUAL_BUDGET,
        livelock_limit: int = LIVELOCK_LIMIT,
        trace: Trace | None = None,
    ) -> None:
        super().__init__(Clock() if clock is None else clock, trace)
        self.decisions = decisions
        self.virtual_budget = virtual_budget
        self.livelock_limit = livelock_limit
        self.steps = 0
        self.unhandled: list[dict[str, Any]] = []
        self.on_notice: Callable[[str, Owner | str | None], None] | None = None
        self.on_late_job: Callable[[str, Owner], None] | None = None
        self.on_exit: Callable[[Owner, SystemExit], bool] | None = None
        self._timer_cancelled_count = 0
        self._sequence = 0
        self._serial = 0
        self._still = 0
        self._still_since = 0.0
        self._ties = decisions is not None and decisions.enabled(TIMER_TIE)
        self.clock.on_spin = self.abort

    # -- what asyncio calls -------------------------------------------------------------------------------------------

    def time(self) -> float:
        """Virtual seconds since the run began."""
        return self.clock.now

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Any:
        if self._closed:
            self._check_closed()
        handle = SimulatedHandle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Any:
        if self._thread_id not in (None, get_ident()) and not self.runs_here():
            error = SimulationEscapeError(
                f"A thread outside the simulation called {label_of(callback)} into it: when such a call comes is up to"
                " the operating system. Use loop.run_in_executor() or asyncio.to_thread() for work in threads."
            )
            self.abort(error)
            raise error
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        if delay is None:  # pyright: ignore[reportUnnecessaryComparison] - asyncio raises TypeError here too
            raise TypeError("delay must not be None")
        return self.call_at(self.clock.now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Any:
        if when is None:  # pyright: ignore[reportUnnecessaryComparison] - asyncio raises TypeError here too
            raise TypeError("when cannot be None")
        if self._closed:
            self._check_closed()
        timer = SimulatedTimer(when, callback, args, self, context)
        self._sequence += 1
        heappush(self._scheduled, (when, self._sequence, timer))
        return timer

    def create_future(self) -> Any:
        return SimulatedFuture(loop=self)

    def create_task(self, coro: Any, *, name: object = None, context: Context | None = None, **options: Any) -> Any:
        self._check_closed()
        factory: Any = self._task_factory
        if factory is not None and factory is not getattr(asyncio, "eager_task_factory", None):
            task = factory(self, coro) if context is None else factory(self, coro, context=context)
            if name is not None and hasattr(task, "set_name"):
                task.set_name(name)
            self.remember(task)
            return task
        if factory is not None:
            options.setdefault("eager_start", True)
        self._serial = serial = self._serial + 1
        owner = OWNER.get() if context is None else context.get(OWNER)
        # asyncio numbers its tasks for the whole process; a name must not depend on earlier runs.
        label = f"Task-{serial}" if name is None else name
        task = SimulatedTask(coro, serial, owner, loop=self, name=label, context=context, **options)
        self.remember(task)
        return task

    def next_serial(self) -> int:
        """The next number for whatever wants a hash that is the same in every process."""
        self._serial += 1
        return self._serial

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Collect into ``unhandled`` instead of logging."""
        if self.is_closed():
            return  # a task that is being collected says so: to keep what it says would keep it, and all of its run, alive
        if isinstance(context.get("exception"), asyncio.CancelledError):
            return  # older stream servers say so of each handler that is cancelled: nothing went wrong
        self.unhandled.append({**context, "time": self.clock.now, "owner": OWNER.get()})
        if self.on_notice is not None and (told := oversights.of_task(context)):
            self.on_notice(told, getattr(context["future"], "owner", None))

    def held_up(self, seconds: float) -> None:
        """For ``time.sleep``, called outside a thread job: the report says so."""
        if place := oversights.place_above(2):
            self.notice(f"time.sleep({seconds:g}) held up everything on the event loop{place}")

    def notice(self, text: str) -> None:
        """Have ``text`` in the report, as of the code that is running."""
        if self.on_notice is not None:
            self.on_notice(text, OWNER.get())

    def _timer_handle_cancelled(self, handle: Any) -> None:
        del handle
        self._timer_cancelled_count += 1
        if self._timer_cancelled_count > 100 and self._timer_cancelled_count * 2 > len(self._scheduled):
            self._keep_timers(lambda timer: not timer._cancelled)
            self._timer_cancelled_count = 0

    # -- running ------------------------------------------------------------------------------------------------------

    def run_forever(self) -> None:
        self._check_closed()
        self._check_running()
        hooks = sys.get_asyncgen_hooks()
        self._thread_id = get_ident()
        self._asyncgen_hooks_on()
        events._set_running_loop(self)
        try:
            self._drive()
        finally:
            self._stopping = False
            self._abort = None
            self._watch()
            self._thread_id = None
            events._set_running_loop(None)
            sys.set_asyncgen_hooks(*hooks)

    def _asyncgen_hooks_on(self) -> None:
        sys.set_asyncgen_hooks(firstiter=self._generators.started, finalizer=self._generators.dropped)

    def _drive(self) -> None:
        ready = self._ready
        popleft = ready.popleft
        scheduled = self._scheduled
        clock = self.clock
        while True:
            if scheduled and scheduled[0][0] <= clock.now:
                self._collect_due()
            batch = len(ready)
            clock.reads = 0
            self.steps += batch
            self._still += batch
            if self._still > self.livelock_limit:
                self._refuse_livelock()
            # Only what is ready now: what these callbacks schedule comes after the timers that are due, as in asyncio.
            for _ in range(batch):
                handle = popleft()
                if handle._cancelled:
                    continue
                if self._watched:
                    owner = handle._context.get(OWNER)
                    if (owner is not None or self._strict) and not self._admit(handle, owner):
                        continue
                try:
                    handle._context.run(handle._callback, *handle._args)
                except SystemExit as error:
                    owner = handle._context.get(OWNER)
                    if owner is None or self.on_exit is None or not self.on_exit(owner, error):
                        raise
                except KeyboardInterrupt:
                    raise
                except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - as asyncio.Handle does
                    self._report_callback(handle, error)
            if self._stopping:
                break
            if not ready and not (scheduled and scheduled[0][0] <= clock.now):
                self._advance()
                if not self._ties:
                    # The usual case, without a round of its own: one timer is due, and nothing else is ready.
                    timer = heappop(scheduled)[2]
                    timer._scheduled = False
                    ready.append(timer)
        if self._abort is not None:
            raise self._abort

    def _report_callback(self, handle: Any, error: BaseException) -> None:
        label = label_of(handle._callback)
        self.call_exception_handler({"message": f"Exception in callback {label}", "exception": error, "handle": handle})

    def _collect_due(self) -> None:
        scheduled, now, ready = self._scheduled, self.clock.now, self._ready
        if self._ties:
            self._collect_ties(now)
            return
        while scheduled and scheduled[0][0] <= now:
            timer = heappop(scheduled)[2]
            timer._scheduled = False
            if timer._cancelled:
                self._timer_cancelled_count -= 1
            else:
                ready.append(timer)

    def _collect_ties(self, now: float) -> None:
        assert self.decisions is not None
        scheduled = self._scheduled
        while scheduled and scheduled[0][0] <= now:
            when = scheduled[0][0]
            tied: list[SimulatedTimer] = []
            while scheduled and scheduled[0][0] == when:
                timer = heappop(scheduled)[2]
                timer._scheduled = False
                if timer._cancelled:
                    self._timer_cancelled_count -= 1
                else:
                    tied.append(timer)
            while len(tied) > 1:
                self._ready.append(tied.pop(self.decisions.pick(len(tied), TIMER_TIE)))
            self._ready.extend(tied)

    def _advance(self) -> None:
        """Nothing is ready: move the clock to the next timer, or find that there is none."""
        scheduled = self._scheduled
        while scheduled and scheduled[0][2]._cancelled:
            heappop(scheduled)[2]._scheduled = False
            self._timer_cancelled_count -= 1
        if not scheduled:
            self._refuse(
                DeadlockError,
                f"Nothing is left to do at {self.clock.now:.6f} virtual seconds, yet the run is not over.",
            )
        when = scheduled[0][0]
        if not when <= self.virtual_budget:
            self._refuse(
                VirtualBudgetError,
                f"The next timer is at {when:.6f} virtual seconds; the run may use {self.virtual_budget:g}.",
            )
        if when > self.clock.now:
            self.clock.now = when
            if when - self._still_since > STILL:
                self._still = 0
                self._still_since = when

    def advance(self, seconds: float) -> None:
        """Let time pass without running anything: what ``time.sleep`` in a coroutine does to everybody."""
        if seconds > 0:
            self.clock.now += seconds
            self._still = 0
            self._still_since = self.clock.now
            if self.clock.now > self.virtual_budget:
                self._refuse(
                    VirtualBudgetError, f"A blocking sleep went beyond {self.virtual_budget:g} virtual seconds."
                )

    def _refuse_livelock(self) -> NoReturn:
        self._still = 0
        self._refuse(
            LivelockError,
            f"More than {self.livelock_limit} callbacks ran while the clock stood at {self.clock.now:.6f} virtual seconds.",
        )

    def _refuse(self, kind: type[GuardError], reason: str) -> NoReturn:
        error = kind(reason, self.report())
        self.abort(error)  # whoever catches it, the run is over
        raise error

    # -- the end ------------------------------------------------------------------------------------------------------

    @property
    def has_asyncgens(self) -> bool:
        """Whether an asynchronous generator may be open."""
        return bool(self._generators)

    async def shutdown_asyncgens(self) -> None:
        """Close the asynchronous generators that are still open, in the order they were started."""
        await self._generators.shutdown()

    def close(self) -> None:
        if self.is_running():
            raise SimulationError("Cannot close a running event loop")
        if not self._closed:
            self.close_surface()
            super().close()
            self.graveyard.clear()
            self.unhandled = []
