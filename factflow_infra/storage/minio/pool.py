"""The bounded thread pool, and the book of what is running in it.

boto3 blocks, so each call of it is a job on a thread. A caller that is cancelled goes at once; its job cannot be stopped,
and is waited for by ``close``. A job that has not begun by then does not begin.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from factflow_infra.errors import StorageClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

T = TypeVar("T")
P = ParamSpec("P")


class Token:
    """Whether anyone still wants the result: a job of several requests looks before each that changes something."""

    __slots__ = ("_dropped",)

    def __init__(self) -> None:
        self._dropped = False

    def drop(self) -> None:
        self._dropped = True

    def check(self) -> None:
        """Raise ``AbandonedError`` if the caller has gone."""
        if self._dropped:
            raise AbandonedError


class AbandonedError(Exception):
    """The job ended early because its caller was cancelled; nobody sees this."""


class WorkerPool:
    """Threads for blocking calls. Made of nothing until the first job."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._executor: ThreadPoolExecutor | None = None
        self._jobs: dict[asyncio.Future[Any], None] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._operations = 0
        self._idle: asyncio.Event | None = None
        self._closed = False

    @contextmanager
    def operation(self) -> Generator[None, None, None]:
        """A public call: it begins only while the pool is open, and ``close`` waits for its end."""
        self.check_open()
        self._operations += 1
        try:
            yield
        finally:
            self._operations -= 1
            self._notice()

    def check_open(self) -> None:
        if self._closed:
            raise StorageClosedError("the storage provider was closed: it takes no more calls")

    @property
    def crowded(self) -> bool:
        """Whether a job waits for a thread. Asked on threads."""
        return len(self._jobs) > self._size

    def start(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Have ``function`` run on a thread; its future must be awaited through ``ended`` or ``asyncio.wait``, never cancelled."""
        loop = asyncio.get_running_loop()
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._size, thread_name_prefix="factflow-s3")
        job = loop.run_in_executor(self._executor, lambda: function(*args, **kwargs))
        self._jobs[job] = None
        job.add_done_callback(self._finished)
        return job

    async def run(self, token: Token, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of ``function`` on a thread. When the caller is cancelled ``token`` is dropped."""

        def begin() -> T:
            token.check()
            return function(*args, **kwargs)

        job = self.start(begin)
        try:
            await self.ended(job)
        except BaseException:
            token.drop()
            raise
        return job.result()

    async def ended(self, job: asyncio.Future[Any]) -> None:
        """Return when ``job`` has ended, however; a caller that is cancelled does not cancel it."""
        # As ``asyncio.wait([job])``, of which every call would pay twice the price.
        ended = asyncio.get_running_loop().create_future()
        job.add_done_callback(lambda _: None if ended.done() else ended.set_result(None))
        await ended

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``work`` to its end, whoever waits for it; ``close`` does."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._done)
        return task

    async def close(self) -> None:
        """Take no more operations, and wait for those that run."""
        self._closed = True
        if self._idle is None:
            self._idle = asyncio.Event()
        self._notice()
        await self._idle.wait()
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)

    def _finished(self, job: asyncio.Future[Any]) -> None:
        del self._jobs[job]
        if not job.cancelled():
            job.exception()  # seen: the caller may have gone
        self._notice()

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if not task.cancelled():
            task.exception()  # as above
        self._notice()

    def _notice(self) -> None:
        if self._idle is not None and not (self._operations or self._jobs or self._tasks):
            self._idle.set()
