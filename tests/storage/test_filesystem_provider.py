"""The provider on a real folder, on pyfakefs, and on the kit's simulated disk."""

from __future__ import annotations

import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from pyfakefs.fake_filesystem import FakeFilesystem
from pyfakefs.fake_io import FakeFcntlModule
from pyfakefs.fake_os import FakeOsModule

from factflow_infra.errors import (
    BucketNotFoundError,
    CorruptObjectError,
    InvalidKeyError,
    InvalidObjectError,
    KeyConflictError,
    ObjectNotFoundError,
    PreconditionFailedError,
    SettingsError,
    StorageClosedError,
)
from factflow_infra.protocols import StorageProtocol
from factflow_infra.storage.filesystem import FilesystemStorageProvider, steps
from factflow_infra.storage.filesystem.tree import Tree
from factflow_infra.storage.metadata import MAX_METADATA_BYTES
from factflow_infra_testing.storage.disk import DiskFcntl, DiskOs


@pytest.fixture(params=["real", "pyfakefs", "simulated"])
def root(request, monkeypatch, tmp_path):
    if request.param == "real":
        return str(tmp_path)
    filesystem = FakeFilesystem()
    filesystem.create_dir("/data")
    if request.param == "pyfakefs":
        monkeypatch.setattr(steps, "os", FakeOsModule(filesystem))
        monkeypatch.setattr(steps, "fcntl", FakeFcntlModule(filesystem))
    else:
        disk = DiskOs(filesystem)
        monkeypatch.setattr(steps, "os", disk)
        monkeypatch.setattr(steps, "fcntl", DiskFcntl(disk))
    return "/data"


def one_thread():
    """Because pyfakefs is not made for threads."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))


def tree_of(root):
    """The names below the root, but for the lock files."""
    with Tree(root).opened_root() as opened:
        return sorted(name for name, _ in steps.entries(opened) if name != ".factflow")


async def keys(storage, prefix=""):
    return [key async for key in storage.list(prefix)]


async def pieces(*parts):
    for part in parts:
        yield part


def put_raw(root, name, data):
    with Tree(root).opened_root() as opened:
        descriptor = steps.create_file(opened, name)
        steps.write(descriptor, memoryview(data))
        steps.close(descriptor)


def overwrite_raw(root, name, data):
    with Tree(root).opened_root() as opened:
        steps.unlink(opened, name)
    put_raw(root, name, data)


@pytest.mark.asyncio
async def test_it_is_a_storage(tmp_path):
    assert isinstance(FilesystemStorageProvider(tmp_path), StorageProtocol)


@pytest.mark.asyncio
async def test_a_round_trip(root):
    one_thread()
    async with FilesystemStorageProvider(root) as storage:
        begun = datetime.now(UTC)
        metadata = {"execution_id": "e", "ключ": ["é", None, 1.5, {"x": True}]}
        info = await storage.write("a/b/ключ.bin", bytes(range(256)), metadata, content_type="text/x")
        found = await storage.get("a/b/ключ.bin")
        assert found.data == bytes(range(256)) == await storage.read("a/b/ключ.bin")
        assert found.info == info == await storage.stat("a/b/ключ.bin")
        assert (info.size, info.content_type, info.metadata) == (256, "text/x", metadata)
        assert info.checksum == f"sha256:{info.etag}"
        assert begun <= info.created_at == info.modified_at <= datetime.now(UTC)
        assert await storage.exists("a/b/ключ.bin")
        assert not await storage.exists("a/b")
        assert await keys(storage) == ["a/b/ключ.bin"]


@pytest.mark.asyncio
async def test_an_overwrite_replaces_metadata_and_keeps_created_at(root):
    one_thread()
    async with FilesystemStorageProvider(root) as storage:
        first = await storage.write("k", b"1", {"v": 1}, content_type="a/b")
        second = await storage.write("k", b"22")
        assert second.created_at == first.created_at
        assert second.modified_at >= first.modified_at
        assert (second.metadata, second.content_type, second.size) == ({}, "application/octet-stream", 2)
        assert second.etag != first.etag
        await storage.delete("k")
        assert (await storage.write("k", b"3")).created_at > first.created_at


@pytest.mark.asyncio
async def test_what_is_missing(root):
    one_thread()
    async with FilesystemStorageProvider(root) as storage:
        await storage.write("file", b"")
        for key in ("nothing", "no/thing", "file/below"):
            for call in (storage.read(key), storage.get(key), storage.stat(key), storage.copy(key, "target")):
                with pytest.raises(ObjectNotFoundError, match=key):
                    await call
            with pytest.raises(ObjectNotFoundError, match=key):
                await anext(storage.stream(key))
            assert not await storage.exists(key)
            await storage.delete(key)
            with pytest.raises(PreconditionFailedError):
                await storage.delete(key, if_match="etag")
            if key != "file/below":
                with pytest.raises(PreconditionFailedError):
                    await storage.write(key, b"", if_match="etag")
        assert await keys(storage) == ["file"]


@pytest.mark.asyncio
async def test_conditions(root):
    one_thread()
    async with FilesystemStorageProvider(root) as storage:
        info = await storage.write("k", b"1", {"v": 1}, if_absent=True)
        with pytest.raises(PreconditionFailedError, match="if_absent"):
            await storage.write("k", b"2", if_absent=True)
        with pytest.raises(PreconditionFailedError, match="if_match"):
            await storage.write("k", b"2", if_match="0" * 64)
        assert (await storage.get("k")).info == info
        second = await storage.write("k", b"2", if_match=info.etag)
        with pytest.raises(PreconditionFailedError):
            await storage.delete("k", if_match=info.etag)
        await storage.delete("k", if_match=second.etag)
        assert tree_of(root) == []


@pytest.mark.asyncio
async def test_delete_leaves_no_empty_folders_and_keeps_others(root):
    one_thread()
    async with FilesystemStorageProvider(root) as storage:
        await storage.write("a/b/c/d", b"")
        await storage.write("a/x", b"")
        await storage.delete("a/b/c/d")
        assert await keys(storage) == ["a/x"]
        await storage.write("a/b", b"the folder is gone, so this may be an object")
        await storage.delete("a/x")
        await storage.delete("a/b")
        assert tree_of(root) == []


@pytest.mark.asyncio
async def test_a_key_and_one_below_it_exclude_each_other(root):
    one_thread()
    async with FilesystemStorageProvider(root) as storage:
        await storage.write("a/b", b"1")
        for call in (storage.write("a", b""), storage.copy("a/b", "a"), storage.write("a", pieces(b"x" * 2_000_000))):
            with pytest.raises(KeyConflictError, match="'a'"):
                await call
        with pytest.raises(KeyConflictError, match="'a/b/c'"):
            await storage.write("a/b/c", b"")
        assert await keys(storage) == ["a/b"]
        assert tree_of(root) == ["a"]


@pytest.mark.asyncio
async def test_copy(root):
    one_thread()
    async with FilesystemStorageProvider(root) as storage:
        source = await storage.write("s", b"data", {"v": 1}, content_type="a/b")
        old = await storage.write("t/u", b"old")
        info = await storage.copy("s", "t/u")
        assert await storage.read("t/u") == b"data"
        assert (info.key, info.metadata, info.content_type, info.etag) == ("t/u", {"v": 1}, "a/b", source.etag)
        assert info.created_at == old.created_at
        assert (await storage.copy("s", "s")).etag == source.etag


@pytest.mark.asyncio
async def test_streams_in_and_out(root):
    one_thread()
    data = os.urandom(3_500_001)
    async with FilesystemStorageProvider(root) as storage:
        parts = [data[at : at + 300_000] for at in range(0, len(data), 300_000)]
        info = await storage.write("s", pieces(b"", *parts, bytearray(), memoryview(b"")), {"v": 1})
        assert info.size == len(data)
        assert b"".join([part async for part in storage.stream("s")]) == data
        sizes = [len(part) async for part in storage.stream("s", chunk_size=1_000_000)]
        assert sizes == [1_000_000] * 3 + [500_001]
        for start, end in ((0, 0), (5, 5), (1, 2), (0, 10**9), (3_500_000, None), (10**9, None), (7, 2_000_000)):
            got = b"".join([part async for part in storage.stream("s", start=start, end=end, chunk_size=65_537)])
            assert got == data[start:end]
        await storage.write("empty", pieces())
        assert [part async for part in storage.stream("empty")] == []
        assert await storage.read("empty") == b""


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [10, 2_000_000])
async def test_an_iterator_that_raises_leaves_nothing(root, size):
    one_thread()

    async def breaking():
        yield b"x" * size
        raise LookupError("the source broke")

    async def wrong():
        yield b"x" * size
        yield "text"

    async with FilesystemStorageProvider(root) as storage:
        await storage.write("old", b"old")
        for key in ("old", "new/deeper"):
            with pytest.raises(LookupError):
                await storage.write(key, breaking())
            with pytest.raises(InvalidObjectError, match="not str"):
                await storage.write(key, wrong())
        assert tree_of(root) == ["old", "old.meta.json"]
        assert await storage.read("old") == b"old"


@pytest.mark.asyncio
async def test_a_stream_reads_one_version_to_its_end(root):
    one_thread()
    async with FilesystemStorageProvider(root) as storage:
        await storage.write("k", b"1" * 100)
        stream = storage.stream("k", chunk_size=10)
        first = await anext(stream)
        await storage.write("k", b"2" * 100)
        assert first + b"".join([part async for part in stream]) == b"1" * 100


@pytest.mark.asyncio
async def test_corruption_is_found_on_every_way_to_the_content(root):
    one_thread()
    async with FilesystemStorageProvider(root) as storage:
        for damage in (b"dAta", b"dat", b"data+", b""):
            info = await storage.write("k", b"data", {"v": 1})
            overwrite_raw(root, "k", damage)
            for call in (storage.read("k"), storage.get("k"), storage.copy("k", "t")):
                with pytest.raises(CorruptObjectError, match="'k' is corrupt"):
                    await call
            with pytest.raises(CorruptObjectError):
                _ = [part async for part in storage.stream("k")]
            with pytest.raises(CorruptObjectError):
                await storage.write("k", b"new", if_match=info.etag)
            assert not await storage.exists("t")
            assert (await storage.write("k", b"mended")).size == 6
            assert await storage.read("k") == b"mended"
            await storage.delete("k")


@pytest.mark.asyncio
@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b"\xff", b'{"factflow": 1}', b"[" * 100_000])
async def test_a_damaged_sidecar_is_corruption(root, damage):
    one_thread()
    async with FilesystemStorageProvider(root) as storage:
        await storage.write("k", b"data", {"v": 1})
        overwrite_raw(root, "k.meta.json", damage)
        for call in (storage.read("k"), storage.stat("k")):
            with pytest.raises(CorruptObjectError, match="no readable record"):
                await call
        await storage.write("k", b"new", {"v": 2})
        assert (await storage.get("k")).info.metadata == {"v": 2}


@pytest.mark.asyncio
async def test_a_sidecar_longer_than_any_is_not_read(root, monkeypatch):
    one_thread()
    async with FilesystemStorageProvider(root) as storage:
        longest = {"text": "x" * (MAX_METADATA_BYTES - len('{"text":""}'))}
        await storage.write("k", b"data", longest)
        await storage.write("k", b"again", longest)  # beside the record of the version before
        assert (await storage.get("k")).info.metadata == longest
        overwrite_raw(root, "k.meta.json", b" " * 5_000_000)
        reads = []
        read = steps.read
        monkeypatch.setattr(steps, "read", lambda descriptor, count: reads.append(count) or read(descriptor, count))
        with pytest.raises(CorruptObjectError, match="no readable record"):
            await storage.read("k")
        assert sum(reads) < 1_000_000


@pytest.mark.asyncio
async def test_files_of_other_tools_are_objects_without_metadata(root):
    one_thread()
    async with FilesystemStorageProvider(root) as storage:
        put_raw(root, "foreign", b"data")
        found = await storage.get("foreign")
        assert (found.data, found.info.metadata, found.info.size) == (b"data", {}, 4)
        assert found.info == await storage.stat("foreign")
        assert b"".join([part async for part in storage.stream("foreign", chunk_size=3)]) == b"data"
        copied = await storage.copy("foreign", "copy")
        assert copied.etag == found.info.etag
        written = await storage.write("foreign", b"ours", if_match=found.info.etag)
        assert written.created_at == found.info.created_at


@pytest.mark.asyncio
async def test_an_orphan_sidecar_is_no_object(root):
    one_thread()
    async with FilesystemStorageProvider(root) as storage:
        await storage.write("k", b"1", {"v": 1})
        with Tree(root).opened_root() as opened:
            steps.unlink(opened, "k")
        assert not await storage.exists("k")
        assert await keys(storage) == []
        info = await storage.write("k", b"1", if_absent=True)
        assert info.metadata == {}
        await storage.delete("k")
        assert tree_of(root) == []


@pytest.mark.asyncio
async def test_the_sidecar_is_readable_json(tmp_path):
    async with FilesystemStorageProvider(tmp_path) as storage:
        info = await storage.write("a/k.pdf", b"data", {"stage": "parse"}, content_type="application/pdf")
        sidecar = json.loads((tmp_path / "a" / "k.pdf.meta.json").read_text())
        assert (tmp_path / "a" / "k.pdf").read_bytes() == b"data"
        assert sidecar["metadata"] == {"stage": "parse"}
        assert sidecar["checksum"] == info.checksum


@pytest.mark.asyncio
async def test_a_restored_backup_keeps_its_metadata(tmp_path):
    """New inodes, then new times too."""
    async with FilesystemStorageProvider(tmp_path) as storage:
        await storage.write("k", b"1", {"v": 1})
        info = await storage.write("k", b"2", {"v": 2})
        data, was = (tmp_path / "k").read_bytes(), (tmp_path / "k").stat()
        (tmp_path / "copy").write_bytes(data)
        os.utime(tmp_path / "copy", ns=(was.st_atime_ns, was.st_mtime_ns))
        (tmp_path / "copy").rename(tmp_path / "k")
        assert await storage.stat("k") == info
        os.utime(tmp_path / "k", ns=(1, 1))
        assert await storage.stat("k") == info == (await storage.get("k")).info


@pytest.mark.asyncio
async def test_bad_input_touches_nothing(root):
    one_thread()
    async with FilesystemStorageProvider(root) as storage:
        calls = {
            InvalidKeyError: [
                lambda: storage.write("../x", b""), lambda: storage.read("/etc/passwd"), lambda: storage.stat("a//b"),
                lambda: storage.exists("a.meta.json"), lambda: storage.copy("a", ".."), lambda: storage.copy("..", "a"),
                lambda: storage.delete(".factflow/lock-00"), lambda: storage.get("x\0"), lambda: storage.read("x" * 246),
                lambda: storage.write("é" * 123, b""), lambda: storage.write("y" * 256 + "/a", b""),
                lambda: storage.list_page("../"), lambda: storage.list_page(after="\ud800"), lambda: storage.write(None, b""),
            ],
            InvalidObjectError: [
                lambda: storage.write("a", "text"), lambda: storage.write("a", [b"x"]), lambda: storage.write("a", None),
                lambda: storage.write("a", 5), lambda: storage.write("a", b"", {"x": float("nan")}),
                lambda: storage.write("a", b"", content_type="x"), lambda: storage.delete("a", if_match=5),
                lambda: storage.write("a", b"", if_absent=True, if_match="e"), lambda: storage.list_page(limit=0),
                lambda: storage.list_page(limit=True), lambda: storage.list_page(delimiter=""),
            ],
        }  # fmt: skip
        for error, several in calls.items():
            for call in several:
                with pytest.raises(error):
                    await call()
        for bad in ({"start": -1}, {"end": -1}, {"chunk_size": 0}, {"start": 2, "end": 1}):
            with pytest.raises(InvalidObjectError):
                storage.stream("a", **bad)
        with pytest.raises(InvalidKeyError):
            storage.stream("..")
        with pytest.raises(InvalidKeyError):
            storage.list("a//")
        with Tree(root).opened_root() as opened:
            assert list(steps.entries(opened)) == []


@pytest.mark.asyncio
async def test_the_longest_names_are_stored(root):
    one_thread()
    async with FilesystemStorageProvider(root) as storage:
        key = "/".join(["d" * 255, "e" * 255, "f" * 255, "g" * 245])
        await storage.write(key, b"x", {"v": 1})
        assert await keys(storage) == [key]
        assert (await storage.get(key)).info.metadata == {"v": 1}


@pytest.mark.asyncio
async def test_a_missing_root(tmp_path):
    storage = FilesystemStorageProvider(tmp_path / "no" / "root")
    for call in (storage.write("k", b""), storage.read("k"), storage.exists("k"), storage.delete("k"), keys(storage)):
        with pytest.raises(BucketNotFoundError, match="create_root"):
            await call
    await storage.close()
    async with FilesystemStorageProvider(tmp_path / "no" / "root", create_root=True) as made:
        await made.write("k", b"1")
        assert await made.read("k") == b"1"
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BucketNotFoundError, match="no folder"):
        await FilesystemStorageProvider(tmp_path / "file").read("k")


@pytest.mark.parametrize("root", [None, 5, "", "a\0b", b"/bytes"])
def test_a_bad_root(root):
    with pytest.raises(SettingsError, match="root"):
        FilesystemStorageProvider(root)


@pytest.mark.parametrize("limit", [0, -1, "3", True, 1.5])
def test_a_bad_limit(tmp_path, limit):
    with pytest.raises(SettingsError, match="max_concurrency"):
        FilesystemStorageProvider(tmp_path, max_concurrency=limit)


@pytest.mark.asyncio
async def test_after_close(root):
    one_thread()
    storage = FilesystemStorageProvider(root)
    await storage.write("a/k", b"x" * 10)
    stream = storage.stream("a/k", chunk_size=1)
    await anext(stream)
    listing = storage.list()
    await storage.close()
    await storage.close()
    for call in (storage.read("k"), storage.write("k", b""), storage.delete("k"), anext(stream), anext(listing)):
        with pytest.raises(StorageClosedError):
            await call
    if isinstance(steps.os, DiskOs):
        assert not steps.os.descriptors


@pytest.mark.asyncio
async def test_no_descriptor_is_left_open(monkeypatch):
    filesystem = FakeFilesystem()
    filesystem.create_dir("/data")
    disk = DiskOs(filesystem)
    monkeypatch.setattr(steps, "os", disk)
    monkeypatch.setattr(steps, "fcntl", DiskFcntl(disk))
    one_thread()
    storage = FilesystemStorageProvider("/data")
    await storage.write("f/k", b"x" * 100)
    kept = disk.descriptors
    assert kept == 1
    for call in (storage.read("f/k"), storage.stat("f/k"), storage.copy("f/k", "f/l"), storage.delete("f/l")):
        await call
    with pytest.raises(ObjectNotFoundError):
        await storage.read("f/k/x")
    with pytest.raises(KeyConflictError):
        await storage.write("f/k/x", b"")
    with pytest.raises(KeyConflictError):
        await storage.write("f", b"")
    stream = storage.stream("f/k", chunk_size=10)
    await anext(stream)
    await stream.aclose()
    assert disk.descriptors == kept
    await storage.close()
    assert disk.descriptors == 0
