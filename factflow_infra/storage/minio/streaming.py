"""A stream of an object, which reads ahead of who takes it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from factflow_infra.errors import StorageClosedError
from factflow_infra.storage.minio.download import Download

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from factflow_infra.storage.minio.calls import Calls
    from factflow_infra.storage.minio.pool import WorkerPool

MIB = 1024 * 1024
AHEAD = MIB
"""Bytes that are held before anybody asks for them, if that is more than two pieces."""
GATHER_BYTES = 256 * 1024
GATHER_SECONDS = 0.005
"""Smaller pieces are told of when there are so many bytes of them, or after this time: to tell the event loop costs a thread as much
as reading some 100 KiB."""
CROWDED_SECONDS = 0.005
"""After this time a job leaves its thread to others, if any wait for one."""
TURN_SECONDS = 0.05
"""After this time a fast stream gives way to another that waits for its turn."""
FAST_STREAMS = 4
"""So many of the streams that come as fast as they are read are read at a time. Each piece needs the interpreter's lock a few times, and
64 threads that take it from each other need a tenth more processor time."""
LATE_SECONDS = 0.25
"""After this time a turn is another's, even where the thread is still at it: its connection hangs."""
SLOW_SECONDS_PER_MIB = 0.02
SLOW_SECONDS_PER_PIECE = 0.001
"""A stream that takes longer than both waits for the network: its thread does nothing meanwhile, and is in nobody's way."""


async def stream(
    pool: WorkerPool,
    turns: Turns,
    connected: Callable[[], Awaitable[Calls]],
    key: str,
    start: int,
    end: int | None,
    size: int,
) -> AsyncGenerator[bytes, None]:
    """The content from ``start`` to before ``end``, in pieces of ``size`` bytes but for the last; one version.

    While pieces are taken the next ones are read: ``AHEAD`` bytes are held at most, or two pieces.
    """
    with pool.operation():
        ahead = ReadAhead(pool, turns, Download(await connected(), key, start, end), size)
    try:
        while piece := await ahead.next():
            yield piece
    finally:
        ahead.close()


class Turns:
    """Who of the fast streams is read, and who is next."""

    def __init__(self) -> None:
        self._running: dict[ReadAhead, asyncio.TimerHandle] = {}
        self._waiting: dict[ReadAhead, None] = {}

    @property
    def wanted(self) -> bool:
        """Whether a stream waits for its turn. Asked on threads."""
        return bool(self._waiting)

    def ask(self, stream: ReadAhead) -> None:
        """Have ``stream`` begin when it is its turn."""
        self._waiting[stream] = None
        self.fill()

    def end(self, stream: ReadAhead) -> None:
        """The turn of ``stream`` has ended, if it had one. It may ask again before ``fill`` finds the next."""
        late = self._running.pop(stream, None)
        if late is not None:
            late.cancel()

    def leave(self, stream: ReadAhead) -> None:
        """``stream`` waits no longer."""
        self._waiting.pop(stream, None)

    def fill(self) -> None:
        """Have as many begin as there is room for."""
        while self._waiting and len(self._running) < FAST_STREAMS:
            first = next(iter(self._waiting))
            del self._waiting[first]
            self._running[first] = asyncio.get_running_loop().call_later(LATE_SECONDS, self._late, first)
            first.begin()

    def _late(self, stream: ReadAhead) -> None:
        self.end(stream)
        self.fill()


class ReadAhead:
    """The pieces of a download, which jobs on threads read before they are asked for.

    A job goes on while its pieces are taken, for to begin one costs as much as reading some 100 KiB.
    """

    def __init__(self, pool: WorkerPool, turns: Turns, download: Download, size: int) -> None:
        self._pool = pool
        self._turns = turns
        self._download = download
        self._size = size
        self._slow_seconds = max(SLOW_SECONDS_PER_MIB * size / MIB, SLOW_SECONDS_PER_PIECE)
        self._most = max(2, AHEAD // size)
        self._enough = max(1, GATHER_BYTES // size)
        self._loop = asyncio.get_running_loop()
        self._pieces: deque[bytes] = deque()
        self._connected = False
        self._reading = False
        self._complete = False
        self._slow = False
        self._patient = True
        self._waiting: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None

    async def next(self) -> bytes:
        """The next piece; empty behind the last. What reading failed with is raised behind the pieces before it."""
        self._pool.check_open()
        while not self._pieces:
            self._go_on()
            if not self._reading:
                return self._end()
            with self._pool.operation():
                await self._arrival()
        piece = self._pieces.popleft()
        self._go_on()
        return piece

    def begin(self) -> None:
        """Read on, on a thread."""
        try:
            self._pool.check_open()
        except StorageClosedError as error:
            self._loop.call_soon(self._ended, error)
            return
        self._pool.start(self._read).add_done_callback(lambda job: self._ended(job.exception()))

    def close(self) -> None:
        """Read no further. Does not block."""
        self._complete = True
        self._turns.leave(self)
        self._download.close()

    def _go_on(self) -> None:
        if self._reading or self._complete or len(self._pieces) > self._most // 2:
            return
        self._reading = True
        if self._slow or not self._connected:
            self.begin()
        else:
            self._turns.ask(self)

    async def _arrival(self) -> None:
        """Return when there are pieces, or the job has ended."""
        self._patient = self._enough > 1
        waiting = self._waiting = self._loop.create_future()
        if self._pieces or not self._reading:  # before anybody could see who waits
            self._waiting = None
            return
        if not self._patient:
            await waiting
            return
        timer = self._loop.call_later(GATHER_SECONDS, self._hurry, waiting)
        try:
            await waiting
        finally:
            timer.cancel()

    def _hurry(self, waiting: asyncio.Future[None]) -> None:
        self._patient = False
        if self._pieces:
            self._waiting = None
            _arrived(waiting)

    def _read(self) -> None:
        """On a thread: read until enough is held, or others want the thread."""
        began = now = self._loop.time()
        count = 0
        while not self._complete:
            piece = self._download.read(self._size)
            count += 1
            now = self._loop.time()
            if len(piece) < self._size:
                self._complete = True
            self._pieces.append(piece)
            if not self._patient or len(self._pieces) >= self._enough:
                waiting, self._waiting = self._waiting, None
                if waiting is not None:
                    self._loop.call_soon_threadsafe(_arrived, waiting)
            if not self._connected or len(self._pieces) >= self._most:
                break
            if now - began >= TURN_SECONDS and self._turns.wanted:
                break
            if now - began >= CROWDED_SECONDS and self._pool.crowded:
                break
        # The first turn makes the connection: that says nothing of how fast it is.
        self._slow = self._connected and now - began > count * self._slow_seconds
        self._connected = True

    def _ended(self, failure: BaseException | None) -> None:
        self._reading = False
        self._failure = failure
        self._complete = self._complete or failure is not None
        self._turns.end(self)
        self._go_on()
        self._turns.fill()
        if self._waiting is not None and (self._pieces or not self._reading):
            _arrived(self._waiting)
            self._waiting = None

    def _end(self) -> bytes:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        return b""


def _arrived(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
