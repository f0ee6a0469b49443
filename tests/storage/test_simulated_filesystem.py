"""The simulated disk: cheap, deterministic, one disk for everybody in the run, and a fence around the real one."""

from __future__ import annotations

import asyncio
import errno
import importlib
import io
import os
import pathlib
import posix
import sys
import time

import aiofiles
import aiofiles.os
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyfakefs.fake_filesystem import FakeFilesystem
from pyfakefs.fake_filesystem_unittest import Patcher
from pyfakefs.fake_os import FakeOsModule

from factflow_infra.errors import PreconditionFailedError, StorageFullError
from factflow_infra.storage.filesystem import FilesystemStorageProvider, steps
from factflow_infra_testing.simulation.runner import run
from factflow_infra_testing.storage.disk import DiskOs
from factflow_infra_testing.storage.files import RealDiskError, SimulatedFilesystem


@pytest.fixture(scope="module")
def files():
    with SimulatedFilesystem() as files:
        yield files


def test_everybody_in_the_run_sees_the_same_disk(files):
    async def use():
        storage = FilesystemStorageProvider(files.root)
        await storage.write("a/k", b"data", {"v": 1})
        (pathlib.Path(files.root) / "foreign").write_bytes(b"other")
        assert (await storage.get("foreign")).data == b"other"
        async with aiofiles.open(f"{files.root}/a/k", "rb") as file:
            assert await file.read() == b"data"
        assert sorted(await aiofiles.os.listdir(f"{files.root}/a")) == ["k", "k.meta.json"]
        with open(f"{files.root}/a/k", "rb") as file:  # noqa: ASYNC230, PTH123 - what user code does
            assert file.read() == b"data"
        await storage.delete("a/k")
        assert os.listdir(files.root) == [".factflow", "foreign"]  # noqa: PTH208 - what user code does
        await storage.close()

    with files.run():
        run(use).result()
    assert files.disk.descriptors == 0


def test_outside_a_run_the_real_disk_is_back(files, tmp_path):
    real = steps.os
    with files.run():
        assert steps.os is files.disk
        assert not tmp_path.exists()
    assert steps.os is real is os
    (tmp_path / "x").write_text("real")
    assert tmp_path.joinpath("x").read_text() == "real"
    assert asyncio.run(aiofiles.os.path.exists(tmp_path / "x"))
    with pytest.raises(LookupError), files.run():
        raise LookupError
    assert steps.os is os
    assert tmp_path.exists()


def test_every_run_begins_with_an_empty_disk_unless_told_otherwise(files):
    async def write():
        await FilesystemStorageProvider(files.root).write("k", b"1")

    async def keys():
        return [key async for key in FilesystemStorageProvider(files.root).list()]

    with files.run():
        run(write).result()
    with files.run(fresh=False):
        assert run(keys).result() == ["k"]
    with files.run():
        assert run(keys).result() == []


@pytest.mark.parametrize(
    "reach",
    [
        lambda: posix.mkdir("/tmp/never"),
        lambda: posix.remove("/tmp/never"),
        lambda: posix.open("/etc/hostname", os.O_RDONLY),
        lambda: io.FileIO("/tmp/never", "w"),
        lambda: posix.listdir("/"),
        lambda: posix.rename("/tmp/never", "/tmp/ever"),
    ],
)
def test_reaching_for_the_real_disk_fails(files, reach):
    with files.run(), pytest.raises(RealDiskError, match="real disk"):
        reach()


@pytest.mark.parametrize("compiled", [None, "elsewhere"], ids=["beside", "elsewhere"])
def test_modules_can_still_be_imported_in_a_run(files, tmp_path, monkeypatch, compiled):
    """Also where ``PYTHONPYCACHEPREFIX`` has what is compiled kept elsewhere."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", compiled and str(tmp_path / compiled))
    with files.run():
        assert importlib.reload(importlib.import_module("colorsys")).ONE_THIRD > 0
    assert [*tmp_path.rglob("colorsys*.pyc")] or not compiled


def test_a_module_that_is_imported_in_a_run_stays_the_same_and_is_patched_again(files, tmp_path, monkeypatch):
    (tmp_path / "imported_late.py").write_text("import os\nclass Thing: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with files.run():
        module = importlib.import_module("imported_late")
        assert module.os.path.exists(files.root)
    try:
        assert importlib.import_module("imported_late").Thing is module.Thing
        assert module.os is os
        assert not module.os.path.exists(files.root)
        with files.run():
            assert module.os.path.exists(files.root)
            import imported_late

            assert imported_late is module
    finally:
        del sys.modules["imported_late"]


def test_pyfakefs_own_fixture_gets_a_disk_of_its_own(files):
    with Patcher() as other:
        assert other.fs is not files.filesystem
        pathlib.Path("/x").write_text("theirs")
        assert not files.filesystem.exists("/x")
    with files.run():
        assert not pathlib.Path("/x").exists()


def test_a_run_costs_little(files):
    best = 1.0
    for _ in range(20):
        begun = time.perf_counter()
        with files.run():
            pass
        best = min(best, time.perf_counter() - begun)
    assert best < 0.003


def test_the_same_run_gives_the_same_disk(files):
    async def use():
        storage = FilesystemStorageProvider(files.root)
        await asyncio.gather(*(storage.write(f"k/{n}", bytes([n]), {"n": n}) for n in range(5)))
        await storage.copy("k/1", "k/9")
        return [await storage.stat(key) async for key in storage.list()]

    seen = []
    for _ in range(3):
        with files.run():
            seen.append(
                (
                    run(use, seed=7).result(),
                    [path.read_bytes() for path in sorted(pathlib.Path(files.root).rglob("*.json"))],
                )
            )
    assert seen[0] == seen[1] == seen[2]


def test_locks_exclude_in_virtual_time(files, monkeypatch):
    """A job that sleeps in the middle of a write, as on a slow disk, keeps the others out."""
    rename = steps.rename

    def slow(parent, name, target):
        time.sleep(10)
        rename(parent, name, target)

    monkeypatch.setattr(steps, "rename", slow)

    async def use():
        one, other = FilesystemStorageProvider(files.root), FilesystemStorageProvider(files.root)
        results = await asyncio.gather(
            *(which.write("k", b"x", {"n": n}, if_absent=True) for n, which in enumerate((one, other, one, other))),
            return_exceptions=True,
        )
        return [type(result) for result in results]

    with files.run():
        outcome = run(use)
        assert sum(kind is PreconditionFailedError for kind in outcome.result()) == 3
        assert outcome.time >= 20


def test_the_disk_has_a_size():
    async def fill(storage):
        await storage.write("small", b"x")
        with pytest.raises(StorageFullError):
            await storage.write("large", b"x" * 20_000)
        assert [key async for key in storage.list()] == ["small"]
        await storage.close()

    with SimulatedFilesystem(size=10_000) as files, files.run():
        run(lambda: fill(FilesystemStorageProvider(files.root))).result()
        assert not list(pathlib.Path(files.root).rglob("*.tmp"))


def test_misuse_is_told():
    with pytest.raises(ValueError, match="absolute path"):
        SimulatedFilesystem(root="relative")
    files = SimulatedFilesystem()
    with pytest.raises(RuntimeError, match="enter"):
        files.reset()
    with files:
        with pytest.raises(RuntimeError, match="entered already"):
            files.__enter__()
        with files.run(), pytest.raises(RuntimeError, match="under way"), files.run():
            pass


NAME = st.sampled_from(["a", "b", "c"])
CALL = st.one_of(
    st.tuples(st.just("create"), NAME), st.tuples(st.just("open"), NAME), st.tuples(st.just("mkdir"), NAME),
    st.tuples(st.just("rmdir"), NAME), st.tuples(st.just("unlink"), NAME), st.tuples(st.just("rename"), NAME, NAME),
    st.tuples(st.just("list")), st.tuples(st.just("stat"), NAME),
)  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return iter(tmp_path_factory.mktemp("folder") / str(number) for number in range(10**6))


@settings(max_examples=100, deadline=None)
@given(calls=st.lists(CALL, max_size=12))
def test_the_disk_answers_as_the_kernel_does(folders, calls):
    folder = next(folders)
    folder.mkdir()
    filesystem = FakeFilesystem()
    filesystem.create_dir("/data")
    assert outcomes(os, str(folder), calls) == outcomes(DiskOs(filesystem), "/data", calls)
    fake = FakeOsModule(filesystem)
    assert sorted(fake.listdir("/data")) == sorted(path.name for path in folder.iterdir())


def outcomes(system, root, calls):
    seen = []
    parent = system.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for name, *arguments in calls:
        try:
            seen.append(perform(system, parent, name, *arguments))
        except OSError as error:
            code = errno.ENOTEMPTY if error.errno == errno.EEXIST and name == "rmdir" else error.errno
            seen.append(errno.errorcode[code or 0])
    system.close(parent)
    return seen


def perform(system, parent, name, *arguments):
    if name == "create":
        descriptor = system.open(arguments[0], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=parent)
        system.write(descriptor, b"content")
        system.close(descriptor)
    elif name == "open":
        descriptor = system.open(arguments[0], os.O_RDONLY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            return system.read(descriptor, 3), system.read(descriptor, 100), system.read(descriptor, 100)
        finally:
            system.close(descriptor)
    elif name == "rename":
        system.rename(*arguments, src_dir_fd=parent, dst_dir_fd=parent)
    elif name == "list":
        with system.scandir(parent) as scan:
            return sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in scan)
    elif name == "stat":
        found = system.stat(arguments[0], dir_fd=parent, follow_symlinks=False)
        return found.st_size if steps.is_regular(found) else None
    else:
        getattr(system, name)(arguments[0], dir_fd=parent)
    return None
