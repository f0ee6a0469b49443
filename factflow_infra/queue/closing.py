"""Ending what runs: wait, then cancel, then leave behind; shared by all who ask for it, and never waiting for the asker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from factflow_infra.queue.tasks import Tasks


class Deadline:
    """One deadline that several callers share, and that a later, more impatient one can shorten."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float | None) -> None:
        self._loop = loop
        self._at = None if timeout is None else loop.time() + timeout
        self._changed: asyncio.Future[None] | None = None

    def shorten(self, timeout: float | None) -> None:
        """Move the deadline to ``timeout`` seconds from now, unless that is later."""
        if timeout is not None:
            at = self._loop.time() + timeout
            self._at = at if self._at is None else min(at, self._at)
            self.look_again()

    def look_again(self) -> None:
        """Have ``wait`` ask anew what is to be waited for."""
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def remaining(self) -> float | None:
        return None if self._at is None else max(0.0, self._at - self._loop.time())

    async def wait(self, futures: Callable[[], Iterable[asyncio.Future[Any]]]) -> bool:
        """Wait until all are done (true) or the deadline has passed (false). Cancels nothing."""
        while pending := [future for future in futures() if not future.done()]:
            remaining = self.remaining()
            if remaining == 0.0:
                return False
            self._changed = self._loop.create_future()
            # Not wait_for: in 3.11 it can lose a cancellation, and it would cancel what it waits for.
            await asyncio.wait([*pending, self._changed], timeout=remaining, return_when=asyncio.FIRST_COMPLETED)
        return True


class Closer:
    """Closes one subscription.

    ``running`` gives the tasks that are to finish; ``stop_taking``, which works at once and returns
    what is to be awaited, and ``end`` are the first and the last step. What does not end within ``grace`` seconds of being cancelled is abandoned.
    """

    def __init__(
        self,
        tasks: Tasks,
        grace: float,
        *,
        running: Callable[[], Iterable[asyncio.Task[Any]]],
        stop_taking: Callable[[], Coroutine[Any, Any, None]],
        end: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self._tasks = tasks
        self._grace = grace
        self.running = running
        self._stop_taking = stop_taking
        self._end = end
        self._askers: dict[asyncio.Task[Any], None] = {}
        self._deadline: Deadline | None = None
        self.task: asyncio.Task[None] | None = None
        self.quiet: asyncio.Future[None] | None = None
        """Done once everything has ended but the running tasks that asked for it themselves."""

    @property
    def begun(self) -> bool:
        return self.task is not None

    def begin(self, timeout: float | None) -> asyncio.Task[None]:
        """Close, in the background. A later call can only make it more urgent."""
        if self.task is None or self._deadline is None:
            self._deadline = Deadline(self._tasks.loop, timeout)
            self.quiet = self._tasks.loop.create_future()
            # What is left of it needs the broker; from here on nothing more is begun.
            taking = self._tasks.start(self._stop_taking(), "factflow-queue-stop-taking")
            closing = self._close(self._deadline, self.quiet, taking)
            self.task = self._tasks.start(closing, "factflow-queue-subscription-close")
        else:
            self._deadline.shorten(timeout)
        return self.task

    def excuse(self, asker: asyncio.Task[Any] | None) -> bool:
        """Whether ``asker`` is itself to be closed; if so, nobody waits for it before ``quiet``."""
        if asker is None or asker not in self.running():
            return False
        self._askers[asker] = None
        if self._deadline is not None:
            self._deadline.look_again()
        return True

    async def close(self, timeout: float | None) -> None:  # a grace for handlers, not a bound on the call
        """Close, and wait for it; asked from within a running task, wait for ``quiet`` only."""
        closing = self.begin(timeout)
        if self.quiet is not None and self.excuse(asyncio.current_task()):
            await asyncio.shield(self.quiet)
        else:
            await asyncio.shield(closing)

    async def _close(self, deadline: Deadline, quiet: asyncio.Future[None], taking: asyncio.Task[None]) -> None:
        def others() -> list[asyncio.Task[Any]]:
            return [taking, *(task for task in self.running() if task not in self._askers)]

        if not await deadline.wait(others):
            await self._cancel(others)
        quiet.set_result(None)
        if self._askers:
            remaining = deadline.remaining()
            last = Deadline(self._tasks.loop, None if remaining is None else max(remaining, self._grace))
            if not await last.wait(self.running):
                await self._cancel(self.running)
        # Where the broker does not answer, what is left goes with the connection.
        await asyncio.wait([self._tasks.start(self._end(), "factflow-queue-subscription-end")], timeout=self._grace)

    async def _cancel(self, running: Callable[[], Iterable[asyncio.Task[Any]]]) -> None:
        for task in running():
            task.cancel()
        await Deadline(self._tasks.loop, self._grace).wait(running)
