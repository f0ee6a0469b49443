"""Each error of the disk is a class of its own, tells the truth about ``retryable``, and names key and remedy (S10)."""

from __future__ import annotations

import errno
import os

import pytest

from factflow_infra.errors import (
    BucketNotFoundError,
    StorageFullError,
    StorageIOError,
    StoragePermissionError,
    WriteUnconfirmedError,
)
from factflow_infra.storage.filesystem import FilesystemStorageProvider, steps

CASES = [
    (errno.ENOSPC, StorageFullError, False),
    (errno.EDQUOT, StorageFullError, False),
    (errno.EFBIG, StorageFullError, False),
    (errno.EACCES, StoragePermissionError, False),
    (errno.EPERM, StoragePermissionError, False),
    (errno.EROFS, StoragePermissionError, False),
    (errno.EIO, StorageIOError, False),
    (errno.ENODEV, StorageIOError, False),
    (errno.EMFILE, StorageIOError, True),
    (errno.ENFILE, StorageIOError, True),
    (errno.ENOMEM, StorageIOError, True),
    (errno.ESTALE, StorageIOError, True),
    (errno.ENOLCK, StorageIOError, True),
]


def failing(code):
    def call(*_):
        raise OSError(code, os.strerror(code))

    return call


@pytest.mark.asyncio
@pytest.mark.parametrize(("code", "kind", "retryable"), CASES)
async def test_each_errno_has_its_class(tmp_path, monkeypatch, code, kind, retryable):
    async with FilesystemStorageProvider(tmp_path) as storage:
        await storage.write("key", b"old", {"v": 1})
        for name, call in (
            ("write", lambda: storage.write("key", b"new")),
            ("rename", lambda: storage.write("key", b"new")),
            ("create_file", lambda: storage.copy("key", "other")),
            ("read", lambda: storage.read("key")),
            ("open_file", lambda: storage.stat("key")),
            ("unlink", lambda: storage.delete("key")),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(steps, name, failing(code))
                with pytest.raises(kind) as caught:
                    await call()
            assert caught.value.retryable is retryable
            assert "key" in str(caught.value)
            assert isinstance(caught.value.__cause__, OSError)
        assert (await storage.get("key")).data == b"old"
    monkeypatch.setattr(steps, "open_root", failing(code))
    with pytest.raises(kind):
        await FilesystemStorageProvider(tmp_path).read("key")


@pytest.mark.asyncio
async def test_a_write_that_could_not_be_synced_is_unconfirmed(tmp_path, monkeypatch):
    async with FilesystemStorageProvider(tmp_path) as storage:
        await storage.write("key", b"old")
        calls = []

        def sync(descriptor):
            calls.append(descriptor)
            if len(calls) == 4:  # the folder, after the object's rename
                raise OSError(errno.EIO, "simulated")

        monkeypatch.setattr(steps, "sync", sync)
        with pytest.raises(WriteUnconfirmedError, match="'key'") as caught:
            await storage.write("key", b"new")
        assert caught.value.retryable
        assert await storage.read("key") == b"new"
        calls.extend([0, 0])
        calls[:] = [0, 0, 0]
        with pytest.raises(WriteUnconfirmedError, match="delete of 'key'"):
            await storage.delete("key")


@pytest.mark.asyncio
async def test_a_rename_whose_answer_was_lost_is_unconfirmed(tmp_path, monkeypatch):
    rename = steps.rename

    def lost(parent, name, target):
        rename(parent, name, target)
        if target == "key":
            raise OSError(errno.EIO, "simulated")

    async with FilesystemStorageProvider(tmp_path) as storage:
        monkeypatch.setattr(steps, "rename", lost)
        with pytest.raises(WriteUnconfirmedError):
            await storage.write("key", b"new", {"v": 1})
        assert (await storage.get("key")).info.metadata == {"v": 1}


@pytest.mark.asyncio
async def test_short_writes_and_reads_are_continued(tmp_path, monkeypatch):
    write, read = steps.write, steps.read
    monkeypatch.setattr(steps, "write", lambda descriptor, data: write(descriptor, data[:7]))
    monkeypatch.setattr(steps, "read", lambda descriptor, count: read(descriptor, min(count, 5)))
    async with FilesystemStorageProvider(tmp_path) as storage:
        await storage.write("key", bytes(range(100)), {"v": "x" * 50})
        assert await storage.read("key") == bytes(range(100))
        assert [len(piece) async for piece in storage.stream("key", chunk_size=60)] == [60, 40]
        assert (await storage.copy("key", "other")).size == 100


@pytest.mark.asyncio
async def test_the_root_vanishes(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    async with FilesystemStorageProvider(root) as storage:
        await storage.write("a/key", b"")
        for path in list((root / ".factflow").iterdir()):
            path.unlink()
        (root / ".factflow").rmdir()
        for path in list((root / "a").iterdir()):
            path.unlink()
        (root / "a").rmdir()
        root.rmdir()
        with pytest.raises(BucketNotFoundError):
            await storage.write("a/key", b"")
