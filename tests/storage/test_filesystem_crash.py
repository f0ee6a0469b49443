"""Every state that a power loss may leave of the filesystem provider's root, at every operation; and every failing step.

Workloads of one and two storage operations are explored here in full, those of three by a share; all of them by
``python tests/benchmarks/crashes.py``. What each safeguard is for is shown by taking it out.
"""

from __future__ import annotations

import errno
import itertools
import os
from contextlib import contextmanager, nullcontext

import pytest
from crash_workloads import A, B, Operation, contents, explorer, look, workloads
from crash_workloads import explore as explore_operations

from factflow_infra.errors import StorageError, WriteUnconfirmedError
from factflow_infra.storage.filesystem import FilesystemStorageProvider, provider, steps, versions
from factflow_infra_testing.simulation.runner import run
from factflow_infra_testing.storage.exploring import Explored, Leaf, explore
from factflow_infra_testing.storage.files import SimulatedFilesystem

SHARE = 25
WRITE, OVERWRITE, OTHER = (
    Operation("write", "d/k", A, 1),
    Operation("write", "d/k", B, 2),
    Operation("write", "d/l", B, 4),
)
DELETE, COPY = Operation("delete", "d/k"), Operation("copy", "d/l", source="d/k")
COPY_OVER = Operation("copy", "d/k", source="d/l")
TYPICAL = {
    "first write": (WRITE,),
    "overwrite": (WRITE, OVERWRITE),
    "overwrite with equal bytes": (WRITE, Operation("write", "d/k", A, 3)),
    "delete": (WRITE, DELETE),
    "copy": (WRITE, COPY),
    "copy over another": (WRITE, OTHER, COPY_OVER),
    "write after a delete": (WRITE, DELETE, OVERWRITE),
}


@pytest.fixture(scope="module")
def files():
    with SimulatedFilesystem() as files:
        yield files


def explore_all(files, many):
    shared, total = explorer(files), Explored(0, 0, 0)
    for operations in many:
        total += explore_operations(shared, operations)
    return total


@pytest.mark.parametrize("length", [1, 2])
def test_every_state_after_every_crash_is_old_or_new(files, length):
    explored = explore_all(files, workloads(length))
    assert explored.states > explored.steps > 0
    assert explored.checked > 50


def test_a_share_of_three_operations(files):
    assert explore_all(files, itertools.islice(workloads(3), 0, None, SHARE)).checked > 100


@pytest.mark.parametrize("way", ["large", "stream"])
@pytest.mark.parametrize("name", ["first write", "overwrite"])
def test_the_other_ways_of_writing_crash_as_safely(files, monkeypatch, way, name):
    put = vary(monkeypatch, way)
    explored = explore_operations(explorer(files), TYPICAL[name], provider=put)
    assert explored.checked > 10


def vary(monkeypatch, way):
    """A provider whose small writes go the way of large ones, or of streams in several pieces."""
    if way == "large":
        monkeypatch.setattr(provider, "LARGE", 100)
        return FilesystemStorageProvider
    monkeypatch.setattr(provider, "DEFAULT_CHUNK_SIZE", 200)

    async def pieces(data):
        for start in range(0, len(data), 100):
            yield data[start : start + 100]

    class Streaming(FilesystemStorageProvider):
        async def write(self, key, data, *arguments, **options):
            return await super().write(key, pieces(data), *arguments, **options)

    return Streaming


def test_what_other_processes_left_unsynced_is_synced(files):
    async def left_by_another(folder):
        os.mkdir(f"{folder}/d")  # noqa: PTH102 - one plain call
        return FilesystemStorageProvider(folder)

    async def write(_folder, storage):
        await WRITE.perform(storage)

    async def check(folder, crash):
        after = {"d/k": (A, 1)}
        await look(FilesystemStorageProvider(folder), [after] if crash.done else [{}, after])

    assert explorer(files).explore(write, check, prepare=left_by_another).checked > 10
    numbers = itertools.count()
    with without_sync(lambda _: next(numbers) == 0)(), pytest.raises(AssertionError):
        explorer(files).explore(write, check, prepare=left_by_another)


def test_the_exploration_finds_what_a_service_does_wrong(files):
    async def save(folder):
        with open(f"{folder}/a", "w") as file:  # noqa: ASYNC230, PTH123 - what it does
            file.write("whole")

    async def check(folder, crash):
        if crash.done:
            with open(f"{folder}/a") as file:  # noqa: ASYNC230, PTH123
                assert file.read() == "whole"

    with pytest.raises(FileNotFoundError) as caught:
        explore(save, check, files=files)
    assert "power lost after the workload; left is:\n  (nothing)" in caught.value.__notes__[0]


# -- ablation: what each safeguard is for ------------------------------------------------------------------------------


def violated(files, operations, during=nullcontext, make=FilesystemStorageProvider):
    """Whether a crash of the last operation, done ``during`` the ablation, breaks a promise."""
    try:
        explore_operations(explorer(files), operations, provider=make, during=during)
    except (AssertionError, StorageError):
        return True
    return False


def without_sync(is_skipped):
    """``fsync`` returns and does nothing where ``is_skipped(descriptor)``."""

    @contextmanager
    def during():
        sync = steps.sync
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(steps, "sync", lambda descriptor: None if is_skipped(descriptor) else sync(descriptor))
            yield

    return during


def is_file(descriptor):
    return steps.is_regular(steps.status(descriptor))


def is_folder(descriptor):
    return steps.is_directory(steps.status(descriptor))


@pytest.mark.parametrize("way", ["whole", "large", "stream"])
@pytest.mark.parametrize("name", ["first write", "overwrite"])
def test_without_the_fsync_of_files_it_fails(files, monkeypatch, way, name):
    make = FilesystemStorageProvider if way == "whole" else vary(monkeypatch, way)
    assert not violated(files, TYPICAL[name], make=make)
    assert violated(files, TYPICAL[name], without_sync(is_file), make)


@pytest.mark.parametrize("name", TYPICAL)
def test_without_the_fsync_of_folders_it_fails(files, name):
    assert violated(files, TYPICAL[name], without_sync(is_folder))


@contextmanager
def without_rename():
    def rename(parent, name, target):
        source = steps.open_file(parent, name)
        if target in dict(steps.entries(parent)):
            steps.unlink(parent, target)
        sink = steps.create_file(parent, target)
        steps.write(sink, memoryview(steps.read(source, 1 << 20)))
        steps.sync(sink)
        steps.close(sink)
        steps.close(source)
        steps.unlink(parent, name)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(steps, "rename", rename)
        yield


@pytest.mark.parametrize("name", [name for name in TYPICAL if name != "delete"])
def test_without_the_rename_it_fails(files, name):
    assert violated(files, TYPICAL[name], without_rename)


@contextmanager
def without_previous_record():
    encode = versions.encode
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(versions, "encode", lambda new, _previous: encode(new, None))
        yield


def test_without_the_previous_record_in_the_sidecar_it_fails(files):
    assert violated(files, TYPICAL["overwrite"], without_previous_record)


# One of the five makes the object's folder durable, which this provider has not met before.
@pytest.mark.parametrize(("name", "count"), [("first write", 5), ("overwrite", 4), ("copy", 4), ("delete", 1)])
def test_each_single_sync_is_needed(files, name, count):
    taken = itertools.count()
    assert not violated(files, TYPICAL[name], without_sync(lambda _: next(taken) < 0))
    assert next(taken) == count
    for number in range(count):
        numbers = itertools.count()
        skipped = without_sync(lambda _, numbers=numbers, number=number: next(numbers) == number)
        assert violated(files, TYPICAL[name], skipped), f"{name} keeps its promises without sync {number + 1}"


# -- every failing step -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TYPICAL)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_every_failing_step_leaves_old_or_new_and_no_residue(files, name, code):
    operations = TYPICAL[name]
    before = {}
    for operation in operations[:-1]:
        before = operation.after(before)
    after = operations[-1].after(before)
    for number in itertools.count(1):
        taken = itertools.count(1)

        def fail(_operation, path, taken=taken, number=number):
            if next(taken) == number:
                raise OSError(code, os.strerror(code), path)
            return 0

        async def main(folder, fail=fail):
            storage = FilesystemStorageProvider(folder)
            for operation in operations[:-1]:
                await operation.perform(storage)
            failed = None
            files.watch.on_step = fail
            try:
                await operations[-1].perform(storage)
            except StorageError as error:
                failed = error
            files.watch.on_step = None
            await storage.close()
            return failed, await contents(FilesystemStorageProvider(folder))

        with files.run():
            folder = files.folder("localhost")
            failed, seen = run(lambda folder=folder, main=main: main(folder)).result()
            left = [path for path in names_below(files, folder) if path.endswith(".tmp")]
            assert not files.disk.descriptors
        if failed is None:
            assert seen == after
        elif isinstance(failed, WriteUnconfirmedError):
            assert seen in (before, after)
        else:
            assert seen == before
        assert not left, (number, failed)
        if next(taken) <= number:
            return


def names_below(files, folder):
    node = files.filesystem.get_object(folder)
    found = []
    for name, below in node.entries.items():
        found.append(f"{folder}/{name}")
        if hasattr(below, "_entries"):
            found += names_below(files, f"{folder}/{name}")
    return found


def test_states_say_what_is_left(files):
    async def save(folder):
        os.mkdir(f"{folder}/d")  # noqa: PTH102

    seen = []

    async def check(_folder, crash):
        seen.append(crash)

    explored = explore(save, check, files=files)
    assert explored == Explored(1, 3, 3)
    assert [(crash.operation, crash.path, crash.done, crash.left) for crash in seen] == [
        ("mkdir", "d", False, {}), ("", "", True, {}), ("", "", True, {"d": {}}),
    ]  # fmt: skip
    assert Leaf(b"", 1, 0) == Leaf(b"", 1, 0)
