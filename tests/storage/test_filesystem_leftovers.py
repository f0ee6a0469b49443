"""What dead processes left is found and removed; what living ones hold, and what is young, is not."""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
import time
from contextlib import nullcontext

import pytest

from factflow_infra.errors import InvalidObjectError, StorageClosedError, StoragePermissionError
from factflow_infra.storage.filesystem import FilesystemStorageProvider, changes, leftovers, steps
from factflow_infra_testing.simulation.runner import run
from factflow_infra_testing.storage.files import SimulatedFilesystem

HOUR = 3600


def age(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))


@pytest.fixture
def root(tmp_path):
    """Two objects, and what three crashes left."""

    async def fill():
        async with FilesystemStorageProvider(tmp_path) as storage:
            await storage.write("a/k", b"1", {"v": 1})
            await storage.write("b", b"2", {"v": 2})

    asyncio.run(fill())
    (tmp_path / "gone").mkdir()
    for name in ("a/.factflow-0123456789abcdef.tmp", "gone/.factflow-0123456789abcdef.tmp", "a/x.meta.json"):
        path = tmp_path / name
        path.write_bytes(b"left")
        age(path, 2 * HOUR)
    return tmp_path


def files(root):
    return sorted(
        str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and ".factflow/" not in str(path)
    )


OBJECTS = ["a/k", "a/k.meta.json", "b", "b.meta.json"]


@pytest.mark.asyncio
async def test_what_is_old_goes_and_objects_stay(root):
    async with FilesystemStorageProvider(root) as storage:
        assert await storage.remove_leftovers(older_than=3 * HOUR) == 0
        assert len(files(root)) == 7
        assert await storage.remove_leftovers(older_than=HOUR) == 3
        assert files(root) == OBJECTS
        assert not (root / "gone").exists()
        assert await storage.remove_leftovers(older_than=0) == 0
        assert (await storage.get("a/k")).info.metadata == {"v": 1}


@pytest.mark.asyncio
async def test_a_living_write_is_left_alone(tmp_path, monkeypatch):
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly():
        yield b"x" * (1 << 20)
        yield b"y" * (1 << 20)
        begun.set()
        await go_on.wait()
        yield b"z"

    async with FilesystemStorageProvider(tmp_path) as storage:
        writing = asyncio.ensure_future(storage.write("k", slowly()))
        await begun.wait()
        (temporary,) = tmp_path.glob("*.tmp")
        age(temporary, 2 * HOUR)
        assert await storage.remove_leftovers(older_than=HOUR) == 0
        go_on.set()
        await writing
        assert len(await storage.read("k")) == (2 << 20) + 1
    monkeypatch.setattr(steps, "lock", lambda _: None)  # without the lock nobody can tell
    async with FilesystemStorageProvider(tmp_path) as storage:
        begun.clear()
        go_on.clear()
        writing = asyncio.ensure_future(storage.write("k", slowly()))
        await begun.wait()
        (temporary,) = tmp_path.glob("*.tmp")
        age(temporary, 2 * HOUR)
        assert await storage.remove_leftovers(older_than=HOUR) == 1
        go_on.set()
        with pytest.raises(Exception, match="cannot write 'k'"):
            await writing


@pytest.mark.asyncio
async def test_what_a_killed_process_wrote_is_removed(tmp_path):
    program = (
        "import asyncio, os, signal, sys\n"
        "from factflow_infra.storage.filesystem import FilesystemStorageProvider\n"
        "async def pieces():\n"
        "    yield b'x' * (1 << 21)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(FilesystemStorageProvider(sys.argv[1]).write('k', pieces()))\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)  # noqa: ASYNC221 - our own
    assert len(list(tmp_path.glob("*.tmp"))) == 1
    async with FilesystemStorageProvider(tmp_path) as storage:
        assert [key async for key in storage.list()] == []
        assert await storage.remove_leftovers(older_than=0) == 1
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("locked", [True, False])
def test_a_sidecar_whose_object_is_about_to_come_is_kept(monkeypatch, locked):
    """The sidecar is renamed first: under the key's lock, at which a removal passes by. Without the lock it would take it."""
    if not locked:
        monkeypatch.setattr(leftovers, "locked", lambda *_: nullcontext())

    def slow(operation, path):
        if operation == "rename" and path.endswith("/k"):
            time.sleep(10)  # virtual
        return 0

    async def main():
        storage, other = FilesystemStorageProvider(files.root), FilesystemStorageProvider(files.root)
        writing = asyncio.ensure_future(storage.write("k", b"1", {"v": 1}))
        await asyncio.sleep(5)
        removed = await other.remove_leftovers(older_than=0)
        assert not writing.done()
        await writing
        return removed, (await storage.get("k")).info.metadata

    with SimulatedFilesystem() as files, files.run():
        files.watch.on_step = slow
        assert run(main).result() == ((0, {"v": 1}) if locked else (1, {}))


@pytest.mark.asyncio
async def test_what_is_not_ours_is_not_touched(root):
    for name in ("notes.tmp", ".factflow-notes", "k.meta", ".meta.json"):
        (root / name).write_bytes(b"theirs")
        age(root / name, 2 * HOUR)
    (root / "link.meta.json").symlink_to(root / "b")
    async with FilesystemStorageProvider(root) as storage:
        await storage.remove_leftovers(older_than=0)
    assert {"notes.tmp", ".factflow-notes", "k.meta", ".meta.json", "link.meta.json"} <= set(files(root))


@pytest.mark.asyncio
async def test_bad_input_and_bad_disks(root, monkeypatch):
    storage = FilesystemStorageProvider(root)
    for wrong in (-1, math.nan, math.inf, True, "1", None):
        with pytest.raises(InvalidObjectError, match="older_than"):
            await storage.remove_leftovers(older_than=wrong)

    def denied(*_):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(steps, "unlink", denied)
        with pytest.raises(StoragePermissionError):
            await storage.remove_leftovers(older_than=0)
    await storage.close()
    with pytest.raises(StorageClosedError):
        await storage.remove_leftovers(older_than=0)


def test_a_temporary_file_that_cannot_be_locked_is_not_left(tmp_path, monkeypatch):
    def none_left(_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(steps, "lock", none_left)
    parent = steps.open_root(str(tmp_path))
    with pytest.raises(OSError, match="No locks"):
        changes._temporary(parent)
    steps.close(parent)
    assert not list(tmp_path.iterdir())
