"""Streams to and from S3: parts, aborts, cancellation, ranges, broken connections."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import random

import pytest
import pytest_asyncio
from minio_support import (
    Enforcing,
    Faults,
    Journal,
    RawBody,
    answer,
    corrupt,
    lose_answer,
    pieces,
    refuse,
    reset,
    stored_keys,
    truncate,
    uploads,
)

from factflow_infra.errors import (
    CorruptObjectError,
    InvalidObjectError,
    PreconditionFailedError,
    StorageIOError,
    StorageUnreachableError,
    WriteUnconfirmedError,
)
from factflow_infra.storage.minio import multipart, streaming
from factflow_infra.storage.minio.download import Download
from factflow_infra.storage.minio.pool import AbandonedError
from factflow_infra_testing.storage.s3 import SimulatedS3

MIB = 1024 * 1024
PART = 5 * MIB
PARTS = [bytes([number]) * PART for number in range(3)]
WHOLE = b"".join(PARTS) + b"end"


@pytest.fixture(scope="module")
def opened():
    with SimulatedS3() as s3:
        yield s3


@pytest.fixture
def s3(opened, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    opened.reset()
    return opened


@pytest_asyncio.fixture
async def storage(s3):
    async with s3.provider(part_size=PART, multipart_threshold=PART) as provider:
        yield provider  # closed before the next test: what is read ahead would be in its way


def long_stream():
    return pieces(*PARTS, b"end")


@pytest.mark.asyncio
@pytest.mark.parametrize("form", ["stream", "bytes"])
async def test_what_goes_up_in_parts_is_an_object_like_any_other(s3, storage, form):
    metadata = {"stage": "é", "n": 1}
    data = long_stream() if form == "stream" else WHOLE
    written = await storage.write("k", data, metadata, content_type="text/plain")
    assert written.checksum == f"sha256:{hashlib.sha256(WHOLE).hexdigest()}"
    assert written.etag.endswith("-4")
    stored = await storage.get("k")
    assert stored.data == WHOLE
    assert stored.info == written == await storage.stat("k")
    assert [key async for key in storage.list()] == ["k"]
    await storage.delete("k")
    assert stored_keys(s3) == []


@pytest.mark.asyncio
@pytest.mark.parametrize("chunks", [[], [b""], [b"a", b"", b"b"], [b"x" * PART], [bytearray(b"a"), memoryview(b"b")]])
async def test_a_short_stream_is_one_request(s3, storage, chunks):
    journal = Journal()
    with s3.intercept(journal):
        await storage.write("k", pieces(*chunks))
    assert [line.partition(" ")[0] for line in journal.lines] == ["HEAD", "PUT"]
    assert await storage.read("k") == b"".join(chunks)


@pytest.mark.asyncio
async def test_pieces_are_cut_to_parts():
    sizes = [len(piece) async for piece in multipart.gather(pieces(b"x" * 25, b"y" * 7, b"z"), 8)]
    assert sizes == [8, 8, 8, 8, 1]
    assert [len(piece) async for piece in multipart.gather(pieces(b"x" * 16), 8)] == [8, 8]


@pytest.mark.asyncio
async def test_a_long_stream_takes_constant_memory(s3, monkeypatch):
    """Parts are asked for as they are answered, and let go of then."""
    monkeypatch.setattr(multipart, "MAX_PARALLEL", 2)
    storage = s3.provider(part_size=PART)
    taken, alive, ahead = 0, 0, []

    class Piece(bytes):
        def __new__(cls, *arguments):
            nonlocal alive
            alive += 1
            return super().__new__(cls, *arguments)

        def __del__(self):
            nonlocal alive
            alive -= 1

    async def whole_parts(_data, _size):
        nonlocal taken
        for _ in range(12):
            taken += 1
            ahead.append(taken - len(answered))
            yield Piece(b"x" * PART)

    def take(request, _):
        answered.append(request.url)
        return answer(request, 200, headers={"ETag": '"0"'})

    answered = []
    monkeypatch.setattr("factflow_infra.storage.minio.provider.gather", whole_parts)
    lossy = Faults("PUT", "partNumber", take)
    with s3.intercept(lossy), pytest.raises(StorageIOError):  # the server knows of no part in the end
        await storage.write("k", pieces())
    assert len(answered) == 12
    assert max(ahead) <= multipart.MAX_PARALLEL + 1
    await storage.close()
    gc.collect()
    assert alive <= multipart.MAX_PARALLEL + 2  # threads may hold their last jobs, the traceback a frame


@pytest.mark.asyncio
async def test_a_source_that_raises_aborts_the_write(s3, storage):
    await storage.write("k", b"old", {"v": 1})

    async def failing():
        for part in PARTS:
            yield part
        raise LookupError("the source broke")

    with pytest.raises(LookupError, match="the source broke"):
        await storage.write("k", failing())
    assert uploads(s3) == []
    assert stored_keys(s3) == ["k"]
    assert (await storage.get("k")).info.metadata == {"v": 1}
    with pytest.raises(InvalidObjectError, match="'text'"):
        await storage.write("k", pieces(*PARTS, "text"))
    assert uploads(s3) == []


@pytest.mark.asyncio
async def test_a_caller_that_goes_away_aborts_the_write(s3, storage):
    stuck = asyncio.Event()

    async def hanging():
        for part in PARTS:
            yield part
        stuck.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(storage.write("k", hanging()))
    await stuck.wait()
    assert len(uploads(s3)) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await storage.close()
    assert uploads(s3) == []
    assert stored_keys(s3) == []


@pytest.mark.asyncio
async def test_cancelled_while_the_upload_is_being_created_leaves_none(s3, storage):
    task = None

    def cancelling(request, forward):
        response = forward(request)
        loop.call_soon_threadsafe(task.cancel)
        return response

    loop = asyncio.get_running_loop()
    await storage.exists("k")
    with s3.intercept(Faults("POST", r"\?uploads", cancelling)):
        task = asyncio.create_task(storage.write("k", long_stream()))
        await asyncio.wait([task])
        await storage.close()
    assert uploads(s3) == []
    assert stored_keys(s3) == []


@pytest.mark.asyncio
async def test_a_part_that_cannot_be_sent_aborts_the_write(s3, storage):
    with s3.intercept(Faults("PUT", "partNumber=2", reset)), pytest.raises(StorageUnreachableError):
        await storage.write("k", long_stream())
    assert uploads(s3) == []
    assert stored_keys(s3) == []


@pytest.mark.asyncio
async def test_a_part_is_sent_again_where_that_may_help(s3, storage):
    faults = Faults("PUT", "partNumber=2", lose_answer, last=2)
    with s3.intercept(faults):
        await storage.write("k", long_stream())
    assert len(faults.seen) == 3
    assert await storage.read("k") == WHOLE


@pytest.mark.asyncio
@pytest.mark.parametrize("condition", [{}, {"if_absent": True}])
async def test_a_lost_answer_to_the_completion_is_recognised_as_success(s3, storage, condition):
    faults = Faults("POST", "uploadId=", lose_answer, first=2 if condition else 1)  # the probe completes first
    with s3.intercept(faults):
        written = await storage.write("k", long_stream(), **condition)
    assert await storage.stat("k") == written
    assert uploads(s3) == []


@pytest.mark.asyncio
async def test_a_completion_that_surely_failed_is_undone(s3, storage):
    await storage.write("k", b"old")
    for condition in ({"if_absent": True}, {"if_match": "0" * 32}):
        with s3.intercept(Enforcing(s3)), pytest.raises(PreconditionFailedError):
            await storage.write("k", long_stream(), **condition)
        assert uploads(s3) == []
        assert stored_keys(s3) == ["k"]
    assert await storage.read("k") == b"old"


@pytest.mark.asyncio
async def test_a_completion_of_which_nothing_is_known_is_left_alone(s3, storage):
    aborts = Faults("DELETE", "uploadId=", refuse(500))
    lost = Faults("POST", "uploadId=", reset)
    with s3.intercept(lost), s3.intercept(aborts), pytest.raises(WriteUnconfirmedError):
        await storage.write("k", long_stream())
    assert aborts.seen == []
    assert len(uploads(s3)) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("start", "end"), [(0, None), (0, 3), (3, 7), (5, None), (0, 100), (9, 12), (10, None), (50, 60), (4, 4), (0, 0)]
)
@pytest.mark.parametrize("chunk_size", [1, 3, 100])
async def test_ranges_are_cut_like_slices(storage, start, end, chunk_size):
    data = b"0123456789"
    await storage.write("k", data)
    chunks = [chunk async for chunk in storage.stream("k", start=start, end=end, chunk_size=chunk_size)]
    assert b"".join(chunks) == data[start:end]
    assert all(len(chunk) == chunk_size for chunk in chunks[:-1])
    assert all(chunks)


@pytest.mark.asyncio
async def test_a_stream_of_nothing(storage):
    await storage.write("k", b"")
    assert [chunk async for chunk in storage.stream("k")] == []
    assert [chunk async for chunk in storage.stream("k", start=0, end=5)] == []


@pytest.mark.asyncio
async def test_a_stream_goes_on_where_the_connection_broke(s3, storage):
    data = bytes(range(256)) * 4
    await storage.write("k", data)
    faults = Faults("GET", "/k", truncate, last=2)
    with s3.intercept(faults):
        assert b"".join([chunk async for chunk in storage.stream("k", chunk_size=100)]) == data
    assert len(faults.seen) == 3
    with s3.intercept(Faults("GET", "/k", truncate)), pytest.raises(StorageUnreachableError, match="'k'"):
        [chunk async for chunk in storage.stream("k")]


@pytest.mark.asyncio
async def test_a_stream_never_mixes_two_versions(s3, storage, monkeypatch):
    monkeypatch.setattr(streaming, "AHEAD", 20)  # the connection breaks further on
    await storage.write("k", b"old" * 100)
    stream = storage.stream("k", chunk_size=10)
    with s3.intercept(Faults("GET", "/k", truncate)):
        assert await anext(stream) == b"oldoldoldo"
        await storage.write("k", b"old" * 100)  # the same content, and yet another version
        with pytest.raises(StorageIOError, match="overwritten") as caught:
            [chunk async for chunk in stream]
    assert caught.value.retryable


@pytest.mark.asyncio
async def test_a_reader_of_the_old_version_may_finish_it(storage):
    await storage.write("k", b"old" * 100)
    stream = storage.stream("k", chunk_size=10)
    first = await anext(stream)
    await storage.write("k", b"new")
    assert first + b"".join([chunk async for chunk in stream]) == b"old" * 100


@pytest.mark.asyncio
async def test_corruption_on_the_way_is_found_out(s3, storage):
    await storage.write("k", b"12345")
    with s3.intercept(Faults("GET", "/k", corrupt)):
        with pytest.raises(CorruptObjectError, match="checksum"):
            await storage.read("k")
        with pytest.raises(CorruptObjectError, match="checksum"):
            [chunk async for chunk in storage.stream("k")]


@pytest.mark.asyncio
async def test_get_is_tried_again_when_the_body_breaks(s3, storage):
    await storage.write("k", b"12345")
    faults = Faults("GET", "/k", truncate, last=3)
    with s3.intercept(faults):
        assert await storage.read("k") == b"12345"
    assert len(faults.seen) == 4
    with s3.intercept(Faults("GET", "/k", truncate)), pytest.raises(StorageUnreachableError, match="'k'") as caught:
        await storage.read("k")
    assert caught.value.retryable


@pytest.mark.asyncio
async def test_a_stream_that_is_left_is_closed(s3, storage):
    await storage.write("k", b"x" * 1000)
    bodies = []

    def watched(request, forward):
        response = forward(request)
        bodies.append(response.raw)
        return response

    with s3.intercept(Faults("GET", "/k", watched)):
        stream = storage.stream("k", chunk_size=10)
        await anext(stream)
        await stream.aclose()
        await storage.close()  # waits for what is being read ahead
    assert bodies[0].closed


@pytest.mark.asyncio
async def test_a_stream_reads_ahead_but_not_far(s3, storage, monkeypatch):
    monkeypatch.setattr(streaming, "AHEAD", 100)
    data = random.Random(0).randbytes(1000)
    await storage.write("k", data)
    bodies = []

    def watched(request, forward):
        response = forward(request)
        response.raw = RawBody(response.raw.read())
        bodies.append(response.raw)
        return response

    async def settled():
        while storage._pool._jobs:
            await asyncio.wait(list(storage._pool._jobs))

    with s3.intercept(Faults("GET", "/k", watched)):
        stream = storage.stream("k", chunk_size=10)
        for start in range(0, 500, 10):
            assert await anext(stream) == data[start : start + 10]
            await settled()
            assert 50 <= bodies[0].tell() - (start + 10) <= 100  # no less than half of it is ahead
        assert b"".join([piece async for piece in stream]) == data[500:]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fault", "error", "expected"), [(corrupt, CorruptObjectError, 99), (truncate, StorageUnreachableError, None)]
)
async def test_what_was_read_before_a_failure_is_given_first(s3, storage, fault, error, expected):
    data = random.Random(0).randbytes(1000)
    await storage.write("k", data)
    got = []

    async def take():
        async for piece in storage.stream("k", chunk_size=10):
            got.append(piece)  # noqa: PERF401 - what came before the failure is what counts

    with s3.intercept(Faults("GET", "/k", fault)), pytest.raises(error, match="'k'"):
        await take()
    assert len(got) > 1
    assert expected is None or len(got) == expected
    if fault is truncate:
        assert b"".join(got) == data[: 10 * len(got)]


@pytest.mark.asyncio
async def test_nothing_is_asked_for_behind_a_stream_that_was_left(s3, storage):
    await storage.write("k", b"x" * 1000)
    download = Download(await storage._connected(), "k", 0, None)
    assert download.read(10) == b"x" * 10
    download.close()
    journal = Journal()
    with s3.intercept(journal), pytest.raises(AbandonedError):
        download.read(10)
    assert journal.lines == []


@pytest.mark.asyncio
async def test_large_objects_are_copied_through_where_the_server_cannot(storage, monkeypatch):
    written = await storage.write("k", long_stream(), {"a": 1}, content_type="text/plain")
    monkeypatch.setattr("factflow_infra.storage.minio.provider.MAX_PART_SIZE", PART)
    copied = await storage.copy("k", "t")
    assert (copied.checksum, copied.metadata, copied.content_type) == (written.checksum, {"a": 1}, "text/plain")
    assert copied == await storage.stat("t")
    assert await storage.read("t") == WHOLE
