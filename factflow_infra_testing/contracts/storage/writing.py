"""S1 and S2: a write is all or nothing, and done when it says so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from factflow_infra.errors import InvalidObjectError, ObjectNotFoundError, WriteUnconfirmedError
from factflow_infra_testing.contracts.comparing import assert_content
from factflow_infra_testing.contracts.raising import raises
from factflow_infra_testing.contracts.storage.capabilities import StorageCapability as Can
from factflow_infra_testing.contracts.storage.environment import StorageEnvironment, pieces
from factflow_infra_testing.contracts.storage.table import STORAGE_BEHAVIOURS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class BrokenStreamError(Exception):
    """What the iterators of these behaviours raise."""


async def breaking(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    raise BrokenStreamError("the source went away")


@STORAGE_BEHAVIOURS.add("S1", like=("gocdk/TestWrite",))
async def write_then_read(env: StorageEnvironment) -> None:
    """What was written is read, by this provider and by another, at once; ``write`` says what it wrote."""
    store, other = await env.provider(), await env.provider()
    for name, data in (("empty", b""), ("small", b"hello world"), ("large", bytes(range(256)) * 4096)):
        info = await store.write(env.key(name), data)
        assert (info.key, info.size) == (env.key(name), len(data))
        assert_content(await store.read(env.key(name)), data, name)
        assert_content(await other.read(env.key(name)), data, name)
        assert (await other.stat(env.key(name))).etag == info.etag


@STORAGE_BEHAVIOURS.add("S1", like=("gocdk/TestWrite",))
async def overwrite_replaces_data_and_metadata(env: StorageEnvironment) -> None:
    """The new object has nothing of the old one: not its tail, not its metadata, not its content type."""
    store, key = await env.provider(), env.key("x")
    await store.write(key, b"a longer old content", {"old": 1, "both": "old"}, content_type="text/old")
    await store.write(key, b"new", {"both": "new"})
    got = await store.get(key)
    assert got.data == b"new"
    assert dict(got.info.metadata) == {"both": "new"}
    assert got.info.content_type == "application/octet-stream"
    await store.write(key, b"bare")
    assert dict((await store.stat(key)).metadata) == {}
    assert await env.keys(store) == ["x"]


@STORAGE_BEHAVIOURS.add("S1")
async def readers_see_old_or_new_and_never_a_mix(env: StorageEnvironment) -> None:
    """While a key is overwritten again and again, every ``get`` has data and metadata of one version."""
    store, reader, key = await env.provider(), await env.provider(), env.key("x")
    await store.write(key, b"0" * 1000, {"version": 0})
    done = asyncio.Event()

    async def write() -> None:
        for version in range(1, 25):
            await store.write(key, str(version % 10).encode() * (1000 + version), {"version": version})
        done.set()

    async def read() -> set[int]:
        seen: set[int] = set()
        while not done.is_set():
            got = await reader.get(key)
            version = got.info.metadata["version"]
            expected = str(version % 10).encode() * (1000 + version)
            assert_content(got.data, expected, f"version {version}, by its metadata")
            assert got.info.size == len(got.data)
            seen.add(version)
            await asyncio.sleep(0)
        return seen

    seen, _ = await asyncio.gather(read(), write())
    assert len(seen) > 1, "nothing was read while it was overwritten"


@STORAGE_BEHAVIOURS.add("S1")
async def concurrent_writers_leave_one_whole_object(env: StorageEnvironment) -> None:
    """Ten writers of two providers on one key: afterwards it is one of theirs, data and metadata together."""
    stores, key = [await env.provider(), await env.provider()], env.key("x")
    await asyncio.gather(*(stores[n % 2].write(key, str(n).encode() * 5000, {"n": n}) for n in range(10)))
    got = await stores[0].get(key)
    assert_content(
        got.data, str(got.info.metadata["n"]).encode() * 5000, f"writer {got.info.metadata['n']}, by its metadata"
    )
    assert await env.keys(stores[1]) == ["x"]


@STORAGE_BEHAVIOURS.add("S1", like=("gocdk/TestConcurrentWriteAndRead",))
async def concurrent_writes_of_many_keys(env: StorageEnvironment) -> None:
    """20 keys written at once, read at once, each with its own content."""
    store = await env.provider()
    contents = {env.key(f"dir{n % 3}/key{n}"): bytes([n]) * 8192 for n in range(20)}
    await asyncio.gather(*(store.write(key, data) for key, data in contents.items()))
    read = await asyncio.gather(*(store.read(key) for key in contents))
    for (key, content), got in zip(contents.items(), read, strict=True):
        assert_content(got, content, key)


@STORAGE_BEHAVIOURS.add("S8", like=("gocdk/TestWrite",))
async def stream_is_written(env: StorageEnvironment) -> None:
    """Many pieces of odd sizes, empty ones among them, none at all, and one larger than any part of a multipart upload;
    with metadata and type as for bytes.
    """
    store = await env.provider()
    cases = {
        "none": (),
        "empty": (b"", b""),
        "one": (b"hello",),
        "odd": tuple(bytes([n]) * (n * 37) for n in range(64)),
        "large": (b"a" * 10, b"b" * 9_000_000, b"c" * 7_000_001),
    }
    for name, parts in cases.items():
        info = await store.write(env.key(name), pieces(*parts), {"name": name}, content_type="text/plain")
        got = await store.get(env.key(name))
        assert_content(got.data, b"".join(parts), name)
        assert (info.size, got.info.size) == (len(got.data), len(got.data))
        assert (dict(got.info.metadata), got.info.content_type) == ({"name": name}, "text/plain")
        assert info.checksum == got.info.checksum


@STORAGE_BEHAVIOURS.add("S8", like=("gocdk/TestCanceledWrite",))
async def failing_stream_writes_nothing(env: StorageEnvironment) -> None:
    """The iterator raises, early or after many megabytes: its error comes out, the old object stays, a new one does not
    appear. Exceptions and garbage collection *commit* a partial upload in smart_open.
    """
    store, old, new = await env.provider(), env.key("old"), env.key("new")
    await store.write(old, b"old content", {"old": True})
    for parts in ((), (b"x",), (b"x" * 6_000_000, b"y" * 6_000_000)):
        for key in (old, new):
            with raises(BrokenStreamError):
                await store.write(key, breaking(*parts))
    got = await store.get(old)
    assert (got.data, dict(got.info.metadata)) == (b"old content", {"old": True})
    assert not await store.exists(new)
    assert await env.keys(store) == ["old"]
    if env.has(Can.RESIDUE):
        assert await env.faults.residue() == []


@STORAGE_BEHAVIOURS.add("S8", like=("gocdk/TestCanceledWrite",))
async def cancelled_stream_writes_nothing(env: StorageEnvironment) -> None:
    """The writer is cancelled while its source is silent: nothing was visible meanwhile, nothing is afterwards, and the
    source is closed.
    """
    store, old, new = await env.provider(), env.key("old"), env.key("new")
    await store.write(old, b"old content")
    closed: list[str] = []

    for key, size in ((old, 10), (new, 10), (old, 6_000_000), (new, 6_000_000)):
        waiting = asyncio.Event()

        async def source(key: str = key, size: int = size, waiting: asyncio.Event = waiting) -> AsyncIterator[bytes]:
            try:
                yield b"x" * size
                waiting.set()
                await asyncio.Event().wait()
                yield b"never"
            finally:
                closed.append(key)

        writing = asyncio.ensure_future(store.write(key, source()))
        await env.within_patience(waiting.wait(), "the stream was not read")
        assert await store.read(old) == b"old content"
        assert not await store.exists(new)
        writing.cancel()
        with raises(asyncio.CancelledError):
            await env.within_patience(writing, "a cancelled write never returned")
    assert closed == [old, new, old, new]
    assert await store.read(old) == b"old content"
    assert await env.keys(store) == ["old"]
    if env.has(Can.RESIDUE):
        assert await env.faults.residue() == []


@STORAGE_BEHAVIOURS.add("S8")
async def stream_of_what_is_not_bytes_writes_nothing(env: StorageEnvironment) -> None:
    """A piece of text in the stream is bad input, and aborts the write."""
    store, key = await env.provider(), env.key("x")

    async def source() -> AsyncIterator[bytes]:
        yield b"good"
        yield "text"  # pyright: ignore[reportReturnType] - bad on purpose

    with raises(InvalidObjectError):
        await store.write(key, source())
    assert not await store.exists(key)


@STORAGE_BEHAVIOURS.add("S9")
async def cancelled_write_is_old_or_new(env: StorageEnvironment) -> None:
    """Cancelled at any point, a write leaves a whole object, and a provider that works."""
    store, key = await env.provider(), env.key("x")
    await store.write(key, b"old", {"v": "old"})
    cancelled = 0
    for steps in range(12):
        writing = asyncio.ensure_future(store.write(key, b"new" * 1000, {"v": "new"}))
        for _ in range(steps):
            await asyncio.sleep(0)
        writing.cancel()
        try:
            await env.within_patience(writing, "a cancelled write never returned")
        except asyncio.CancelledError:
            cancelled += bool(steps)  # without a step it had not begun
        got = await store.get(key)
        assert (got.data, got.info.metadata["v"]) in {(b"old", "old"), (b"new" * 1000, "new")}
    assert cancelled, "no write was cancelled once it had begun"
    await env.within_patience(store.write(key, b"last"), "a write after cancelled ones never returned")
    assert await store.read(key) == b"last"
    assert await env.keys(store) == ["x"]


@STORAGE_BEHAVIOURS.add("S1", Can.LOSE_ANSWER)
async def lost_answer_is_success_or_said_to_be_unconfirmed(env: StorageEnvironment) -> None:
    """The write was applied, its answer lost: the provider's own retry succeeds, or ``WriteUnconfirmedError``, which is
    retryable; the key holds the old object or the new one, whole.
    """
    store, key = await env.provider(), env.key("x")
    await store.write(key, b"old", {"v": "old"})
    await env.faults.lose_answer()
    try:
        await store.write(key, b"new", {"v": "new"})
    except WriteUnconfirmedError as error:
        assert error.retryable  # noqa: PT017 - success is as good
        got = await store.get(key)
        assert (got.data, got.info.metadata["v"]) in {(b"old", "old"), (b"new", "new")}
    else:
        got = await store.get(key)
        assert (got.data, dict(got.info.metadata)) == (b"new", {"v": "new"})


@STORAGE_BEHAVIOURS.add("S1", Can.LOSE_ANSWER)
async def lost_answer_of_any_change_is_told_truly(env: StorageEnvironment) -> None:
    """The same for a stream in parts, a copy and a delete: done, or ``WriteUnconfirmedError``, and old or new, whole."""
    store, key, source = await env.provider(), env.key("x"), env.key("source")
    parts = (b"x" * 6_000_000, b"y" * 6_000_000)
    new = {"stream": b"".join(parts), "copy": b"copied", "delete": None}
    await store.write(source, b"copied", {"v": "copied"})
    for change, call in (
        ("stream", lambda: store.write(key, pieces(*parts), {"v": "stream"})),
        ("copy", lambda: store.copy(source, key)),
        ("delete", lambda: store.delete(key)),
    ):
        await store.write(key, b"old", {"v": "old"})
        await env.faults.lose_answer()
        try:
            await call()
        except WriteUnconfirmedError as error:
            assert error.retryable  # noqa: PT017 - success is as good
            done = False
        else:
            done = True
        if not await store.exists(key):
            assert change == "delete", f"the object is gone after a {change}"
            continue
        got = await store.get(key)
        if got.info.metadata["v"] == "old" and not done:
            assert got.data == b"old"
        else:
            assert new[change] is not None, "a delete that was done has left the object"
            assert_content(got.data, new[change] or b"", f"what a {change} left")
            assert got.info.metadata["v"] == ("copied" if change == "copy" else change)


@STORAGE_BEHAVIOURS.add("S1")
async def refused_data_writes_nothing(env: StorageEnvironment) -> None:
    """What is no data (text, ``None``, a list), no metadata, no media type: ``InvalidObjectError``, and no object."""
    store, key = await env.provider(), env.key("x")
    for bad in ("text", None, [b"a"], 7, iter([b"a"])):
        with raises(InvalidObjectError):
            await store.write(key, bad)  # pyright: ignore[reportArgumentType] - bad on purpose
    for content_type in ("", "no-slash", "new\nline/x", "grün/x", 7):
        with raises(InvalidObjectError):
            await store.write(key, b"x", content_type=content_type)  # pyright: ignore[reportArgumentType] - bad on purpose
    with raises(ObjectNotFoundError):
        await store.read(key)


@STORAGE_BEHAVIOURS.add("S2")
async def written_object_outlives_its_provider(env: StorageEnvironment) -> None:
    """Written, the provider closed: another reads it, data and metadata."""
    store, key = await env.provider(), env.key("deep/er/x")
    await store.write(key, b"data", {"a": [1, {"b": None}]})
    await store.close()
    got = await (await env.provider()).get(key)
    assert (got.data, dict(got.info.metadata)) == (b"data", {"a": [1, {"b": None}]})
