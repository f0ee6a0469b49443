"""Power losses and disk faults in a simulation, for the provider and for code that uses files itself."""
# ruff: noqa: ASYNC230, ASYNC240, PTH104, PTH105, PTH108, PTH123, ARG001 - what services do

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from pathlib import Path

import aiofiles
import pytest

from factflow_infra.errors import StorageError, StorageFullError, StorageIOError, StoragePermissionError
from factflow_infra.protocols import QueueMessage
from factflow_infra_testing import Fault, Faults
from factflow_infra_testing.errors import KitUsageError
from factflow_infra_testing.search.search import search
from factflow_infra_testing.search.simulate import simulate
from factflow_infra_testing.storage.disk_faults import DISK_FAULTS
from factflow_infra_testing.storage.files import RealDiskError, SimulatedFilesystem
from factflow_infra_testing.storage.watch import NodeView


@pytest.fixture(scope="module")
def files():
    with SimulatedFilesystem() as files:
        yield files


def states(files):
    root = files.filesystem.get_object(files.root)
    return [shown(tree) for tree in files.watch.model.survivors(root, NodeView())]


def shown(tree):
    return {name: shown(one) if isinstance(one, dict) else one.data for name, one in tree.items()}


def sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


class TestFilesOfOnesOwn:
    """What ``open``, ``os``, ``pathlib`` and ``shutil`` do reaches the model."""

    def test_a_file_that_is_not_synced(self, files):
        with files.run():
            with open(f"{files.root}/a", "w") as file:
                file.write("12345")
            assert states(files) == [{}, {"a": b""}, {"a": b"\0" * 5}, {"a": b"12345"}]
            sync(f"{files.root}/a")
            assert states(files) == [{}, {"a": b"12345"}]
            sync(files.root)
            assert states(files) == [{"a": b"12345"}]

    def test_what_is_only_in_the_files_buffer_is_not_on_the_disk(self, files):
        with files.run(), open(f"{files.root}/a", "wb") as file:
            file.write(b"12345")
            os.fsync(file.fileno())
            sync(files.root)
            assert states(files) == [{"a": b""}]
            file.flush()
            os.fdatasync(file.fileno())
            assert states(files) == [{"a": b"12345"}]

    def test_an_append_and_an_overwrite(self, files):
        with files.run():
            path = Path(files.root) / "a"
            path.write_bytes(b"123")
            sync(path)
            sync(files.root)
            with path.open("ab") as file:
                file.write(b"4")
            assert states(files) == [{"a": b"123"}, {"a": b"123\0"}, {"a": b"1234"}]
            sync(path)
            with path.open("r+b") as file:
                file.seek(1)
                file.write(b"x")
            assert states(files) == [{"a": b"1234"}, {"a": b"1x34"}]
            sync(path)
            os.truncate(path, 1)
            assert {"a": b"1"} in states(files)
            assert {"a": b"1x34"} in states(files)

    def test_a_replacement_is_one_step(self, files):
        with files.run():
            for name, data in (("a", b"old"), ("b", b"new")):
                (Path(files.root) / name).write_bytes(data)
                sync(f"{files.root}/{name}")
            sync(files.root)
            os.replace(f"{files.root}/b", f"{files.root}/a")
            assert sorted(map(repr, states(files))) == sorted(
                map(repr, [{"a": b"old", "b": b"new"}, {"a": b"new", "b": b"new"}, {"a": b"new"}])
            )
            sync(files.root)
            assert states(files) == [{"a": b"new"}]

    def test_folders(self, files):
        with files.run():
            folder = Path(files.root) / "x" / "y"
            folder.mkdir(parents=True)
            (folder / "a").touch()
            assert states(files) == [{}, {"x": {}}, {"x": {"y": {}}}, {"x": {"y": {"a": b""}}}]
            for path in (folder, folder.parent, files.root):
                sync(path)
            shutil.rmtree(folder)
            assert {"x": {"y": {}}} in states(files)
            assert {"x": {"y": {"a": b""}}} in states(files)
            sync(folder.parent)
            assert states(files) == [{"x": {}}]

    def test_low_level_calls(self, files):
        with files.run():
            descriptor = os.open(f"{files.root}/a", os.O_CREAT | os.O_WRONLY)
            assert os.write(descriptor, b"123") == 3
            os.fsync(descriptor)
            assert os.write(descriptor, b"4") == 1
            os.ftruncate(descriptor, 2)
            assert {"a": b"12"} in states(files)
            os.close(descriptor)
            os.unlink(f"{files.root}/a")
            assert {} in states(files)
            assert {"a": b"1234"} in states(files)

    def test_the_disk_after_it(self, files):
        with files.run():
            kept, lost, removed = (Path(files.root) / "host" / name for name in ("kept", "lost", "removed"))
            folder = Path(files.folder("host"))
            for path in (kept, removed):
                path.write_bytes(b"1")
                sync(path)
            sync(folder)
            kept.write_bytes(b"2")
            lost.write_bytes(b"3")
            removed.unlink()
            told = files.lose_power("host", 2)
            assert sorted(path.name for path in folder.iterdir()) == ["kept", "removed"]
            assert kept.read_bytes() == removed.read_bytes() == b"1"
            assert sorted(told) == ["content of /storage/host/kept", "content of /storage/host/lost",
                                    "name /storage/host/lost", "removal of /storage/host/removed"]  # fmt: skip
            assert not files.watch.model
            lost.write_bytes(b"and on it goes")
            assert lost.read_bytes() == b"and on it goes"

    def test_one_machine_loses_nothing_of_anothers(self, files):
        with files.run():
            for host in ("a", "b"):
                (Path(files.folder(host)) / "x").write_bytes(b"1")
            Path("/shared").write_bytes(b"1")
            files.lose_power("a", 2)
            assert not (Path(files.folder("a")) / "x").exists()
            assert (Path(files.folder("b")) / "x").read_bytes() == b"1"
            assert not Path("/shared").exists(), "outside the machines' folders a file is on each of their disks"


def server(write):
    """A process that files each message by ``write(folder, name)``."""

    async def main(process):
        async def handle(message):
            await asyncio.to_thread(write, process.disk(), message.message_id)

        await process.queue().subscribe("q", handle)
        await asyncio.Event().wait()

    return main


def hastily(folder, name):
    Path(folder, name).write_text("content")


def carefully(folder, name):
    temporary = Path(folder, f".{name}")
    with temporary.open("w") as file:
        file.write("content")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(Path(folder, name))
    sync(folder)


def filing(write, count=2):
    async def scenario(sim):
        sim.tier = "model"
        folder = sim.disk()
        sim.start(server(write), name="worker")
        for n in range(count):
            await sim.queue().publish("q", QueueMessage(b"", message_id=f"m{n}"))
        await sim.drain()
        given_up = {message.message_id for message in sim.broker().messages("dlq")}
        for n in range(count):
            assert f"m{n}" in given_up or Path(folder, f"m{n}").read_text() == "content"

    return scenario


@pytest.mark.parametrize("faults", [Faults.only("power-loss"), Faults.all()])
def test_a_service_that_does_not_sync_is_found_and_one_that_does_survives(faults):
    found = search(filing(hastily), faults=faults, max_examples=200, seed=0)
    assert found.finding is not None
    assert "power-loss" in [fault.kind for fault in found.finding.plan]
    assert len(found.finding.plan) <= 2
    assert search(filing(carefully), faults=faults, max_examples=60, seed=0).finding is None


@pytest.mark.parametrize("taken_out", ["the file's fsync", "the folder's fsync", "the rename"])
def test_each_part_of_the_careful_way_is_needed(taken_out):
    def write(folder, name):
        temporary = Path(folder, name if taken_out == "the rename" else f".{name}")
        with temporary.open("w") as file:
            file.write("content")
            file.flush()
            if taken_out != "the file's fsync":
                os.fsync(file.fileno())
        temporary.replace(Path(folder, name))
        if taken_out != "the folder's fsync":
            sync(folder)

    def read_or_write(folder, name):  # takes what is there for whole, as after a rename it may
        if not Path(folder, name).exists():
            write(folder, name)

    found = search(filing(read_or_write), faults=Faults.only("power-loss"), max_examples=500, seed=0)
    assert found.finding is not None


def by_hand(unsynced):
    @simulate(plan=[])
    async def test(sim):
        async def main(process):
            folder = process.disk()
            Path(folder, "a").write_text("hello")
            await asyncio.sleep(1e6)

        process = sim.start(main, name="writer", restart=False)
        await sim.sleep(1)
        sim.power_loss(unsynced=unsynced)
        assert process.status == "ended"
        path = Path(sim.disk(), "a")
        left.append(path.read_text() if path.exists() else None)

    left = []
    test()
    return left[0]


@pytest.mark.parametrize(
    ("unsynced", "left"), [("kept", "hello"), ("lost", None), ("contents-lost", ""), ("names-lost", None), (1, "hello")]
)
def test_a_power_loss_by_hand(unsynced, left):
    assert by_hand(unsynced) == left


def test_mixtures_differ():
    assert len({by_hand(choice) for choice in range(5, 33)}) == 4, "none, empty, zeros, whole"


def test_a_power_loss_ends_the_machines_processes_and_no_other():
    @simulate(plan=[])
    async def test(sim):
        async def main(process):
            await asyncio.sleep(1e6)

        one, two, other = (sim.start(main, name=name, host=name[0]) for name in ("a1", "a2", "b1"))
        await sim.sleep(1)
        sim.power_loss("a")
        assert (one.status, two.status, other.status) == ("restarting", "restarting", "running")
        await sim.sleep(10)
        assert (one.lives, two.lives, other.lives) == (2, 2, 1)
        with pytest.raises(KitUsageError, match="'everything'"):
            sim.power_loss("a", unsynced="everything")
        with pytest.raises(KitUsageError, match="99"):
            sim.power_loss("a", unsynced=99)

    test()


def test_nothing_of_a_machine_runs_on_when_its_power_is_lost_amid_an_operation():
    steps = []

    @simulate(plan=[Fault("power-loss", "worker@start", nth, 1) for nth in (3,)])
    async def test(sim):
        async def main(process):
            folder = process.disk()
            steps.append("begin")
            try:
                Path(folder, "a").write_text("1")
                Path(folder, "b").write_text("2")
                steps.append("end")
            finally:
                Path(folder, "c").write_text("3")

        sim.start(main, name="worker", restart=False)
        await sim.sleep(10)
        assert not Path(sim.disk(), "c").exists()

    test()
    assert steps == ["begin"]


def test_a_job_stands_still_for_ever_when_its_power_is_lost():
    steps = []

    @simulate(plan=[Fault("power-loss", "worker@start", 4, 1)])
    async def test(sim):
        def job(folder):
            try:
                Path(folder, "a").write_text("1")
                Path(folder, "b").write_text("2")
                steps.append("end")
            finally:
                Path(folder, "c").write_text("3")

        async def main(process):
            await asyncio.to_thread(job, process.disk())

        sim.start(main, name="worker", restart=False)
        await sim.sleep(10)
        assert Path(sim.disk(), "a").exists()
        assert not Path(sim.disk(), "c").exists()

    test()
    assert not steps


def test_a_power_loss_within_a_call_of_shutil_holds_nobody_up():
    @simulate(plan=[Fault("power-loss", "worker@start", 4, 1)])
    async def test(sim):
        def job(folder):
            Path(folder, "a").write_text("1")
            shutil.move(f"{folder}/a", f"{folder}/b")

        async def main(process):
            folder = process.disk()
            await asyncio.to_thread(job, folder)

        process = sim.start(main, name="worker")
        folder = sim.disk()
        await sim.sleep(10)
        assert process.lives == 2
        assert Path(folder, "b").exists()

    test()


def struck(fault, use):
    """What ``use(process)`` raised, in a run with one fault."""
    caught = []

    @simulate(plan=[fault])
    async def test(sim):
        async def main(process):
            try:
                await use(process)
            except (StorageError, OSError) as error:
                caught.append(error)

        sim.start(main, name="worker")
        await sim.sleep(100)

    test()
    return caught[0] if caught else None


async def write_object(process):
    await process.storage().write("a/k", b"data")


async def read_object(process):
    await write_object(process)
    await process.storage().read("a/k")


@pytest.mark.parametrize(
    ("fault", "use", "error"),
    [
        (Fault("disk-full", "write a/.factflow-*.tmp", 1), write_object, StorageFullError),
        (Fault("disk-full", "mkdir a", 1), write_object, StorageFullError),
        (Fault("disk-error", "fsync a/.factflow-*.tmp", 1), write_object, StorageIOError),
        (Fault("disk-error", "rename a/k", 1), write_object, StorageIOError),
        (Fault("disk-denied", "create a/.factflow-*.tmp", 1), write_object, StoragePermissionError),
        (Fault("too-many-files", "open a/k", 2), read_object, StorageIOError),
        (Fault("disk-error", "read a/k", 1), read_object, StorageIOError),
        (Fault("short-write", "write a/.factflow-*.tmp", 1), read_object, type(None)),
        (Fault("disk-slow", "write a/.factflow-*.tmp", 1, 3), read_object, type(None)),
    ],
)
def test_each_fault_of_the_disk_reaches_the_provider(fault, use, error):
    assert isinstance(struck(fault, use), error)


async def write_file(process):
    folder = process.disk()
    with open(f"{folder}/a", "wb") as file:
        file.write(b"data")
        file.flush()
        os.fsync(file.fileno())
    os.rename(f"{folder}/a", f"{folder}/b")
    assert Path(folder, "b").read_bytes() == b"data"


async def write_file_with_aiofiles(process):
    folder = process.disk()
    async with aiofiles.open(f"{folder}/a", "wb") as file:
        await file.write(b"data")
        await file.flush()
        await asyncio.to_thread(os.fsync, file.fileno())
    await asyncio.to_thread(os.rename, f"{folder}/a", f"{folder}/b")
    async with aiofiles.open(f"{folder}/b", "rb") as file:
        assert await file.read() == b"data"


@pytest.mark.parametrize("use", [write_file, write_file_with_aiofiles])
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault("too-many-files", "create a", 1), errno.EMFILE),
        (Fault("disk-full", "write a", 1), errno.ENOSPC),
        (Fault("disk-error", "fsync a", 1), errno.EIO),
        (Fault("disk-denied", "rename b", 1), errno.EACCES),
        (Fault("disk-error", "read b", 1), errno.EIO),
    ],
)
def test_each_fault_of_the_disk_reaches_code_with_files_of_its_own(fault, use, code):
    error = struck(fault, use)
    assert isinstance(error, OSError)
    assert error.errno == code


def test_a_write_may_be_short_for_those_who_do_not_look():
    written = []

    async def use(process):
        folder = process.disk()
        descriptor = os.open(f"{folder}/a", os.O_CREAT | os.O_WRONLY)
        written.append(os.write(descriptor, b"12345"))
        os.close(descriptor)
        written.append(Path(folder, "a").read_bytes())

    struck(Fault("short-write", "write a", 1), use)
    assert written == [1, b"1"]


def test_after_a_failed_fsync_the_next_one_succeeds_and_the_data_is_gone():
    left = []

    @simulate(plan=[Fault("disk-error", "fsync a", 1)])
    async def test(sim):
        async def main(process):
            folder = process.disk()
            with Path(folder, "a").open("wb") as file:
                file.write(b"data")
                file.flush()
                with pytest.raises(OSError, match="a"):
                    os.fsync(file.fileno())
                os.fsync(file.fileno())
            sync(process.disk())
            await asyncio.sleep(1e6)

        sim.start(main, name="worker", restart=False)
        await sim.sleep(1)
        path = Path(sim.disk(), "a")
        assert path.read_bytes() == b"data", "it is read from memory for as long as the machine runs"
        sim.power_loss()
        left.append(path.read_bytes())

    test()
    assert left == [b""]


def test_a_slow_disk_lets_others_go_on_in_the_middle_of_a_write():
    seen = []

    @simulate(plan=[Fault("disk-slow", "rename a/k", 1, 3)])
    async def test(sim):
        async def main(process):
            await process.storage().write("a/k", b"data")

        sim.start(main, name="worker")
        await sim.sleep(5)
        seen.append(await sim.storage().exists("a/k"))
        await sim.sleep(10)
        seen.append(await sim.storage().exists("a/k"))

    test()
    assert seen == [False, True]


def test_a_killed_process_gives_its_locks_back():
    @simulate(plan=[Fault("disk-slow", "rename k", 1, 3)])
    async def test(sim):
        async def main(process):
            await process.storage().write("k", b"killed while it holds the key's lock")

        process = sim.start(main, name="worker", restart=False)
        await sim.sleep(5)
        process.kill()
        before = sim.time()
        await sim.storage().write("k", b"next")
        assert sim.time() - before < 1
        assert await sim.storage().read("k") == b"next"

    test()


def test_the_tests_own_storage_meets_no_fault():
    @simulate(plan=[Fault("disk-full", "write a/.factflow-*.tmp", 1)])
    async def test(sim):
        await sim.storage().write("a/k", b"data")

        async def main(process):
            with pytest.raises(StorageFullError):
                await process.storage().write("a/k", b"other")

        sim.start(main, name="worker")
        await sim.sleep(1)
        assert await sim.storage().read("a/k") == b"data"

    test()


def test_every_kind_of_fault_fires_in_a_search():
    found = search(filing(carefully), faults=Faults.only(*DISK_FAULTS), max_examples=40, seed=2)
    assert found.finding is None
    assert set(found.coverage.fired) == set(DISK_FAULTS)


def test_a_process_changes_no_real_file_in_a_run_without_a_simulated_disk(tmp_path):
    (tmp_path / "config").write_text("1")

    @simulate(plan=[])
    async def test(sim):
        async def main(process):
            assert (tmp_path / "config").read_text() == "1"
            (tmp_path / "result").write_text("2")

        sim.start(main, name="worker")
        (tmp_path / "by the test").write_text("3")
        await sim.sleep(1)

    with pytest.raises(RealDiskError, match="result"):
        test()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["by the test", "config"]
