"""A crash at every system call, and every state of the disk that a power loss may leave then.

The disk forgets what was not synced: of each name in a folder, any of the entries since the folder's last sync may survive,
independently of the other names; of a file, its synced content, nothing, half of the new content or all of it. Every such
state is built, and read by a fresh provider: the old object whole, or the new one whole.
"""

from __future__ import annotations

import errno
import itertools
import threading
from dataclasses import dataclass, field

import pytest
from pyfakefs.fake_file import FakeDirectory, FakeFile
from pyfakefs.fake_filesystem import FakeFilesystem
from pyfakefs.fake_os import FakeOsModule

from factflow_infra.errors import CorruptObjectError, ObjectNotFoundError
from factflow_infra.storage.filesystem import changes, listing, provider, reads, steps, versions
from factflow_infra.storage.filesystem.changes import Terms, Upload
from factflow_infra.storage.filesystem.tree import Tree
from factflow_infra_testing.storage.disk import DiskFcntl, DiskOs

ROOT = "/storage"
NEVER = threading.Event()


class Crash(BaseException):
    """The machine stops here."""


@dataclass
class Content:
    synced: bytes | None = None
    dirty: bool = True


@dataclass
class Names:
    """Of one folder: for each name, the entries since the last sync, the synced one first."""

    history: dict[str, list[object]] = field(default_factory=dict)


class LosingDisk(DiskOs):
    """A disk that knows what is synced, and stops at the ``stop``th call."""

    def __init__(self, filesystem, stop=None, skip_sync=None):
        super().__init__(filesystem)
        self.calls = 0
        self.syncs = 0
        self.stop = stop
        self.skip_sync = skip_sync
        self.names: dict[int, Names] = {}
        self.contents: dict[int, Content] = {}

    def _step(self):
        self.calls += 1
        if self.stop is not None and self.calls >= self.stop:
            raise Crash

    def _note(self, folder, name, before):
        self.names.setdefault(folder.st_ino or 0, Names()).history.setdefault(name, [before]).append(
            folder.entries.get(name)
        )

    def open(self, path, flags, mode=0o777, *, dir_fd=None):
        self._step()
        folder = None if dir_fd is None else self._folder(dir_fd)
        before = None if folder is None else folder.entries.get(path)
        descriptor = super().open(path, flags, mode, dir_fd=dir_fd)
        if folder is not None and folder.entries.get(path) is not before:
            self._note(folder, path, before)
            self.contents[folder.entries[path].st_ino] = Content()
        return descriptor

    def write(self, descriptor, data):
        self._step()
        written = super().write(descriptor, data)
        self.contents.setdefault(self._entry(descriptor).node.st_ino, Content()).dirty = True
        return written

    def fsync(self, descriptor):
        self._step()
        self.syncs += 1
        if self.syncs == self.skip_sync:
            return
        node = self._entry(descriptor).node
        if isinstance(node, FakeDirectory):
            self.names.pop(node.st_ino or 0, None)
        else:
            self.contents[node.st_ino] = Content(node.byte_contents, dirty=False)

    def mkdir(self, name, mode=0o777, *, dir_fd):
        self._step()
        super().mkdir(name, mode, dir_fd=dir_fd)
        self._note(self._folder(dir_fd), name, None)

    def rmdir(self, name, *, dir_fd):
        self._step()
        before = self._folder(dir_fd).entries.get(name)
        super().rmdir(name, dir_fd=dir_fd)
        self._note(self._folder(dir_fd), name, before)

    def unlink(self, name, *, dir_fd):
        self._step()
        before = self._folder(dir_fd).entries.get(name)
        super().unlink(name, dir_fd=dir_fd)
        self._note(self._folder(dir_fd), name, before)

    def rename(self, name, target, *, src_dir_fd, dst_dir_fd):
        self._step()
        folder = self._folder(src_dir_fd)
        before, old = folder.entries.get(name), folder.entries.get(target)
        super().rename(name, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        self._note(folder, name, before)
        self._note(folder, target, old)

    def flock(self, descriptor, operation):
        self._step()
        super().flock(descriptor, operation)

    def survivors(self):
        """Every tree that may be left, as nested dicts: name -> bytes with inode and time, or a dict."""
        return list(self._folder_states(self._filesystem.get_object(ROOT)))

    def _folder_states(self, folder):
        history = self.names.get(folder.st_ino or 0, Names()).history
        choices = []
        for name in sorted({*folder.entries, *history}):
            if name.startswith(".factflow"):
                continue  # never read, whatever it is
            entries = history.get(name, [folder.entries.get(name)])
            states = [(name, state) for node in unique(entries) for state in self._node_states(node)]
            choices.append(states)
        for combination in itertools.product(*choices):
            yield {name: state for name, state in combination if state is not None}

    def _node_states(self, node):
        if node is None:
            return [None]
        if isinstance(node, FakeDirectory):
            return list(self._folder_states(node))
        content = self.contents.get(node.st_ino, Content(node.byte_contents, dirty=False))
        now = node.byte_contents or b""
        possible = {now} if not content.dirty else {content.synced or b"", b"", now[: len(now) // 2], now}
        return [(data, node.st_ino, node.stat_result._st_mtime_ns) for data in sorted(possible)]


def unique(entries):
    kept = []
    for entry in entries:
        if not any(entry is one for one in kept):
            kept.append(entry)
    return kept


def build(state):
    """A new filesystem that holds one of the survivors."""
    filesystem = FakeFilesystem()
    filesystem.create_dir(ROOT)
    filesystem.last_ino = 10_000

    def fill(folder, entries):
        for name, entry in entries.items():
            if isinstance(entry, dict):
                inner = FakeDirectory(name, filesystem=filesystem)
                folder.add_entry(inner)
                fill(inner, entry)
            else:
                data, inode, mtime_ns = entry
                node = FakeFile(name, contents=data, filesystem=filesystem)
                node.st_size = len(data)
                node.stat_result.st_size = len(data)
                node.stat_result.st_ino = inode
                node.stat_result._st_mtime_ns = mtime_ns
                folder.add_entry(node)
                node.stat_result.st_ino = inode

    fill(filesystem.get_object(ROOT), state)
    return filesystem


def look(tree, key):
    try:
        data, record = reads.get(tree, key, NEVER)
    except ObjectNotFoundError:
        return None
    except CorruptObjectError as error:
        return f"corrupt: {error}"
    return data, record.metadata


def write(tree, key, data, metadata):
    provider._write(tree, NEVER, key=key, data=data, terms=Terms(content_type="a/b", metadata=metadata))


OLD, NEW = (b"the old content", {"version": "old"}), (b"what is new here", {"version": "new"})
SAME = (OLD[0], {"version": "same bytes, new metadata"})
KEY = "folder/inner/object"


def nothing(_tree):
    pass


WORKLOADS = {
    "first write": (nothing, lambda tree: write(tree, KEY, *NEW), None, NEW),
    "overwrite": (lambda tree: write(tree, KEY, *OLD), lambda tree: write(tree, KEY, *NEW), OLD, NEW),
    "overwrite with equal bytes": (
        lambda tree: write(tree, KEY, *OLD),
        lambda tree: write(tree, KEY, *SAME),
        OLD,
        SAME,
    ),
    "delete": (lambda tree: write(tree, KEY, *OLD), lambda tree: changes.delete(tree, KEY, None, NEVER), OLD, None),
    "copy": (
        lambda tree: (write(tree, KEY, *OLD), write(tree, "source", *NEW)),
        lambda tree: provider._copy(tree, NEVER, source="source", target=KEY),
        OLD,
        NEW,
    ),
    "write into a folder that another process left unsynced": (
        nothing,
        lambda tree: write(tree, KEY, *NEW),
        None,
        NEW,
    ),
}


def put(monkeypatch, disk):
    monkeypatch.setattr(steps, "os", disk)
    monkeypatch.setattr(steps, "fcntl", DiskFcntl(disk))


def run_to(monkeypatch, workload, stop=None, skip_sync=None):
    """The disk after ``workload`` was stopped at its ``stop``th call; and whether it was."""
    before, change, _, _ = WORKLOADS[workload]
    filesystem = FakeFilesystem()
    filesystem.create_dir(ROOT)
    put(monkeypatch, DiskOs(filesystem))
    before(Tree(ROOT))
    disk = LosingDisk(filesystem, stop, skip_sync)
    put(monkeypatch, disk)
    if "unsynced" in workload:
        disk.stop = None
        root = disk.open(ROOT, 0)
        disk.mkdir("folder", dir_fd=root)
        disk.close(root)
        disk.stop, disk.calls = stop, 0
    try:
        change(Tree(ROOT))
    except Crash:
        return disk, True
    return disk, False


def violations(monkeypatch, workload, skip_sync=None):
    _, _, old, new = WORKLOADS[workload]
    found, states = [], 0
    for stop in itertools.count(1):
        disk, crashed = run_to(monkeypatch, workload, stop, skip_sync)
        for state in disk.survivors():
            states += 1
            put(monkeypatch, DiskOs(build(state)))
            tree = Tree(ROOT)
            seen = look(tree, KEY)
            listed = KEY in listing.Walk(tree, "").take(10)
            if seen not in ([old, new] if crashed else [new]) or listed != (seen is not None):
                found.append((stop, seen))
            else:
                write(tree, KEY, b"afterwards", {})
                assert look(tree, KEY) == (b"afterwards", {})
        if not crashed:
            return found, states, stop
    raise AssertionError


@pytest.mark.parametrize("workload", WORKLOADS)
def test_every_state_after_every_crash_is_the_old_object_or_the_new(monkeypatch, workload):
    found, states, steps_taken = violations(monkeypatch, workload)
    assert not found
    assert states >= steps_taken > 10


def _write_as_a_large_one(tree, abandoned, *, key, data, terms):
    """The jobs of ``FilesystemStorageProvider._write_large``, one after the other."""
    upload = Upload(tree, key)
    try:
        upload.put_whole(data)
        upload.digest_whole(data)
        provider._finish_whole(tree, abandoned, upload=upload, terms=terms)
    finally:
        upload.discard()


@pytest.mark.parametrize("workload", ["first write", "overwrite"])
def test_a_large_write_crashes_as_safely_and_needs_its_syncs(monkeypatch, workload):
    monkeypatch.setattr(provider, "_write", _write_as_a_large_one)
    found, states, steps_taken = violations(monkeypatch, workload)
    assert not found
    assert states >= steps_taken > 10
    count = syncs_of(monkeypatch, workload)
    assert count == 6
    for number in range(3 if workload == "overwrite" else 1, count + 1):
        assert violations(monkeypatch, workload, skip_sync=number)[0], f"sync {number} is not needed"


def test_what_is_stored_survives_a_crash_of_its_neighbours_write(monkeypatch):
    for stop in itertools.count(1):
        disk, crashed = run_to(monkeypatch, "copy", stop)
        for state in disk.survivors():
            put(monkeypatch, DiskOs(build(state)))
            assert look(Tree(ROOT), "source") == NEW
        if not crashed:
            break


def syncs_of(monkeypatch, workload):
    disk, _ = run_to(monkeypatch, workload)
    return disk.syncs


@pytest.mark.parametrize(("workload", "count"), [("first write", 6), ("overwrite", 6), ("delete", 1), ("copy", 6)])
def test_each_sync_is_needed(monkeypatch, workload, count):
    # Two of the six make the folders durable that this provider has not met before; only a new folder needs them.
    assert syncs_of(monkeypatch, workload) == count
    needed = range(3, count + 1) if workload in {"overwrite", "copy"} else range(1, count + 1)
    for number in needed:
        found, _, _ = violations(monkeypatch, workload, skip_sync=number)
        assert found, f"{workload} keeps its promises without sync {number}"


def test_the_folder_another_process_left_unsynced_is_synced(monkeypatch):
    workload = "write into a folder that another process left unsynced"
    assert violations(monkeypatch, workload, skip_sync=1)[0]


def test_the_previous_record_in_the_sidecar_is_needed(monkeypatch):
    encode = versions.encode
    monkeypatch.setattr(versions, "encode", lambda new, _previous: encode(new, None))
    assert violations(monkeypatch, "overwrite")[0]


def test_the_rename_is_needed(monkeypatch):
    def rename(parent, name, target):
        source = steps.open_file(parent, name)
        if target in dict(steps.entries(parent)):
            steps.unlink(parent, target)
        sink = steps.create_file(parent, target)
        steps.write(sink, memoryview(steps.read(source, 1 << 20)))
        steps.sync(sink)
        steps.close(sink)
        steps.close(source)

    monkeypatch.setattr(steps, "rename", rename)
    found, _, _ = violations(monkeypatch, "overwrite")
    assert found


@pytest.mark.parametrize("workload", ["first write", "overwrite", "copy", "delete"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_every_failing_step_leaves_old_or_new_and_no_residue(monkeypatch, workload, code):
    before, change, old, new = WORKLOADS[workload]
    for number in itertools.count(1):
        filesystem = FakeFilesystem()
        filesystem.create_dir(ROOT)
        put(monkeypatch, DiskOs(filesystem))
        before(Tree(ROOT))
        disk = FailingDisk(filesystem, number, code)
        put(monkeypatch, disk)
        tree = Tree(ROOT)
        failed = None
        try:
            change(tree)
        except (OSError, changes.StorageError) as error:
            failed = error
        tree.close()
        assert not disk.descriptors
        put(monkeypatch, DiskOs(filesystem))
        seen = look(Tree(ROOT), KEY)
        if failed is None:
            assert seen == new
        elif isinstance(failed, changes.WriteUnconfirmedError):
            assert seen in (old, new)
        else:
            assert seen == old
        left = [name for _, _, names in walk(filesystem) for name in names if name.endswith(".tmp")]
        assert not left, (number, failed)
        if disk.calls < number:
            return


def walk(filesystem):
    return FakeOsModule(filesystem).walk(ROOT)


class FailingDisk(LosingDisk):
    """Fails one call, and goes on."""

    def __init__(self, filesystem, number, code):
        super().__init__(filesystem)
        self.number = number
        self.code = code

    def _step(self):
        self.calls += 1
        if self.calls == self.number:
            raise OSError(self.code, "simulated")
