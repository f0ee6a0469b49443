"""Internals of others that the simulation leans on or replaces, each with its reason, in this one place.

``INTERNALS`` are private names of the standard library that must exist with the meaning they have now; a test looks for
each on every Python version that is run. ``PINS`` replace something in a library for the length of a session, because that
library has no public seam for it; each says which versions it was checked with, and has a test that fails when the library
no longer needs it, or when the replacement no longer fits.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Internal:
    """A private name of the standard library. ``versions`` that have it: from (inclusive), to (exclusive)."""

    module: str
    path: str
    why: str
    since: tuple[int, int] = (3, 11)
    until: tuple[int, int] = (4, 0)


@dataclass(frozen=True, slots=True)
class Pin:
    """``apply`` replaces something in ``module`` of the distribution ``library`` and gives what undoes it."""

    name: str
    library: str
    module: str
    checked: tuple[str, ...]
    why: str
    apply: Callable[[Any], Callable[[], None]]


INTERNALS = (
    Internal("asyncio.events", "Handle._context", "whom a callback belongs to"),
    Internal("asyncio.events", "TimerHandle._scheduled", "timers are ordered by our own queue"),
    Internal("asyncio.base_events", "BaseEventLoop._check_running", "run_forever is our own"),
    Internal("asyncio", "Future._loop", "a future asks its loop for its serial number"),
    Internal("asyncio", "Task._fut_waiter", "reports say what a task waits for"),
    Internal(
        "asyncio.events", "_set_running_loop", "what killed processes run while unwound asks for the running loop"
    ),
    Internal("asyncio", "Task._log_destroy_pending", "tasks of killed processes end without a complaint"),
    Internal("threading", "_allocate_lock", "Condition and Event make their locks with it"),
    Internal("threading", "_PyRLock", "the re-entrant lock that is built on _allocate_lock"),
    Internal("threading", "_time", "time.monotonic by another name, for timeouts"),
    Internal("queue", "time", "time.monotonic by another name, for timeouts"),
    Internal(
        "warnings", "_warn_unawaited_coroutine", "the interpreter calls it for a coroutine that was never awaited"
    ),
    Internal("sys", "_getframe", "where that coroutine was dropped, or the loop was held up"),
    Internal("random", "_urandom", "SystemRandom and secrets read random bytes through it"),
    Internal("random", "Random.seed", "a generator without a seed asks the operating system, in C"),
    Internal("uuid", "_generate_time_safe", "uuid1 takes time and node from C code"),
    Internal("uuid", "_last_timestamp", "uuid1 counts for the whole process"),
    Internal("uuid", "_last_timestamp_v7", "uuid7 counts for the whole process", since=(3, 14)),
    Internal("tempfile", "_name_sequence", "names of temporary files come from one generator for the whole process"),
    Internal(
        "tempfile", "_get_default_tempdir", "finding the folder for temporary files makes up names, once a process"
    ),
    Internal("_frozen_importlib_external", "_io", "what an import has compiled is not for the simulated disk"),
)


def missing_internals(version: tuple[int, int]) -> list[str]:
    """Those of ``INTERNALS`` that this interpreter lacks: something here must then be rethought."""
    missing: list[str] = []
    for internal in INTERNALS:
        if not internal.since <= version < internal.until:
            continue
        thing: Any = importlib.import_module(internal.module)
        try:
            for part in internal.path.split("."):
                thing = getattr(thing, part)
        except AttributeError:
            missing.append(f"{internal.module}.{internal.path}")
    return missing


def _anyio_threads(module: Any) -> Callable[[], None]:
    """Inside a run, anyio's worker threads are jobs of the loop's executor."""
    from contextvars import copy_context

    from factflow_infra_testing.simulation.entropy import active_world

    backend = module.AsyncIOBackend
    own = cast("dict[str, Any]", vars(backend))
    original = own["run_sync_in_worker_thread"]

    async def run_sync_in_worker_thread(
        cls: Any, func: Any, args: Any, abandon_on_cancel: bool = False, limiter: Any = None
    ) -> Any:
        world = active_world()
        if world is None:
            return await original.__get__(None, cls)(func, args, abandon_on_cancel=abandon_on_cancel, limiter=limiter)
        loop = world.loop
        await cls.checkpoint()
        context = copy_context()

        def job() -> Any:
            with module.claim_worker_thread(backend, loop):  # what anyio.from_thread asks for the way back
                return context.run(func, *args)

        async with limiter or cls.current_default_thread_limiter():
            with module.CancelScope(shield=not abandon_on_cancel):
                return await loop.run_in_executor(None, job)

    backend.run_sync_in_worker_thread = classmethod(run_sync_in_worker_thread)
    return lambda: setattr(backend, "run_sync_in_worker_thread", original)


def _aiormq_tasks(module: Any) -> Callable[[], None]:
    """The wrapper of a task has the task's hash: a serial number in a run."""
    wrapper = module.TaskWrapper
    own = cast("dict[str, Any]", vars(wrapper))
    original = own.get("__hash__")

    def by_task(self: Any) -> int:
        return hash(self.task)

    wrapper.__hash__ = by_task

    def undo() -> None:
        if original is None:
            del wrapper.__hash__
        else:
            wrapper.__hash__ = original

    return undo


def _aio_pika_farewell(module: Any) -> Callable[[], None]:
    """A connection of a run that is collected says no goodbye."""
    from factflow_infra_testing.simulation.loop import DeterministicLoop

    connection = module.Connection
    original = connection.__del__

    def farewell(self: Any) -> None:
        if not isinstance(getattr(self, "loop", None), DeterministicLoop):
            original(self)

    connection.__del__ = farewell
    return lambda: setattr(connection, "__del__", original)


class _OrderedAsyncio:
    """``asyncio``, whose ``as_completed`` starts coroutines in the order in which they are given."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def as_completed(self, fs: Any, **options: Any) -> Any:
        return self._real.as_completed([self._real.ensure_future(one) for one in fs], **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _stompman_servers(module: Any) -> Callable[[], None]:
    """Connections to several servers are begun in their order."""
    original = module.asyncio
    module.asyncio = _OrderedAsyncio(original)

    def undo() -> None:
        module.asyncio = original

    return undo


PINS = (
    Pin(
        name="aio-pika-farewell",
        library="aio_pika",
        module="aio_pika.connection",
        checked=("10.2.1",),
        why="a connection that is collected unclosed starts a task: when is up to the collector, and on which loop to chance",
        apply=_aio_pika_farewell,
    ),
    Pin(
        name="aiormq-tasks",
        library="aiormq",
        module="aiormq.abc",
        checked=("7.2.4",),
        why="FutureStore keeps its tasks in a set, and ends them in the order of their addresses",
        apply=_aiormq_tasks,
    ),
    Pin(
        name="anyio-threads",
        library="anyio",
        module="anyio._backends._asyncio",
        checked=("4.16.0",),
        why="anyio.to_thread.run_sync starts its own threads, whose moments are up to the operating system",
        apply=_anyio_threads,
    ),
    Pin(
        name="stompman-servers",
        library="stompman",
        module="stompman.connection_manager",
        checked=("3.16.0",),
        why="it connects to all its servers at once, in the order of a set of coroutines, which is that of their addresses",
        apply=_stompman_servers,
    ),
)


def installed(pin: Pin) -> str | None:
    """The version of the pin's library in this environment, or None."""
    try:
        return importlib.metadata.version(pin.library)
    except importlib.metadata.PackageNotFoundError:
        return None


def install() -> list[Callable[[], None]]:
    """Apply every pin whose library is installed; what undoes them."""
    # Also where nobody has imported it yet: else a first run that imports it would differ from the second.
    present = [pin for pin in PINS if importlib.util.find_spec(pin.library) is not None]
    return [pin.apply(importlib.import_module(pin.module)) for pin in present]
