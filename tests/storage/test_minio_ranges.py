"""Large objects come in ranges, several at once: one version, verified, whatever happens to the connections or the object."""

from __future__ import annotations

import asyncio
import resource
import threading
from pathlib import Path

import pytest
import pytest_asyncio
from minio_support import Faults, corrupt, reset, truncate

from factflow_infra.errors import CorruptObjectError, StorageIOError, StorageUnreachableError
from factflow_infra.storage.assembly import Assembly
from factflow_infra.storage.minio import options, ranges
from factflow_infra.storage.minio.envelope import Version
from factflow_infra_testing.storage.s3 import SimulatedS3

SIZE = 10
OLD, NEW = b"abcdefghijklmnopqrstuvwxyz" * 4, b"ZYXWVUTSRQPONMLKJIHGFEDCBA" * 4
GET = ("GET", "/k$")


@pytest.fixture(scope="module")
def opened():
    with SimulatedS3() as s3:
        yield s3


@pytest.fixture
def s3(opened, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr(options, "MIN_PART_SIZE", 1)
    opened.reset()
    return opened


@pytest_asyncio.fixture
async def storage(s3):
    # Written in one request, read in eleven.
    await s3.provider().write("k", OLD, {"v": 1})
    async with s3.provider(part_size=SIZE, multipart_threshold=SIZE) as provider:
        yield provider  # closed before the next test: ranges of a read that failed are still asked for, and may overwrite


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc on this machine")
def test_making_room_for_a_large_object_does_not_touch_its_memory():
    """On the event loop, which would stand still meanwhile: half a second for a GiB."""
    size = 256 * 1024 * 1024
    before = resident_bytes()
    assembly = Assembly(size)
    assert resident_bytes() - before < size // 8
    assembly.put(size - 3, b"end")
    assert assembly.take()[-4:] == b"\0end"
    assert resident_bytes() - before < size // 8


def start_of(request):
    value = request.headers.get("Range", b"bytes=0-")
    return int((value.decode() if isinstance(value, bytes) else value).removeprefix("bytes=").partition("-")[0])


def overwritten(s3, data):
    """Overwrites the object before a request goes on."""

    def act(request, forward):
        asyncio.run(s3.provider().write("k", data, {"v": 2}))
        return forward(request)

    return act


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [SIZE + 1, 2 * SIZE, 2 * SIZE + 1, len(OLD)])
async def test_all_ranges_make_the_object(s3, storage, size):
    written = await s3.provider().write("k", OLD[:size], {"v": 1})
    asked = Faults(*GET, lambda request, forward: (starts.append(start_of(request)), forward(request))[1])
    starts = []
    with s3.intercept(asked):
        stored = await storage.get("k")
    assert stored.data == OLD[:size]
    assert type(stored.data) is bytes
    assert stored.info == written
    assert sorted(starts) == list(range(0, size, SIZE))


@pytest.mark.asyncio
async def test_what_is_not_longer_than_a_part_is_one_request(s3, storage):
    await s3.provider().write("k", OLD[:SIZE])
    asked = Faults(*GET, lambda request, forward: forward(request))
    with s3.intercept(asked):
        assert await storage.read("k") == OLD[:SIZE]
    assert len(asked.seen) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [1, 2, 7])
async def test_a_broken_connection_goes_on_behind_its_last_byte(s3, storage, number):
    starts = []

    def cut(request, forward):
        starts.append(start_of(request))
        return truncate(request, forward) if len(starts) == number else forward(request)

    with s3.intercept(Faults(*GET, cut)):
        assert await storage.read("k") == OLD
    expected = list(range(0, len(OLD), SIZE))
    again = [start for start in starts if start not in expected]
    # The first answer is the whole object, so that half of it is more than its range.
    assert len(again) == (0 if number == 1 else 1)
    assert all(start % SIZE == SIZE // 2 or start > 100 for start in again)


@pytest.mark.asyncio
async def test_a_connection_that_always_breaks_is_told(s3, storage):
    with s3.intercept(Faults(*GET, reset, first=3)), pytest.raises(StorageUnreachableError) as caught:
        await storage.read("k")
    assert caught.value.retryable


@pytest.mark.asyncio
@pytest.mark.parametrize("data", [NEW, NEW[:50], NEW[:12], b"x", b""])
async def test_an_object_that_is_overwritten_is_got_anew(s3, storage, data):
    with s3.intercept(Faults(*GET, overwritten(s3, data), first=3, last=3)):
        stored = await storage.get("k")
    assert (stored.data, stored.info.metadata) == (data, {"v": 2})


@pytest.mark.asyncio
async def test_one_that_is_overwritten_each_time_is_told(s3, storage):
    with s3.intercept(Faults(*GET, overwritten(s3, NEW), first=2)), pytest.raises(StorageIOError) as caught:
        await storage.read("k")
    assert caught.value.retryable


@pytest.mark.asyncio
async def test_a_range_that_is_damaged_on_its_way_is_got_anew_once(s3, storage):
    with s3.intercept(Faults(*GET, corrupt, first=4, last=4)):
        assert await storage.read("k") == OLD
    with s3.intercept(Faults(*GET, corrupt)), pytest.raises(CorruptObjectError):
        await storage.read("k")


@pytest.mark.asyncio
async def test_without_the_look_at_the_version_a_mix_is_made_and_found(s3, storage, monkeypatch):
    """Ablation: the checksum is behind it."""
    monkeypatch.setattr(Version, "same_as", lambda *_: True)
    with s3.intercept(Faults(*GET, overwritten(s3, NEW), first=3, last=3)):
        monkeypatch.setattr("factflow_infra.storage.minio.ranges.CorruptObjectError", ())
        with pytest.raises(CorruptObjectError):
            await storage.read("k")


@pytest.mark.asyncio
async def test_only_so_many_are_on_their_way_at_once(s3, storage):
    lock, running, most = threading.Lock(), [], []

    def count(request, forward):
        with lock:
            running.append(request)
            most.append(len(running))
        try:
            return forward(request)
        finally:
            with lock:
                running.remove(request)

    with s3.intercept(Faults(*GET, count)):
        await storage.read("k")
    assert max(most) <= ranges.MAX_PARALLEL


@pytest.mark.asyncio
async def test_a_reader_that_goes_away_asks_for_no_more(s3, storage):
    reader, gate = None, threading.Event()
    loop = asyncio.get_running_loop()

    def leave(request, forward):
        loop.call_soon_threadsafe(reader.cancel)
        gate.wait(10)
        return forward(request)

    asked = Faults(*GET, leave, first=2)
    with s3.intercept(asked):
        reader = asyncio.ensure_future(storage.read("k"))
        with pytest.raises(asyncio.CancelledError):
            await reader
        gate.set()
        await storage.close()
    assert len(asked.seen) <= 1 + ranges.MAX_PARALLEL
