"""Blocking jobs off the event loop, a bounded number at once, none ever left running behind its caller (S9)."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from factflow_infra.errors import StorageClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

T = TypeVar("T")


class Workers:
    """Runs jobs in the running loop's default executor, at most ``limit`` at once.

    The default executor and not one of our own: the application sizes it, and whoever runs the loop may replace it.
    A cancelled caller waits for its job to end, which is told by its ``abandoned`` event and stops at the next step where
    it can; so nothing happens behind the back of a caller that has gone.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._gate: tuple[asyncio.AbstractEventLoop, asyncio.Semaphore] | None = None
        self._closed = False
        self._running = 0
        self._closing: list[asyncio.Future[None]] = []

    @contextmanager
    def operation(self) -> Generator[None, None, None]:
        """One call of a user's, which ``close`` waits for; ``StorageClosedError`` after it."""
        if self._closed:
            raise StorageClosedError("this storage provider was closed: make a new one")
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                for waiting in self._closing:
                    if not waiting.done():
                        waiting.set_result(None)

    async def run(self, job: Callable[[threading.Event], T]) -> T:
        """What ``job`` returns or raises."""
        loop = asyncio.get_running_loop()
        if self._gate is None or self._gate[0] is not loop:  # a provider may outlive a loop; a semaphore does not
            self._gate = (loop, asyncio.Semaphore(self._limit))
        async with self._gate[1]:
            return await self.run_to_end(job)

    async def run_to_end(self, job: Callable[[threading.Event], T]) -> T:
        """As ``run``, without waiting for a turn: for what must be done even if the caller is cancelled over and over."""
        abandoned = threading.Event()
        future = asyncio.get_running_loop().run_in_executor(None, job, abandoned)
        cancelled: asyncio.CancelledError | None = None
        while not future.done():
            try:
                await asyncio.wait((future,))
            except asyncio.CancelledError as error:
                abandoned.set()
                cancelled = error
        if cancelled is not None:
            if not future.cancelled():
                future.exception()  # taken note of; the caller is gone
            raise cancelled
        return future.result()

    async def close(self) -> None:
        """Take no more calls, and wait for those that run. Idempotent."""
        self._closed = True
        if self._running:
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._closing.append(waiting)
            await waiting
