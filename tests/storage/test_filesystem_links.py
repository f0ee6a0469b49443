"""Whatever is planted below the root, nothing outside it is read, written, listed, copied or deleted (S6)."""

from __future__ import annotations

import asyncio
import os

import pytest

from factflow_infra.errors import ObjectNotFoundError, StorageError, StoragePermissionError
from factflow_infra.storage.filesystem import FilesystemStorageProvider, steps
from factflow_infra.storage.filesystem.tree import Tree

SECRET = b"outside"


@pytest.fixture
def places(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret").write_bytes(SECRET)
    return root, outside


def everything(folder):
    return sorted((str(path), path.read_bytes() if path.is_file() else None) for path in folder.rglob("*"))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


async def listed(storage):
    return [key async for key in storage.list()]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("link", "target", "key"),
    [
        ("folder", "../outside", "folder/secret"),
        ("folder", "../outside", "folder/new/deeper"),
        ("file", "../outside/secret", "file"),
        ("dangling", "../outside/new", "dangling"),
        ("loop", "loop", "loop"),
        ("loop", "loop", "loop/below"),
        ("inside", "real", "inside/object"),
    ],
)
async def test_a_link_is_never_followed(places, link, target, key):
    root, outside = places
    (root / "real").mkdir()
    (root / link).symlink_to(target)
    before = everything(outside)
    async with FilesystemStorageProvider(root) as storage:
        await storage.write("source", b"x")
        calls = [
            storage.read(key), storage.stat(key), storage.exists(key), storage.write(key, b"evil"), storage.delete(key),
            storage.copy(key, "target"), storage.copy("source", key), anext(storage.stream(key)),
            storage.write(key, b"evil", if_absent=True),
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(StoragePermissionError, match="symbolic link"):
                await call
        assert await listed(storage) == ["source"]
        assert (await storage.list_page(delimiter="/")).prefixes == ()
        assert [k async for k in storage.list(key)] == []
    assert everything(outside) == before
    assert (root / link).is_symlink()


@pytest.mark.asyncio
async def test_a_linked_sidecar_is_not_read_and_not_written_through(places):
    root, outside = places
    (root / "k").write_bytes(b"data")
    (root / "k.meta.json").symlink_to(outside / "secret")
    async with FilesystemStorageProvider(root) as storage:
        with pytest.raises(StoragePermissionError, match="symbolic link"):
            await storage.read("k")
        with pytest.raises(StoragePermissionError):
            await storage.write("k", b"new")
        await storage.delete("k")
    assert (outside / "secret").read_bytes() == SECRET
    assert names(root) == [".factflow"]


@pytest.mark.asyncio
async def test_a_linked_lock_folder_is_refused(places):
    root, outside = places
    (root / ".factflow").symlink_to(outside)
    async with FilesystemStorageProvider(root) as storage:
        with pytest.raises(StorageError):
            await storage.write("k", b"")
    assert names(outside) == ["secret"]
    assert names(root) == [".factflow"]


@pytest.mark.asyncio
async def test_special_files_are_no_objects_and_hang_nobody(places):
    root, _ = places
    os.mkfifo(root / "pipe")
    async with FilesystemStorageProvider(root) as storage:
        async with asyncio.timeout(5):
            for call in (
                storage.read("pipe"),
                storage.write("pipe", b""),
                storage.exists("pipe"),
                storage.delete("pipe"),
            ):
                with pytest.raises(StoragePermissionError, match="special file"):
                    await call
            assert await listed(storage) == []


@pytest.mark.asyncio
async def test_the_root_itself_may_be_a_link(places, tmp_path):
    root, _ = places
    (tmp_path / "link").symlink_to(root)
    async with FilesystemStorageProvider(tmp_path / "link") as storage:
        await storage.write("k", b"1")
        assert (root / "k").read_bytes() == b"1"


@pytest.mark.parametrize("moment", range(1, 12))
def test_a_link_planted_at_any_moment_of_a_write_leads_nowhere(places, monkeypatch, moment):
    """A folder is swapped for a link to the outside between any two system calls."""
    root, outside = places
    tree = Tree(str(root))
    calls = 0

    def swapping(real):
        def call(*arguments):
            nonlocal calls
            calls += 1
            if calls == moment and (root / "folder").is_dir() and not (root / "folder").is_symlink():
                (root / "folder").rename(root / "moved")
                (root / "folder").symlink_to(outside)
            return real(*arguments)

        return call

    for name in ("open_directory", "open_file", "create_file", "rename", "sync", "make_directory", "status_at"):
        monkeypatch.setattr(steps, name, swapping(getattr(steps, name)))
    storage = FilesystemStorageProvider(root)
    with pytest.MonkeyPatch.context():
        try:
            asyncio.run(storage.write("folder/secret", b"evil"))
            asyncio.run(storage.read("folder/secret"))
        except (StoragePermissionError, ObjectNotFoundError):
            pass
    tree.close()
    assert everything(outside) == [(str(outside / "secret"), SECRET)]


def test_following_links_would_be_noticed(places, monkeypatch):
    root, outside = places
    (root / "folder").symlink_to(outside)
    monkeypatch.setattr(steps, "_NOFOLLOW_DIRECTORY", steps._DIRECTORY)
    storage = FilesystemStorageProvider(root)
    assert asyncio.run(storage.read("folder/secret")) == SECRET
