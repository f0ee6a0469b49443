"""One run: a coroutine from its first step to the last trace of it.

Not ``asyncio.Runner``: what is left over is cancelled in the order it was made, the collector does not interfere, time is
capped, and what asyncio would only have logged is given back.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import warnings
from asyncio import events
from contextlib import contextmanager, suppress
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from factflow_infra_testing.simulation.clock import ORIGIN, Clock
from factflow_infra_testing.simulation.entropy import World, activate
from factflow_infra_testing.simulation.errors import GuardError
from factflow_infra_testing.simulation.loop import LIVELOCK_LIMIT, VIRTUAL_BUDGET, DeterministicLoop
from factflow_infra_testing.simulation.owners import OWNER
from factflow_infra_testing.simulation.patches import session

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from datetime import datetime

    from factflow_infra_testing.search.decisions import Decisions
    from factflow_infra_testing.simulation.trace import Trace

CLEANUP_BUDGET = 300.0
"""Virtual seconds that cancelled leftovers may take to end."""

MAX_UNWOUND = 100_000
"""Tasks of the dead that are unwound one by one; past that they are only forgotten."""


@dataclass(frozen=True, slots=True)
class Unhandled:
    """Something that asyncio would have logged: an exception that nobody took."""

    message: str
    error: BaseException | None
    time: float
    owner: str | None
    task: str | None


@dataclass(slots=True)
class RunOutcome:
    """What came of a run. ``time`` in virtual seconds; ``error`` is what ``main`` raised, or the guard that ended it."""

    value: Any = None
    error: BaseException | None = None
    time: float = 0.0
    steps: int = 0
    unhandled: tuple[Unhandled, ...] = ()
    leftovers: tuple[str, ...] = ()

    def result(self) -> Any:
        """What ``main`` returned; raises what it raised."""
        if self.error is not None:
            raise self.error
        return self.value


def run(
    main: Callable[[], Coroutine[Any, Any, Any]],
    *,
    decisions: Decisions | None = None,
    seed: int = 0,
    origin: datetime = ORIGIN,
    virtual_budget: float = VIRTUAL_BUDGET,
    livelock_limit: int = LIVELOCK_LIMIT,
    trace: Trace | None = None,
    prepare: Callable[[DeterministicLoop], None] | None = None,
    collect: bool = True,
    linger: bool = True,
) -> RunOutcome:
    """Run ``main()`` on a fresh loop in virtual time, and clean up after it.

    ``collect=False`` leaves collecting the run's reference cycles to the caller: what a task in one of them raised is then
    not in ``unhandled``. ``linger=False``: tasks that are left over when ``main`` ends are not cancelled and waited for, as
    asyncio does, but unwound where they stand, as those of a killed process are: each ``finally``, up to its first ``await``.

    ``prepare`` is called with the loop, inside the run, before ``main``. An ``Exception`` of ``main``, a guard's and a
    ``CancelledError`` are in the outcome; every other ``BaseException`` (``KeyboardInterrupt``, or one that a tool uses to
    leave) is raised from here, at once: then nothing of the run is waited for.
    """
    with session(), _collector_off():
        loop = DeterministicLoop(
            clock=Clock(origin),
            decisions=decisions,
            virtual_budget=virtual_budget,
            livelock_limit=livelock_limit,
            trace=trace,
        )
        with activate(World(loop, seed), seed):
            return Context().run(_run, loop, main, prepare, collect, linger)


def _run(
    loop: DeterministicLoop,
    main: Callable[[], Coroutine[Any, Any, Any]],
    prepare: Callable[[DeterministicLoop], None] | None,
    collect: bool,
    linger: bool,
) -> RunOutcome:
    outcome = RunOutcome()
    try:
        try:
            if prepare is not None:
                prepare(loop)
            outcome.value = loop.run_until_complete(loop.create_task(main(), name="main"))
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it is in the outcome
            outcome.error = error
        outcome.time = loop.time()
        outcome.steps = loop.steps
        if linger:
            outcome.leftovers = _end_leftovers(loop)
        if collect:
            gc.collect(0)  # tasks in reference cycles report what they raised when they are collected
        outcome.unhandled = tuple(_unhandled(context) for context in loop.unhandled)
    finally:
        _dispose(loop)
    return outcome


def _unhandled(context: dict[str, Any]) -> Unhandled:
    task = context.get("task") or context.get("future")
    owner = getattr(task, "owner", None) or context["owner"]
    return Unhandled(
        message=context["message"],
        error=context.get("exception"),
        time=context["time"],
        owner=owner.name if owner is not None else None,
        task=task.get_name() if isinstance(task, asyncio.Task) else None,
    )


def _living(loop: DeterministicLoop) -> list[Any]:
    owners = ((task, getattr(task, "owner", None)) for task in loop.pending_tasks())
    return [task for task, owner in owners if owner is None or (owner.alive and not owner.paused)]


def _end_leftovers(loop: DeterministicLoop) -> tuple[str, ...]:
    """Cancel what still runs; the names of the tasks that would not end."""
    loop.on_step = None
    if loop.decisions is not None:
        loop.decisions.quiet()
    loop.virtual_budget = loop.time() + 2 * CLEANUP_BUDGET
    tasks = _living(loop)
    try:
        if tasks:
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.wait_for(_ended(tasks), CLEANUP_BUDGET))
        if loop.has_asyncgens:
            loop.run_until_complete(loop.shutdown_asyncgens())
    except (GuardError, TimeoutError):
        pass  # who is left is in the result
    for task in tasks:
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            message = "unhandled exception while the run was being ended"
            loop.call_exception_handler({"message": message, "exception": error, "task": task})
    return tuple(task.get_name() for task in _living(loop)) if tasks else ()


async def _ended(tasks: list[Any]) -> None:
    await asyncio.wait(tasks)


def _dispose(loop: DeterministicLoop) -> None:
    """End what is left without letting it have an effect: killed processes, and tasks that would not be cancelled."""
    for owner in loop.dead:
        owner.fenced = True
    buried: list[Any] = [thing for thing in loop.graveyard if isinstance(thing, asyncio.Task)]
    remains = list(dict.fromkeys([*buried, *loop.pending_tasks()]))
    try:
        if remains or loop.graveyard or loop.has_jobs:
            with hushed():
                closed: dict[Any, None] = {}
                while remains:  # unwinding may make tasks anew: a `finally` that starts one
                    for task in remains:
                        _close(task, loop)
                        closed[task] = None
                    remains = [task for task in loop.pending_tasks() if task not in closed]
                    if len(closed) > MAX_UNWOUND:
                        break
                loop.close()
                del remains, closed
        else:
            loop.close()
    finally:
        if not loop.is_closed():
            loop.close()


def _close(task: Any, loop: DeterministicLoop) -> None:
    task._log_destroy_pending = False  # noqa: SLF001 - see pins.INTERNALS
    context = Context()
    context.run(OWNER.set, getattr(task, "owner", None))
    # What asks for "the loop" while it is unwound must not get a new, real one.
    events._set_running_loop(loop)  # noqa: SLF001 - see pins.INTERNALS
    try:
        with suppress(BaseException):  # the process is dead: what it raises now does not exist
            context.run(task.get_coro().close)
    finally:
        events._set_running_loop(None)  # noqa: SLF001 - see pins.INTERNALS


@contextmanager
def hushed() -> Generator[None]:
    """Collecting what the dead left behind complains to nobody."""
    before = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.unraisablehook = before


@contextmanager
def _collector_off() -> Generator[None]:
    """The cyclic collector runs finalisers when memory says so: never in a run."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
