"""Several tasks, providers, threads and processes on one root (S1, S7, S9)."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from factflow_infra.errors import ObjectNotFoundError, PreconditionFailedError, StorageClosedError
from factflow_infra.storage.filesystem import FilesystemStorageProvider, locks, provider, steps
from factflow_infra.storage.filesystem.tree import Tree


def race(root, name, barrier, results, how, etag):
    async def compete():
        async with FilesystemStorageProvider(root) as storage:
            barrier.wait(30)
            try:
                if how == "delete":
                    await storage.delete("contended", if_match=etag)
                else:
                    condition = {"if_absent": True} if how == "if_absent" else {"if_match": etag}
                    await storage.write("contended", name.encode() * 1000, {"by": name}, **condition)
            except PreconditionFailedError:
                results.put((name, False))
            else:
                results.put((name, True))

    asyncio.run(compete())


@pytest.mark.parametrize("how", ["if_absent", "if_match", "delete"])
def test_of_several_processes_one_wins(tmp_path, how):
    context = multiprocessing.get_context("spawn")
    etag = None
    if how != "if_absent":
        etag = asyncio.run(FilesystemStorageProvider(tmp_path).write("contended", b"first")).etag
    barrier, results = context.Barrier(4), context.Queue()
    processes = [
        context.Process(target=race, args=(tmp_path, f"p{n}", barrier, results, how, etag), daemon=True)
        for n in range(4)
    ]
    for process in processes:
        process.start()
    outcomes = dict(results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(60)
    assert sum(outcomes.values()) == 1
    winner = next(name for name, won in outcomes.items() if won)
    if how == "delete":
        assert not (tmp_path / "contended").exists()
    else:
        found = asyncio.run(FilesystemStorageProvider(tmp_path).get("contended"))
        assert (found.data, found.info.metadata) == (winner.encode() * 1000, {"by": winner})


@pytest.mark.asyncio
async def test_of_many_tasks_on_several_providers_one_wins(tmp_path):
    storages = [FilesystemStorageProvider(tmp_path) for _ in range(3)]
    for number in range(5):
        key = f"folder{number}/k"
        results = await asyncio.gather(
            *(storages[n % 3].write(key, str(n).encode(), {"n": n}, if_absent=True) for n in range(12)),
            return_exceptions=True,
        )
        assert sum(isinstance(result, PreconditionFailedError) for result in results) == 11
        found = await storages[0].get(key)
        assert found.data == str(found.info.metadata["n"]).encode()


@pytest.mark.asyncio
async def test_without_the_lock_several_would_win(tmp_path, monkeypatch):
    """The safeguard, switched off: what the tests above rest on."""
    entered = threading.Barrier(2, timeout=10)
    rename = steps.rename

    def meet(parent, name, target):
        if target == "k":
            entered.wait()
        rename(parent, name, target)

    monkeypatch.setattr(steps, "try_lock", lambda _: True)
    monkeypatch.setattr(steps, "rename", meet)
    storages = [FilesystemStorageProvider(tmp_path) for _ in range(2)]
    results = await asyncio.gather(
        *(storage.write("k", b"x", if_absent=True) for storage in storages), return_exceptions=True
    )
    assert not [result for result in results if isinstance(result, Exception)]


@pytest.mark.asyncio
async def test_readers_see_one_version_while_it_is_overwritten_and_deleted(tmp_path):
    """Equal sizes, and some equal contents: nothing but the pairing of content and record tells the versions apart."""
    storage, other = FilesystemStorageProvider(tmp_path), FilesystemStorageProvider(tmp_path)
    running = True

    async def write(which, numbers):
        for number in numbers:
            data = f"{number:06}".encode()
            await which.write("a/k", data * 10, {"n": number})
            if number % 10 == 0:
                await which.delete("a/k")

    async def read():
        seen = 0
        while running:
            with suppress(ObjectNotFoundError):
                found = await other.get("a/k")
                assert found.data == f"{found.info.metadata['n']:06}".encode() * 10
                info = await storage.stat("a/k")
                assert info.size == 60
                assert "n" in info.metadata
                whole = b"".join([piece async for piece in storage.stream("a/k", chunk_size=7)])
                assert len({whole[at : at + 6] for at in range(0, 60, 6)}) == 1
                seen += 1
        return seen

    readers = [asyncio.create_task(read()) for _ in range(3)]
    await asyncio.gather(write(storage, range(100)), write(other, range(100, 200)))
    running = False
    assert sum(await asyncio.gather(*readers)) > 10


@pytest.mark.asyncio
async def test_writers_and_deleters_of_one_folder_do_not_lose_it(tmp_path):
    storage, other = FilesystemStorageProvider(tmp_path), FilesystemStorageProvider(tmp_path)

    async def churn(which, name):
        for _ in range(40):
            await which.write(f"deep/er/folder/{name}", b"x", {"n": name})
            assert (await which.get(f"deep/er/folder/{name}")).info.metadata == {"n": name}
            await which.delete(f"deep/er/folder/{name}")

    await asyncio.gather(*(churn(which, f"{n}{i}") for i, which in enumerate((storage, other)) for n in range(3)))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".factflow"]


CHILD = """
import asyncio, sys
from factflow_infra.storage.filesystem import FilesystemStorageProvider

async def main():
    storage = FilesystemStorageProvider(sys.argv[1])
    await storage.write("k", b"0" * 100_000, {"n": 0})
    print("ready", flush=True)
    n = 0
    while True:
        n += 1
        await storage.write("k", bytes([n % 256]) * 100_000, {"n": n})

asyncio.run(main())
"""


@pytest.mark.asyncio
async def test_a_writer_that_is_killed_leaves_a_whole_object_and_no_lock(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for _ in range(3):
        child = subprocess.Popen(  # noqa: ASYNC220 - it is killed below
            [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, env=environment
        )
        with child:
            assert child.stdout is not None
            assert await asyncio.to_thread(child.stdout.readline) == b"ready\n"
            storage = FilesystemStorageProvider(tmp_path)
            for _ in range(20):
                await storage.get("k")
            child.send_signal(signal.SIGKILL)
        found = await storage.get("k")
        assert found.data == bytes([found.info.metadata["n"] % 256]) * 100_000 or found.info.metadata == {"n": 0}
        assert [key async for key in storage.list()] == ["k"]
        async with asyncio.timeout(10):
            await storage.write("k", b"next")
        await storage.delete("k")


class Gate:
    """Holds a system call until it is opened."""

    def __init__(self, monkeypatch, name):
        self.reached = threading.Event()
        self.open = threading.Event()
        real = getattr(steps, name)

        def call(*arguments):
            self.reached.set()
            assert self.open.wait(20)
            return real(*arguments)

        monkeypatch.setattr(steps, name, call)

    async def wait(self):
        assert await asyncio.to_thread(self.reached.wait, 20)


@pytest.mark.asyncio
async def test_no_call_blocks_the_loop(tmp_path, monkeypatch):
    storage = FilesystemStorageProvider(tmp_path)
    gate = Gate(monkeypatch, "sync")
    task = asyncio.create_task(storage.write("k", b"x"))
    await gate.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    gate.open.set()
    assert (await task).size == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(("call", "landed"), [("create_file", False), ("sync", False), ("rename", True)])
async def test_a_cancelled_write_is_there_or_not_and_is_waited_for(tmp_path, monkeypatch, call, landed):
    storage = FilesystemStorageProvider(tmp_path)
    gate = Gate(monkeypatch, call)
    task = asyncio.create_task(storage.write("a/k", b"x", {"v": 1}))
    await gate.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()  # its thread is still at work
    gate.open.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await storage.exists("a/k") is landed
    left = sorted(path.name for path in tmp_path.rglob("*") if not path.name.startswith((".factflow", "lock-")))
    assert left == (["a", "k", "k.meta.json"] if landed else [])
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.asyncio
@pytest.mark.parametrize("first", [10, 1_500_000])
async def test_a_cancelled_stream_in_is_aborted_and_its_source_closed(tmp_path, first):
    storage = FilesystemStorageProvider(tmp_path)
    waiting, closed = asyncio.Event(), []

    async def source():
        try:
            yield b"x" * first
            waiting.set()
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    task = asyncio.create_task(storage.write("a/k", source()))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed == [True]
    assert [path.name for path in tmp_path.iterdir() if path.name != ".factflow"] == []


@pytest.mark.asyncio
async def test_a_full_disk_closes_the_source(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(steps, "write", full)
    closed = []

    async def source():
        try:
            while True:
                yield b"x" * 1_000_000
        finally:
            closed.append(True)

    with pytest.raises(provider.failures.StorageFullError):
        await FilesystemStorageProvider(tmp_path).write("k", source())
    assert closed == [True]


@pytest.mark.asyncio
async def test_close_waits_for_what_is_running(tmp_path, monkeypatch):
    storage = FilesystemStorageProvider(tmp_path)
    gate = Gate(monkeypatch, "rename")
    write = asyncio.create_task(storage.write("k", b"x"))
    await gate.wait()
    closing = [asyncio.create_task(storage.close()) for _ in range(2)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert not any(task.done() for task in closing)
    with pytest.raises(StorageClosedError):
        await storage.read("k")
    gate.open.set()
    await asyncio.gather(*closing)
    assert write.done()
    assert (await write).size == 1


class Holder:
    """Holds the lock of a key, as another process would: by an open file of its own."""

    def __init__(self, root, key, monkeypatch):
        self.asked = asyncio.Event()
        self.attempts = 0
        self._holding = locks.locked(Tree(str(root)), key)
        self._holding.__enter__()
        loop, try_lock = asyncio.get_running_loop(), steps.try_lock

        def counted(descriptor):
            self.attempts += 1
            loop.call_soon_threadsafe(self.asked.set)
            return try_lock(descriptor)

        monkeypatch.setattr(steps, "try_lock", counted)

    def release(self):
        self._holding.__exit__(None, None, None)


async def pieces(data):
    for start in range(0, len(data), 1 << 19):
        yield data[start : start + (1 << 19)]


LONG = bytes(range(256)) * 10_000
CHANGES = {
    "write": lambda storage: storage.write("k", b"new"),
    "large": lambda storage: storage.write("k", LONG),
    "stream": lambda storage: storage.write("k", pieces(LONG)),
    "copy": lambda storage: storage.copy("long", "k"),
    "delete": lambda storage: storage.delete("k"),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("how", CHANGES)
async def test_a_change_that_met_a_held_lock_is_made_whole_or_not_at_all(tmp_path, monkeypatch, how):
    storage = FilesystemStorageProvider(tmp_path, max_concurrency=1)
    await storage.write("long", LONG, {"v": 1})
    await storage.write("k", b"old")
    holder = Holder(tmp_path, "k", monkeypatch)
    tasks = [asyncio.create_task(CHANGES[how](storage)) for _ in range(2)]
    while holder.attempts < 3:
        holder.asked.clear()
        await holder.asked.wait()
    cancelled = asyncio.create_task(CHANGES[how](storage))
    await storage.write("other", b"mine")  # the one place is free
    assert await storage.read("k") == b"old"
    if how in {
        "write",
        "copy",
    }:  # the one that asks, and the next, which got ready meanwhile; the third has nothing open yet
        assert len(list(tmp_path.glob("*.tmp"))) == 2
    for waiting in (cancelled, tasks.pop()):  # the one that asks stays
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    closing = asyncio.create_task(storage.close())
    await asyncio.sleep(0)
    assert not closing.done()
    holder.release()
    await asyncio.gather(closing, *tasks)
    assert not list(tmp_path.rglob("*.tmp"))
    after = FilesystemStorageProvider(tmp_path)
    if how == "delete":
        assert not await after.exists("k")
    else:
        assert await after.read("k") == (b"new" if how == "write" else LONG)
        assert (await after.stat("k")).metadata == ({"v": 1} if how == "copy" else {})


@pytest.mark.asyncio
async def test_no_more_jobs_at_once_than_allowed(tmp_path, monkeypatch):
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(8))
    running, most, guard = 0, 0, threading.Lock()
    make = provider.Upload.make

    def counted(*arguments):
        nonlocal running, most
        with guard:
            running += 1
            most = max(most, running)
        try:
            return make(*arguments)
        finally:
            with guard:
                running -= 1

    monkeypatch.setattr(provider.Upload, "make", counted)
    storage = FilesystemStorageProvider(tmp_path, max_concurrency=2)
    await asyncio.gather(*(storage.write(f"k{n}", b"x") for n in range(20)))
    assert most <= 2


def test_a_provider_may_be_used_from_one_loop_after_another(tmp_path):
    storage = FilesystemStorageProvider(tmp_path, max_concurrency=1)

    async def several():
        await asyncio.gather(*(storage.write(f"k{n % 4}", b"x") for n in range(8)))

    for _ in range(2):
        asyncio.run(several())


def test_the_lock_is_released_whatever_happens(tmp_path):
    tree = Tree(str(tmp_path))
    for _ in range(2):
        with suppress(LookupError), locks.locked(tree, "k"):
            raise LookupError


@pytest.mark.asyncio
async def test_folders_made_durable_once_are_not_synced_again(tmp_path, monkeypatch):
    storage = FilesystemStorageProvider(tmp_path)
    await storage.write("a/b/k", b"")
    calls = []
    sync = steps.sync
    monkeypatch.setattr(steps, "sync", lambda descriptor: (calls.append(descriptor), sync(descriptor)))
    await storage.write("a/b/k", b"")
    assert len(calls) == 4
    await storage.delete("a/b/k")
    calls.clear()
    await storage.write("a/b/k", b"")  # the folders are new ones, perhaps with the old ones' inodes
    assert len(calls) == 6
    await storage.close()


def test_records_are_json(tmp_path):
    asyncio.run(FilesystemStorageProvider(tmp_path).write("k", b"x"))
    assert json.loads((tmp_path / "k.meta.json").read_bytes())["previous"] is None
