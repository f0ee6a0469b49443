"""``threading`` locks that let virtual time go on while a thread job waits for one.

Locks made inside a run are of this kind, and with them what ``threading``, ``queue.Queue`` and ``concurrent.futures``
build on them. A lock made before the run is a real one: that is harmless unless a job sleeps while it holds it and another
one wants it, which ends the run with ``StuckJobError``. So does ``queue.SimpleQueue``, which is C code.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from factflow_infra_testing.simulation.entropy import active_world
from factflow_infra_testing.simulation.patches import Patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from factflow_infra_testing.simulation.executor import Job

FOREVER = -1


class SimulatedLock:
    """A real lock; only waiting for it differs, and only inside a run. It may outlive the run that made it."""

    __slots__ = ("__weakref__", "_real", "_waiting")

    def __init__(self, real: Any) -> None:
        self._real = real
        self._waiting: deque[Job] = deque()

    def acquire(self, blocking: bool = True, timeout: float = FOREVER) -> bool:
        """As ``threading.Lock.acquire``; ``timeout`` in virtual seconds."""
        if self._real.acquire(False):
            return True
        world = active_world()
        if world is None or not blocking:
            return self._real.acquire(blocking, timeout) if blocking else False
        deadline = None if timeout < 0 else world.clock.now + timeout
        jobs = world.loop.jobs
        while True:
            if world.job is None:
                waited = jobs.hold_up_loop(deadline)
            else:
                self._waiting.append(world.job)
                waited = jobs.park(world.job, deadline)
                if not waited and world.job in self._waiting:
                    self._waiting.remove(world.job)
            if self._real.acquire(False):
                return True
            if not waited:
                return False

    def release(self) -> None:
        """As ``threading.Lock.release``; the job that waited longest is the next to try."""
        self._real.release()
        while self._waiting:
            job = self._waiting.popleft()
            if job.is_wanted:
                job.runner.wake(job)
                return

    def locked(self) -> bool:
        """Whether somebody holds it."""
        return self._real.locked()

    def _at_fork_reinit(self) -> None:
        self._real._at_fork_reinit()  # noqa: SLF001 - what the threading module calls on its locks after a fork
        self._waiting.clear()

    __enter__ = acquire

    def __exit__(self, *exc_info: object) -> None:
        self.release()


def _lock(original: Callable[[], Any]) -> Callable[[], Any]:
    def Lock() -> Any:  # noqa: N802 - stands in for threading.Lock
        return original() if active_world() is None else SimulatedLock(original())

    return Lock


def _rlock(original: Callable[[], Any]) -> Callable[[], Any]:
    python_rlock: Any = vars(threading)["_PyRLock"]  # the one that is built on threading's own lock, so on ours

    def RLock() -> Any:  # noqa: N802 - stands in for threading.RLock
        return original() if active_world() is None else python_rlock()

    return RLock


def patches() -> Iterator[Patch]:
    """The factories of the threading module; its classes call them by these names."""
    yield Patch(threading, "Lock", _lock)
    yield Patch(threading, "_allocate_lock", _lock)
    yield Patch(threading, "RLock", _rlock)
