"""Blocking jobs off the event loop, a bounded number at once, none ever left running behind its caller (S9)."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from factflow_infra.errors import StorageClosedError
from factflow_infra.storage.filesystem.locks import HeldError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

T = TypeVar("T")

_PAUSES: Final = (0.002, 0.01, 0.1)
"""Seconds until a job that met a lock held elsewhere is run again: doubled from the first, which is about what a change takes, to the
second; to the third where it takes long. More attempts cost other processes more than they bring."""
_SHARE: Final = 0.01
"""Of the time it has waited: a longer pause than the second adds no more to the wait."""


class _Bound(NamedTuple):
    """What belongs to one event loop: a provider may outlive it, locks and semaphores do not."""

    loop: asyncio.AbstractEventLoop
    places: asyncio.Semaphore
    turns: defaultdict[int, _Turn]


class _Turn(NamedTuple):
    """Of one lock: whose turn it is ``now``, and who comes ``after`` and is getting ready; the others stand behind."""

    now: asyncio.Lock
    after: asyncio.Lock


class Workers:
    """Runs jobs in the running loop's default executor, at most ``limit`` at once.

    The default executor and not one of our own: the application sizes it, and whoever runs the loop may replace it.
    A cancelled caller waits for its job to end, which is told by its ``abandoned`` event and stops at the next step where
    it can; so nothing happens behind the back of a caller that has gone.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bound: _Bound | None = None
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
        async with self._here().places:
            return await self.run_to_end(job)

    async def run_in_turn(
        self, stripe: int, job: Callable[[threading.Event], T], ready: Callable[[threading.Event], object] | None
    ) -> T:
        """As ``run``, once those that came before with the same ``stripe`` have ended; again, as long as it raises ``HeldError``.

        So one of them at most asks for a lock that another process holds, and none of them has a thread while it waits. The one
        that is next runs ``ready`` meanwhile: what ``job`` would do before it needs the lock.
        """
        turn = self._here().turns[stripe]
        async with turn.after:
            if ready is not None and turn.now.locked():
                await self.run(ready)
            await turn.now.acquire()
        try:
            begun = asyncio.get_running_loop().time()
            pause, usual, longest = _PAUSES
            while True:
                try:
                    return await self.run(job)
                except HeldError:
                    await asyncio.sleep(pause)
                    waited = asyncio.get_running_loop().time() - begun
                    pause = min(2 * pause, max(usual, min(_SHARE * waited, longest)))
        finally:
            turn.now.release()

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

    def _here(self) -> _Bound:
        loop = asyncio.get_running_loop()
        if self._bound is None or self._bound.loop is not loop:
            self._bound = _Bound(
                loop, asyncio.Semaphore(self._limit), defaultdict(lambda: _Turn(asyncio.Lock(), asyncio.Lock()))
            )
        return self._bound

    async def close(self) -> None:
        """Take no more calls, and wait for those that run. Idempotent."""
        self._closed = True
        if self._running:
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._closing.append(waiting)
            await waiting
