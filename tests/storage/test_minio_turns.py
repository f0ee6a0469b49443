"""Many streams at once: fast ones take turns, slow and hanging ones hold nobody up."""

from __future__ import annotations

import asyncio
import threading

import pytest

from factflow_infra.errors import StorageClosedError
from factflow_infra.storage.minio import streaming
from factflow_infra.storage.minio.pool import Token, WorkerPool
from factflow_infra.storage.minio.streaming import FAST_STREAMS, ReadAhead, Turns

MANY = 2 * FAST_STREAMS
SIZE = 10


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """However busy this machine is."""
    monkeypatch.setattr(streaming, "LATE_SECONDS", 60.0)


class Pieces:
    """A download of so many pieces. From the second on they come when ``gate`` is open."""

    def __init__(self, count, log=None):
        self.left = count
        self.gate = threading.Event()
        self.read_once = False
        self.log = log if log is not None else []

    def read(self, size):
        if self.read_once:
            assert self.gate.wait(30)
        self.read_once = True
        self.log.append(self)
        self.left -= 1
        return bytes(size) if self.left else b"end"

    def close(self):
        self.gate.set()


class OneByOne(Pieces):
    """From the second on a piece comes for each time that ``more`` is released."""

    def __init__(self, count, log=None):
        super().__init__(count, log)
        self.more = threading.Semaphore(0)
        self.gate.set()

    def read(self, size):
        if self.read_once:
            assert self.more.acquire(timeout=30)
        return super().read(size)

    def close(self):
        self.more.release(self.left)


class Crowd:
    """``count`` streams, of which each has given its first piece."""

    def __init__(self, count, *, pieces=3, threads=MANY, kind=Pieces):
        self.log = []
        self.pool = WorkerPool(threads)
        self.turns = Turns()
        self.downloads = [kind(pieces, self.log) for _ in range(count)]
        self.streams = [ReadAhead(self.pool, self.turns, download, SIZE) for download in self.downloads]
        for stream in self.streams:
            stream._slow_seconds = 60.0  # however busy this machine is

    async def __aenter__(self):
        assert await asyncio.gather(*(stream.next() for stream in self.streams)) == [bytes(SIZE)] * len(self.streams)
        await self.until(lambda: all(stream._connected for stream in self.streams))
        return self

    async def __aexit__(self, *_):
        for stream in self.streams:
            stream.close()
        await self.pool.close()

    @property
    def pending(self):
        return len(self.pool._jobs)

    @property
    def running(self):
        return [self.downloads[self.streams.index(stream)] for stream in self.turns._running]

    @property
    def waiting(self):
        return [self.downloads[self.streams.index(stream)] for stream in self.turns._waiting]

    async def until(self, condition):
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110 - what threads do sets no event
                await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_fast_streams_take_turns():
    async with Crowd(MANY) as crowd:
        await crowd.until(lambda: len(crowd.running) + len(crowd.waiting) == MANY)
        first, behind = crowd.running, crowd.waiting
        assert len(first) == FAST_STREAMS
        first[0].gate.set()
        await crowd.until(lambda: first[0] not in crowd.running)
        assert crowd.running == [*first[1:], behind[0]]
        for download in crowd.downloads:
            download.gate.set()
        for stream in crowd.streams:
            assert [await stream.next() for _ in range(3)] == [bytes(SIZE), b"end", b""]


@pytest.mark.asyncio
async def test_all_make_their_connections_at_once():
    everybody = threading.Barrier(MANY)

    class Together(Pieces):
        def read(self, size):
            if not self.read_once:
                everybody.wait(30)
            return super().read(size)

    assert MANY > FAST_STREAMS
    async with Crowd(MANY, kind=Together) as crowd:
        assert sorted(map(id, crowd.log)) == sorted(map(id, crowd.downloads))


@pytest.mark.asyncio
async def test_slow_streams_need_no_turn():
    async with Crowd(MANY) as crowd:
        await crowd.until(lambda: len(crowd.running) + len(crowd.waiting) == MANY)
        slow = crowd.running
        for download in slow:
            crowd.streams[crowd.downloads.index(download)]._slow_seconds = -1.0
            download.gate.set()
        await crowd.until(lambda: all(download not in crowd.running for download in slow))
        for stream, download in zip(crowd.streams, crowd.downloads, strict=True):
            assert stream._slow is (download in slow)


@pytest.mark.parametrize(("size", "seconds"), [(10, 0.001), (64 * 1024, 0.00125), (1024 * 1024, 0.02)])
@pytest.mark.asyncio
async def test_how_slow_a_stream_may_be(size, seconds):
    assert ReadAhead(WorkerPool(1), Turns(), Pieces(1), size)._slow_seconds == seconds


@pytest.mark.asyncio
async def test_a_slow_stream_goes_on_while_fast_ones_wait():
    async with Crowd(MANY) as crowd:
        await crowd.until(lambda: len(crowd.running) + len(crowd.waiting) == MANY)
        last = crowd.waiting[-1]
        slow = crowd.streams[crowd.downloads.index(last)]
        crowd.turns.leave(slow)
        slow._reading, slow._slow = False, True
        last.gate.set()
        assert await slow.next() == bytes(SIZE)
        assert await slow.next() == b"end"
        assert len(crowd.running) == FAST_STREAMS


@pytest.mark.asyncio
async def test_a_stream_that_hangs_loses_its_turn(monkeypatch):
    monkeypatch.setattr(streaming, "LATE_SECONDS", 0.0)
    async with Crowd(MANY) as crowd:
        await crowd.until(lambda: not crowd.running and not crowd.waiting)
        assert crowd.pending == MANY  # every one is being read, for none has ended


@pytest.mark.asyncio
async def test_a_turn_that_has_ended_cannot_be_late():
    turns = Turns()
    stream = ReadAhead(WorkerPool(1), turns, Pieces(1), SIZE)
    stream.begin = lambda: None  # its thread takes its time
    turns.ask(stream)
    (first,) = turns._running.values()
    turns.end(stream)
    turns.ask(stream)
    (second,) = turns._running.values()
    assert first.cancelled()
    assert not second.cancelled()
    turns.end(stream)


@pytest.mark.asyncio
async def test_who_leaves_the_queue_is_not_waited_for():
    async with Crowd(MANY) as crowd:
        await crowd.until(lambda: len(crowd.running) + len(crowd.waiting) == MANY)
        gone, next_ = crowd.waiting[:2]
        crowd.streams[crowd.downloads.index(gone)].close()
        first = crowd.running[0]
        first.gate.set()
        await crowd.until(lambda: first not in crowd.running)
        assert next_ in crowd.running
        assert gone.left == 2


@pytest.mark.asyncio
async def test_closing_ends_all_who_wait_for_a_turn():
    async with Crowd(300) as crowd:
        await crowd.until(lambda: len(crowd.running) + len(crowd.waiting) == 300)
        waiting = [crowd.streams[crowd.downloads.index(download)] for download in crowd.waiting]
        closing = asyncio.create_task(crowd.pool.close())
        await asyncio.sleep(0)
        for download in crowd.running:
            download.gate.set()
        await closing
        await crowd.until(lambda: not crowd.waiting and not any(stream._reading for stream in waiting))
        for stream in waiting:
            assert isinstance(stream._failure, StorageClosedError)
            with pytest.raises(StorageClosedError):
                await stream.next()


@pytest.mark.asyncio
async def test_a_turn_ends_where_another_waits(monkeypatch):
    monkeypatch.setattr(streaming, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(streaming, "FAST_STREAMS", 1)
    async with Crowd(2, pieces=5) as crowd:
        await crowd.until(lambda: len(crowd.running) == len(crowd.waiting) == 1)
        one, other = crowd.running[0], crowd.waiting[0]
        one.gate.set()
        other.gate.set()
        for stream in crowd.streams:
            assert [await stream.next() for _ in range(5)][-2:] == [b"end", b""]
        assert crowd.log[2:] == [one, other] * 4


@pytest.mark.asyncio
async def test_a_turn_goes_on_where_nobody_waits(monkeypatch):
    monkeypatch.setattr(streaming, "TURN_SECONDS", 0.0)
    async with Crowd(1, pieces=50) as crowd:
        await crowd.until(lambda: crowd.running)
        jobs = []
        start = crowd.pool.start
        monkeypatch.setattr(crowd.pool, "start", lambda *job: jobs.append(job) or start(*job))
        crowd.downloads[0].gate.set()
        while await crowd.streams[0].next():
            pass
        assert jobs == []


@pytest.mark.asyncio
async def test_a_stream_leaves_its_thread_to_others_who_want_it(monkeypatch):
    monkeypatch.setattr(streaming, "CROWDED_SECONDS", 0.0)
    async with Crowd(1, pieces=50, threads=1) as crowd:
        await crowd.until(lambda: crowd.running)
        other = asyncio.create_task(crowd.pool.run(Token(), lambda: crowd.log.append("other")))
        await asyncio.sleep(0)
        crowd.downloads[0].gate.set()
        await other
        assert crowd.log.index("other") == 2  # one piece makes the connection, one was being read


@pytest.mark.asyncio
@pytest.mark.parametrize("gather", [0.0, 0.001])
async def test_a_piece_does_not_wait_for_those_behind_it(monkeypatch, gather):
    monkeypatch.setattr(streaming, "GATHER_SECONDS", gather)
    async with Crowd(1, pieces=6, kind=OneByOne) as crowd, asyncio.timeout(30):
        stream, download = crowd.streams[0], crowd.downloads[0]
        for _ in range(2):
            download.more.release()
            await crowd.until(lambda: stream._pieces)  # it comes before anybody asks,
            assert await stream.next() == bytes(SIZE)
            later = asyncio.create_task(stream.next())  # or after
            await asyncio.sleep(0)
            download.more.release()
            assert await later == bytes(SIZE)


@pytest.mark.asyncio
async def test_small_pieces_are_told_of_together(monkeypatch):
    monkeypatch.setattr(streaming, "GATHER_SECONDS", 60.0)
    monkeypatch.setattr(streaming, "GATHER_BYTES", 4 * SIZE)
    async with Crowd(1, pieces=9, kind=OneByOne) as crowd, asyncio.timeout(30):
        stream, download = crowd.streams[0], crowd.downloads[0]
        first = asyncio.create_task(stream.next())
        await crowd.until(lambda: stream._waiting is not None)
        download.more.release(3)
        await crowd.until(lambda: len(stream._pieces) == 3)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not first.done()
        download.more.release()
        assert await first == bytes(SIZE)


@pytest.mark.asyncio
async def test_pieces_that_were_not_told_of_are_given_where_the_turn_ends(monkeypatch):
    monkeypatch.setattr(streaming, "GATHER_SECONDS", 60.0)
    monkeypatch.setattr(streaming, "TURN_SECONDS", 0.0)
    async with Crowd(MANY) as crowd, asyncio.timeout(30):
        await crowd.until(lambda: len(crowd.running) + len(crowd.waiting) == MANY)
        first = crowd.running[0]
        stream = crowd.streams[crowd.downloads.index(first)]
        piece = asyncio.create_task(stream.next())
        await crowd.until(lambda: stream._waiting is not None)
        first.gate.set()
        assert await piece == bytes(SIZE)
        assert first in crowd.waiting


class Watched:
    """The running loop, of which it tells what was asked for."""

    def __init__(self, on_future=lambda: None):
        self._loop = asyncio.get_running_loop()
        self._on_future = on_future
        self.timers = []

    def create_future(self):
        future = self._loop.create_future()
        self._on_future()
        return future

    def call_later(self, *call):
        self.timers.append(self._loop.call_later(*call))
        return self.timers[-1]

    def __getattr__(self, name):
        return getattr(self._loop, name)


@pytest.mark.asyncio
async def test_a_piece_that_comes_before_the_waiting_can_be_seen_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(streaming, "GATHER_SECONDS", 60.0)
    async with Crowd(1, kind=OneByOne) as crowd, asyncio.timeout(30):
        stream = crowd.streams[0]
        stream._loop = Watched(on_future=lambda: stream._pieces.append(bytes(SIZE)))
        assert await stream.next() == bytes(SIZE)


@pytest.mark.asyncio
async def test_a_stream_is_no_more_in_a_hurry_once_its_piece_has_come(monkeypatch):
    monkeypatch.setattr(streaming, "GATHER_SECONDS", 60.0)
    monkeypatch.setattr(streaming, "GATHER_BYTES", 2 * SIZE)
    async with Crowd(1, pieces=9, kind=OneByOne) as crowd, asyncio.timeout(30):
        stream, download = crowd.streams[0], crowd.downloads[0]
        stream._loop = Watched()
        piece = asyncio.create_task(stream.next())
        await crowd.until(lambda: stream._loop.timers)
        download.more.release(2)
        assert await piece == bytes(SIZE)
        assert [timer.cancelled() for timer in stream._loop.timers] == [True]


@pytest.mark.asyncio
async def test_making_the_connection_says_nothing_of_how_fast_it_is():
    pool, turns = WorkerPool(1), Turns()
    stream = ReadAhead(pool, turns, Pieces(3), SIZE)
    stream._slow_seconds = -1.0
    assert await stream.next() == bytes(SIZE)
    while not turns._running:  # noqa: ASYNC110 - what threads do sets no event
        await asyncio.sleep(0)
    assert not stream._slow
    stream.close()
    await pool.close()
