"""Thread jobs: real threads, one at a time.

A job runs on a thread of its own, so that thread-local state and blocking code behave, but while it runs the loop's thread
waits, and while the loop runs every job is parked: in ``time.sleep``, or waiting for a lock. Every hand-off happens at
such a point and nowhere else, so the order is the same in every run. Threads live for one run: what a job leaves in
``threading.local`` must not reach the next run.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
import threading
import traceback
from collections import deque
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, NoReturn

from factflow_infra_testing.simulation.entropy import World, active_world, enter, outside
from factflow_infra_testing.simulation.errors import DeadlockError, NotSimulatedError, StuckJobError
from factflow_infra_testing.simulation.owners import OWNER, Owner
from factflow_infra_testing.simulation.patches import Patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from factflow_infra_testing.simulation.loop import DeterministicLoop

DEFAULT_WORKERS = 8
"""Threads of the default executor, per process. Fixed: asyncio's own number follows the machine's processors."""

STUCK_AFTER = 30.0
"""Real seconds that a job may compute without parking."""

ABANDON_ATTEMPTS = 20
JOB_DELAY = "job-delay"
JOB_DELAYS = (0.0, 0.001, 0.05, 1.0)


class JobAbandoned(BaseException):
    """Raised where a parked job stands, after the end of its run."""


class Job:
    """A call on a thread. ``handle`` is what will let it go on, None while it runs or waits for a lock."""

    __slots__ = (
        "abandoned",
        "args",
        "begun",
        "context",
        "deliver",
        "done",
        "error",
        "func",
        "handle",
        "key",
        "loop_context",
        "number",
        "owner",
        "result",
        "runner",
        "timed_out",
        "worker",
    )

    def __init__(
        self, runner: JobRunner, func: Callable[..., Any], args: tuple[Any, ...], deliver: Callable[[Job], None]
    ) -> None:
        self.runner = runner
        self.func = func
        self.args = args
        self.deliver = deliver
        self.owner: Owner | None = OWNER.get()
        self.loop_context = copy_context()
        self.context = Context()  # asyncio does not carry the context into executors; to_thread does so itself
        if self.owner is not None:
            self.context.run(OWNER.set, self.owner)
        self.begun = self.done = self.timed_out = self.abandoned = False
        self.handle: Any = None
        self.worker: Worker | None = None
        self.key: tuple[Owner | None, int] = (None, 0)
        self.number = 0
        self.result: Any = None
        self.error: BaseException | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether it will ever go on."""
        return not self.done and (self.abandoned or self.owner is None or self.owner.alive)

    @property
    def label(self) -> str:
        """What it is called in reports."""
        func = getattr(self.func, "func", None) or self.func
        args = getattr(self.func, "args", ())
        if getattr(func, "__name__", "") == "run" and args and callable(args[0]):
            func = args[0]  # asyncio.to_thread: partial(context.run, func, ...)
        return f"job-{self.number} {getattr(func, '__qualname__', type(func).__qualname__)}"


class Worker(threading.Thread):
    """A thread that runs when it is told to, and is waited for meanwhile."""

    def __init__(self, runner: JobRunner) -> None:
        super().__init__(daemon=True)
        self.go = threading.Lock()
        self.go.acquire()
        self.runner = runner
        self.job: Job | None = None

    def run(self) -> None:
        while True:
            self.go.acquire()
            job = self.job
            if job is None:
                return
            self.name = f"simulated-{job.number}"
            enter(self.runner.world.of_job(job, self.runner.sleeper(job)))
            try:
                job.result = job.context.run(job.func, *job.args)
            except BaseException as error:  # noqa: BLE001 - goes to whoever waits for the job
                job.error = error
            enter(None)
            job.done = True
            del job  # what the job leaves must not be kept alive by an idle thread
            self.job = None
            if self.runner.closed:
                return  # it came back after all, and nobody waits any more
            self.runner.back.release()


class JobRunner:
    """All jobs of a run."""

    def __init__(self, loop: DeterministicLoop, *, stuck_after: float = STUCK_AFTER) -> None:
        self.stuck_after = stuck_after
        self._loop = loop
        self.world = active_world() or World(loop, 0)
        with outside():
            self.back = threading.Lock()
        self.back.acquire()
        self.closed = False
        self._idle: list[Worker] = []
        self._jobs: dict[Job, None] = {}
        self._running: dict[tuple[Owner | None, int], int] = {}
        self._queued: dict[tuple[Owner | None, int], deque[Job]] = {}
        self._count = 0
        self._joining: list[Any] = []
        self._then: Callable[[], None] | None = None
        decisions = loop.decisions
        self._delays = decisions is not None and decisions.enabled(JOB_DELAY)

    # -- handing in ---------------------------------------------------------------------------------------------------

    def run_in_executor(self, executor: Any, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """What ``loop.run_in_executor`` does. A bound on threads that the executor has is kept to."""
        if executor is not None and not isinstance(executor, concurrent.futures.ThreadPoolExecutor):
            if isinstance(executor, concurrent.futures.ProcessPoolExecutor):
                raise NotSimulatedError("A ProcessPoolExecutor starts processes, which are not simulated.")
            return asyncio.wrap_future(executor.submit(func, *args), loop=self._loop)
        future: asyncio.Future[Any] = self._loop.create_future()

        def deliver(job: Job) -> None:
            if future.cancelled():
                return
            if isinstance(job.error, StopIteration):
                future.set_exception(RuntimeError(f"{job.label} raised StopIteration"))
            elif job.error is not None:
                future.set_exception(job.error)
            else:
                future.set_result(job.result)

        self._hand_in(executor, Job(self, func, args, deliver), future.cancelled)
        return future

    def submit(self, executor: Any, func: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """What ``ThreadPoolExecutor.submit`` does inside a run."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def call() -> Any:
            return func(*args, **options)

        def deliver(job: Job) -> None:
            if not future.set_running_or_notify_cancel():
                return
            if job.error is not None:
                future.set_exception(job.error)
            else:
                future.set_result(job.result)

        self._hand_in(executor, Job(self, call, (), deliver), future.cancelled)
        return future

    def _hand_in(self, executor: Any, job: Job, cancelled: Callable[[], bool]) -> None:
        bound: int = DEFAULT_WORKERS if executor is None else executor._max_workers  # noqa: SLF001 - it has no accessor
        if executor is not None and executor._shutdown:  # noqa: SLF001
            raise RuntimeError("cannot schedule new futures after shutdown")
        self._count += 1
        job.number = self._count
        job.key = key = (job.owner, id(executor))
        if self._running.get(key, 0) >= bound:
            job.args = (job.func, job.args, cancelled)
            job.func = _unless_cancelled
            self._queued.setdefault(key, deque()).append(job)
            return
        # A free thread takes the job at once: cancelling the future afterwards does not stop it, as in real life.
        self._running[key] = self._running.get(key, 0) + 1
        self._schedule(job)

    def _schedule(self, job: Job) -> None:
        self._jobs[job] = None
        if self._delays and job.owner is not None:
            assert self._loop.decisions is not None
            delay = JOB_DELAYS[self._loop.decisions.pick(len(JOB_DELAYS), JOB_DELAY, job.owner.aim)]
            if delay:
                if self._loop.on_late_job is not None:
                    self._loop.on_late_job(f"{JOB_DELAY} ({delay:g} s)", job.owner)
                job.handle = self._loop.call_later(delay, self._step, job, context=job.loop_context)
                return
        job.handle = self._loop.call_soon(self._step, job, context=job.loop_context)

    # -- handing over -------------------------------------------------------------------------------------------------

    def _step(self, job: Job) -> None:
        """In the loop's thread: let ``job`` run until it ends or parks."""
        job.handle = None
        if not job.begun:
            job.begun = True
            job.worker = self._worker()
            job.worker.job = job
            self._loop.note(f"{job.label} begins")
        assert job.worker is not None
        job.worker.go.release()
        if not self.back.acquire(timeout=self.stuck_after):
            self._refuse_stuck(job)
        if job.done:
            self._finish(job)
        then, self._then = self._then, None
        if then is not None:
            then()

    def _worker(self) -> Worker:
        if self._idle:
            return self._idle.pop()
        with outside():
            worker = Worker(self)
            worker.start()
        return worker

    def _finish(self, job: Job) -> None:
        del self._jobs[job]
        assert job.worker is not None
        self._idle.append(job.worker)
        self._loop.note(f"{job.label} ends")
        queued = self._queued.get(job.key)
        if queued:
            self._schedule(queued.popleft())
        else:
            self._running[job.key] -= 1
        job.deliver(job)
        if self._joining and not any(other.is_wanted for other in self._jobs):
            for waiter in self._joining:
                if not waiter.done():
                    waiter.set_result(None)
            self._joining.clear()

    def park(self, job: Job, deadline: float | None) -> bool:
        """In the job's thread: stand still until woken (True) or until ``deadline`` (False), in virtual seconds."""
        if job.abandoned:
            raise JobAbandoned
        job.timed_out = False
        if deadline is not None:
            job.handle = self._loop.call_at(deadline, self._time_out, job, context=job.loop_context)
        worker = job.worker
        assert worker is not None
        self.back.release()
        worker.go.acquire()
        if job.abandoned:
            raise JobAbandoned
        return not job.timed_out

    def end(self, job: Job, action: Callable[[], None]) -> NoReturn:
        """In the job's thread: stand still for ever; ``action`` runs in the loop's thread, before anything else does."""
        self._then = action
        self.park(job, None)
        raise JobAbandoned

    def sleeper(self, job: Job) -> Callable[[float], None]:
        """``time.sleep`` for this job."""

        def sleep(seconds: float) -> None:
            self.park(job, self._loop.time() + seconds)

        return sleep

    def wake(self, job: Job) -> None:
        """Let a job that waits for a lock go on, soon."""
        if job.handle is not None:
            job.handle.cancel()
        job.handle = self._loop.call_soon(self._step, job, context=job.loop_context)

    def _time_out(self, job: Job) -> None:
        job.timed_out = True
        self._step(job)

    def hold_up_loop(self, deadline: float | None) -> bool:
        """The loop's own thread waits for a lock: nothing but jobs goes on. False when ``deadline`` has come first."""
        due = [(self._due(job), job.number, job) for job in self._jobs if job.handle is not None and job.is_wanted]
        when, _, job = min(due, default=(None, 0, None))
        if job is None or when is None or (deadline is not None and when > deadline):
            if deadline is None:
                error = DeadlockError(
                    "The event loop's thread waits for a lock that nobody will release.", self._loop.report()
                )
                self._loop.abort(error)
                raise error
            self._loop.advance(deadline - self._loop.time())
            return False
        self._loop.advance(when - self._loop.time())
        timer = job.handle
        timer.cancel()
        job.timed_out = isinstance(timer, asyncio.TimerHandle) and job.begun
        self._step(job)
        return True

    def _due(self, job: Job) -> float:
        return job.handle.when() if isinstance(job.handle, asyncio.TimerHandle) else self._loop.time()

    # -- the end ------------------------------------------------------------------------------------------------------

    async def join(self) -> None:
        """Wait until no job is left that will ever end."""
        if any(job.is_wanted for job in self._jobs):
            waiter = self._loop.create_future()
            self._joining.append(waiter)
            await waiter

    def describe(self) -> str:
        """The parked jobs, a line each."""
        lines = [
            f"  {job.label} {'waits for a lock' if job.handle is None else 'sleeps'}" for job in self._jobs if job.begun
        ]
        return "\n".join(["thread jobs:", *lines]) if lines else ""

    def close(self) -> None:
        """Unwind the jobs that are still parked, without effect on the run, and end the threads."""
        for job in list(self._jobs):
            job.abandoned = True
            worker = job.worker
            if worker is None:
                continue
            for _ in range(ABANDON_ATTEMPTS):
                worker.go.release()
                if not self.back.acquire(timeout=1.0) or job.done:
                    break
            if job.done:
                self._idle.append(worker)
        self._jobs.clear()
        self.closed = True
        for worker in self._idle:
            worker.job = None
            worker.go.release()
        self._idle.clear()

    def _refuse_stuck(self, job: Job) -> None:
        assert job.worker is not None
        frames = sys._current_frames  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - documented all the same
        frame = frames().get(job.worker.ident or 0)
        stack = "".join(traceback.format_stack(frame)[-6:]) if frame is not None else ""
        self._jobs.pop(job, None)
        error = StuckJobError(
            f"{job.label} neither ended nor parked within {self.stuck_after:g} real seconds: it computes, or it blocks on a"
            " lock that was made before the run, on a queue.SimpleQueue, or on something outside the simulation.",
            f"{stack}{self._loop.report()}",
        )
        self._loop.abort(error)
        raise error


def _unless_cancelled(func: Callable[..., Any], args: tuple[Any, ...], cancelled: Callable[[], bool]) -> Any:
    """A job that had to wait for a thread is not run when nobody wants it any more."""
    return None if cancelled() else func(*args)


def _submit(original: Callable[..., Any]) -> Callable[..., Any]:
    def submit(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        world = active_world()
        if world is None:
            return original(self, fn, *args, **kwargs)
        return world.loop.jobs.submit(self, fn, args, kwargs)

    return submit


def patches() -> Iterator[Patch]:
    """Pools that are used without asyncio."""
    yield Patch(concurrent.futures.ThreadPoolExecutor, "submit", _submit)
