"""Writes of ``LARGE`` bytes and more: their checksum is computed beside the disk's work, and all promises stay."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading

import pytest

from factflow_infra.errors import PreconditionFailedError, StorageFullError, StorageIOError
from factflow_infra.storage.filesystem import FilesystemStorageProvider, provider, steps
from factflow_infra.storage.filesystem.changes import Upload

LARGE = os.urandom(provider.LARGE)


def residue(folder):
    return list(folder.rglob("*.tmp"))


@pytest.mark.asyncio
async def test_a_large_object_comes_back_with_its_checksum(tmp_path):
    async with FilesystemStorageProvider(tmp_path) as storage:
        info = await storage.write("a/large", LARGE, {"n": 1})
        assert info.checksum == f"sha256:{hashlib.sha256(LARGE).hexdigest()}"
        stored = await storage.get("a/large")
    assert stored.data == LARGE
    assert stored.info == info
    assert not residue(tmp_path)


@pytest.mark.asyncio
async def test_conditions_hold_for_large_objects(tmp_path):
    async with FilesystemStorageProvider(tmp_path) as storage:
        results = await asyncio.gather(
            *[storage.write("k", LARGE + bytes([n]), if_absent=True) for n in range(6)], return_exceptions=True
        )
        assert sum(isinstance(result, PreconditionFailedError) for result in results) == 5
    assert not residue(tmp_path)


@pytest.mark.asyncio
async def test_a_large_write_that_fails_leaves_the_old_object_and_no_residue(tmp_path, monkeypatch):
    async with FilesystemStorageProvider(tmp_path) as storage:
        await storage.write("k", b"old")

        def full(_file, _data):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(steps, "write", full)
            with pytest.raises(StorageFullError):
                await storage.write("k", LARGE)
        assert await storage.read("k") == b"old"
    assert not residue(tmp_path)


@pytest.mark.asyncio
@pytest.mark.parametrize("moment", ["put_whole", "digest_whole", "make"])
async def test_a_cancelled_large_write_is_old_or_new_and_leaves_no_residue(tmp_path, monkeypatch, moment):
    loop = asyncio.get_running_loop()
    async with FilesystemStorageProvider(tmp_path) as storage:
        await storage.write("k", b"old")
        original = getattr(Upload, moment)

        def cancelling(self, *arguments):
            loop.call_soon_threadsafe(task.cancel)
            return original(self, *arguments)

        monkeypatch.setattr(Upload, moment, cancelling)
        task = asyncio.ensure_future(storage.write("k", LARGE))
        with pytest.raises(asyncio.CancelledError):
            await task
        monkeypatch.undo()
        assert await storage.read("k") in (b"old", LARGE)
    assert not residue(tmp_path)


@pytest.mark.asyncio
@pytest.mark.parametrize("end", ["cancelled", "failed"])
async def test_nothing_is_discarded_while_a_job_still_runs(tmp_path, monkeypatch, end):
    """One of the two jobs ends at once, the other is still at work: its descriptor must not be closed under its hands."""
    writing, go_on = threading.Event(), threading.Event()
    ended, discarded = [], []
    put, digest, discard = Upload.put_whole, Upload.digest_whole, Upload.discard

    def slow_put(self, data):
        writing.set()
        assert go_on.wait(10)
        put(self, data)
        ended.append(True)

    def quick_digest(self, data):
        if end == "failed":
            raise OSError(5, "Input/output error")
        digest(self, data)

    def noted_discard(self):
        discarded.append(bool(ended))
        discard(self)

    monkeypatch.setattr(Upload, "put_whole", slow_put)
    monkeypatch.setattr(Upload, "digest_whole", quick_digest)
    monkeypatch.setattr(Upload, "discard", noted_discard)
    async with FilesystemStorageProvider(tmp_path) as storage:
        task = asyncio.ensure_future(storage.write("k", LARGE))
        await asyncio.to_thread(writing.wait, 10)
        if end == "cancelled":
            task.cancel()
        for _ in range(20):  # time enough for whoever would be hasty
            await asyncio.sleep(0)
        await asyncio.to_thread(lambda: None)
        go_on.set()
        with pytest.raises(asyncio.CancelledError if end == "cancelled" else StorageIOError):
            await task
        assert discarded == [True]
    assert not residue(tmp_path)
