"""Writes of ``LARGE`` bytes and more: their checksum is computed beside the disk's work, and all promises stay."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest

from factflow_infra.errors import PreconditionFailedError, StorageFullError
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
@pytest.mark.parametrize("moment", ["put_whole", "digest_whole", "finish"])
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
