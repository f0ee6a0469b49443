"""Sees every operation on a simulated disk: each is a step that may be failed or be the last one, and is told to the model.

The provider's system calls come through ``DiskOs``, those of other code (``open``, ``os``, ``pathlib``, ``shutil``,
``aiofiles``) through pyfakefs. Both end in the same objects of pyfakefs, so what changes is recorded there: names where
entries are added and removed, contents where they are set. ``watched`` puts the hooks there, for the length of a run;
pyfakefs has no seam for it. Nothing of pyfakefs' behaviour changes.
"""

from __future__ import annotations

import importlib
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, cast

from factflow_infra_testing.storage.crashes import CrashModel

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    Step = Callable[[str, str], int]
    """``(operation, path)``, before the operation: may raise, and for a write may give how many bytes are taken at most."""

READ, WRITE, SYNC, OPEN, CREATE, MKDIR, RENAME, UNLINK, RMDIR, LINK, LIST, LOCK = (
    "read", "write", "fsync", "open", "create", "mkdir", "rename", "unlink", "rmdir", "link", "list", "lock",
)  # fmt: skip


class DiskWatch:
    """The steps and the unsynced state of one disk. ``on_step`` is asked before each operation; None costs nothing."""

    def __init__(self) -> None:
        self.model: CrashModel[Any] = CrashModel()
        self.on_step: Step | None = None
        self._moves: list[tuple[Any, str, Any, Any]] | None = None
        self._silent = 0
        self.recording = True
        """Whether contents that are set are told to the model."""

    def reset(self) -> None:
        """A new disk: nothing is unsynced, and nobody is asked."""
        self.model.clear()
        self.on_step = None

    @property
    def asks(self) -> bool:
        """Whether steps are anybody's affair now."""
        return self.on_step is not None and not self._silent

    def step(self, operation: str, node: Any, name: str | None = None) -> int:
        """Before ``operation`` on ``node``, or on ``name`` in the folder ``node``. Gives the bytes to take, 0 for all."""
        if self.on_step is None or self._silent:
            return 0
        path = path_of(node)
        return self.on_step(operation, path if name is None else f"{path.rstrip('/')}/{name}")

    def step_at(self, operation: str, path: str) -> int:
        """As ``step``, for an operation on a path."""
        if self.on_step is None or self._silent:
            return 0
        return self.on_step(operation, path)

    @contextmanager
    def silent(self) -> Generator[None, None, None]:
        """No steps inside: the parts of an operation whose step was taken, or the kit's own doings."""
        self._silent += 1
        try:
            yield
        finally:
            self._silent -= 1

    @contextmanager
    def durable(self) -> Generator[None, None, None]:
        """What is done inside was there before the run: no steps, and nothing of it can be lost."""
        before, self.model = self.model, CrashModel()
        try:
            with self.silent():
                yield
        finally:
            self.model = before

    # -- names --------------------------------------------------------------------------------------------------------

    def moved(self, folder: Any, name: str, before: Any, after: Any) -> None:
        """``name`` in ``folder`` stood for ``before`` and stands for ``after`` now."""
        if self._moves is None:
            self.model.entry(folder, name, before, after)
        else:
            self._moves.append((folder, name, before, after))

    @contextmanager
    def as_one(self) -> Generator[None, None, None]:
        """What moves inside is one rename, whatever its parts."""
        if self._moves is not None:
            yield
            return
        moves = self._moves = []
        try:
            yield
        finally:
            self._moves = None
            self._tell(moves)

    def _tell(self, moves: list[tuple[Any, str, Any, Any]]) -> None:
        places: dict[tuple[Any, str], tuple[Any, Any]] = {}
        for folder, name, before, after in moves:
            first = places[folder, name][0] if (folder, name) in places else before
            places[folder, name] = (first, after)
        left = {node: place for place, (node, after) in places.items() if node is not None and after is None}
        for place, (before, after) in places.items():
            if before is after:
                continue
            source = left.pop(after, None) if after is not None else None
            if source is not None:
                self.model.rename(after, source, place, before)
            elif after is not None:
                self.model.entry(*place, before, after)
        for node, place in left.items():
            self.model.entry(*place, node, None)

    # -- contents -----------------------------------------------------------------------------------------------------

    def rewritten(self, file: Any, before: bytes, after: bytes) -> None:
        """The content of ``file`` went from ``before`` to ``after``: as the least writing that does so."""
        if len(after) < len(before):
            self.model.truncate(file, len(after), before)
        if after.startswith(before):
            begin, end = len(before), len(after)
        else:
            shared = min(len(before), len(after))
            begin = next((n for n in range(shared) if before[n] != after[n]), shared)
            end = len(after)
            if len(after) == len(before):
                while end > begin and before[end - 1] == after[end - 1]:
                    end -= 1
        if begin < end:
            self.model.write(file, begin, after[begin:end], before)

    @contextmanager
    def told(self) -> Generator[None, None, None]:
        """The contents that are set inside are told to the model by whoever sets them, who knows better what was written."""
        before, self.recording = self.recording, False
        try:
            with self.silent():
                yield
        finally:
            self.recording = before

    def synced(self, node: Any) -> None:
        self.model.sync(node)


def path_of(node: Any) -> str:
    """The path of a node of pyfakefs by its names, without looking anything up."""
    names: list[str] = []
    while node is not None:
        names.append(node.name)
        node = node.parent_dir() if node.parent_dir is not None else None
    return "/" + "/".join(name for name in reversed(names) if name.strip("/"))


class NodeView:
    """The disk as it stands, for ``CrashModel.survivors``."""

    def entries(self, folder: Any) -> Mapping[str, Any] | None:
        return folder.entries if hasattr(folder, "_entries") else None

    def content(self, file: Any) -> bytes:
        return file.byte_contents or b""


@contextmanager
def watched(watch: DiskWatch, filesystem: Any) -> Generator[None, None, None]:
    """Have ``watch`` see everything that is done to ``filesystem``, a ``FakeFilesystem``, inside."""
    undo: list[tuple[Any, str, Any]] = []

    def hook(kind: Any, name: str, make: Callable[[Any], Any]) -> None:
        own = cast("dict[str, Any]", vars(kind))
        if name not in own:
            raise RuntimeError(
                f"this version of pyfakefs has no {kind.__name__}.{name}: use 6.3, which this was made for"
            )
        original = own[name]
        undo.append((kind, name, original))
        setattr(kind, name, make(original))

    nodes, system = (importlib.import_module(f"pyfakefs.{name}") for name in ("fake_file", "fake_filesystem"))
    opening, fake_os = (importlib.import_module(f"pyfakefs.{name}") for name in ("fake_open", "fake_os"))
    _hook_nodes(hook, nodes, watch, filesystem)
    _hook_calls(hook, system.FakeFilesystem, opening.FakeFileOpen, watch, filesystem)
    _hook_descriptors(hook, fake_os.FakeOsModule, watch, filesystem)
    # It holds this lock around each call, and the thread of a job that loses its power in there never gives it back. In a run one
    # thread goes at a time, so it guards nothing.
    shutil: Any = importlib.import_module("pyfakefs.fake_filesystem_shutil")
    hook(shutil.FakeShutilModule, "module_lock", lambda _: nullcontext())
    try:
        yield
    finally:
        for kind, name, original in reversed(undo):
            setattr(kind, name, original)


def _hook_nodes(hook: Callable[..., None], nodes: Any, watch: DiskWatch, filesystem: Any) -> None:
    """Where names and contents change, whoever changes them."""

    def ours(node: Any) -> bool:
        return node._filesystem() is filesystem  # noqa: SLF001 - the property asserts that it is there

    def add_entry(original: Any) -> Any:
        def add(self: Any, node: Any) -> None:
            original(self, node)
            if ours(self):
                watch.moved(self, node.name, None, node)

        return add

    def remove_entry(original: Any) -> Any:
        def remove(self: Any, name: str, recursive: bool = True) -> None:
            node = self.entries.get(name)
            original(self, name, recursive)
            if ours(self):
                watch.moved(self, name, node, None)

        return remove

    def contents(original: Any) -> Any:
        def set_initial_contents(self: Any, contents: Any) -> bool:
            before = self._byte_contents
            if not watch.recording or not ours(self) or before is None or self.parent_dir is None:
                return original(self, contents)
            after = self._encode_contents(contents)
            if after is None or after == before:
                return original(self, contents)
            watch.step(WRITE, self)
            changed = original(self, after)
            watch.rewritten(self, before, after)
            return changed

        return set_initial_contents

    def size(original: Any) -> Any:
        def resize(self: Any, size: int) -> None:
            before = self._byte_contents
            if not ours(self) or before is None or size == len(before):
                original.fset(self, size)
                return
            watch.step(WRITE, self)
            original.fset(self, size)
            watch.model.truncate(self, size, before)

        return property(original.fget, resize)

    def reading(original: Any) -> Any:
        def attribute(self: Any, name: str) -> Any:
            if name.startswith("read") and name != "readable" and ours(self.file_object):
                watch.step(READ, self.file_object)
            return original(self, name)

        return attribute

    hook(nodes.FakeDirectory, "add_entry", add_entry)
    hook(nodes.FakeDirectory, "remove_entry", remove_entry)
    hook(nodes.FakeFile, "set_initial_contents", contents)
    hook(nodes.FakeFile, "size", size)
    hook(nodes.FakeFileWrapper, "__getattr__", reading)


def _hook_calls(hook: Callable[..., None], kind: Any, opening: Any, watch: DiskWatch, filesystem: Any) -> None:
    """Where code that uses ``open``, ``os`` or ``pathlib`` begins an operation."""

    def stepped(operation: str) -> Callable[[Any], Any]:
        def make(original: Any) -> Any:
            def call(self: Any, path: Any, *args: Any, **options: Any) -> Any:
                if self is not filesystem:
                    return original(self, path, *args, **options)
                if watch.asks:
                    watch.step_at(operation, _text(self, args[0] if operation in (RENAME, LINK) and args else path))
                if operation != RENAME:
                    return original(self, path, *args, **options)
                with watch.as_one():
                    return original(self, path, *args, **options)

            return call

        return make

    def opened(original: Any) -> Any:
        def call(self: Any, file: Any, *args: Any, **options: Any) -> Any:
            if watch.asks and self.filesystem is filesystem and not isinstance(file, int):
                path = _text(filesystem, file)
                watch.step_at(OPEN if filesystem.exists(path) else CREATE, path)
            return original(self, file, *args, **options)

        return call

    for name, operation in (
        ("rename", RENAME), ("remove", UNLINK), ("rmdir", RMDIR), ("makedir", MKDIR), ("listdir", LIST),
        ("create_link", LINK),
    ):  # fmt: skip
        hook(kind, name, stepped(operation))
    hook(opening, "call", opened)


def _hook_descriptors(hook: Callable[..., None], fake_os: Any, watch: DiskWatch, filesystem: Any) -> None:
    """``fsync`` of code that uses ``os``, and short writes."""

    def sync(original: Any) -> Any:
        def call(self: Any, descriptor: Any) -> None:
            if self.filesystem is not filesystem or fake_os.use_original:
                original(self, descriptor)
                return
            number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
            original(self, number)
            node = filesystem.get_open_file(number).get_object()
            try:
                watch.step(SYNC, node)
            except OSError:
                watch.model.fail_sync(node)
                raise
            watch.synced(node)

        return call

    def write(original: Any) -> Any:
        def call(self: Any, descriptor: int, contents: Any) -> int:
            if self.filesystem is not filesystem or fake_os.use_original or watch.on_step is None:
                return original(self, descriptor, contents)
            data = bytes(contents)
            handle = filesystem.get_open_file(descriptor)
            most = watch.step(WRITE, handle.get_object()) if hasattr(handle, "file_object") and data else 0
            with watch.silent():
                return original(self, descriptor, data[:most] if most else data)

        return call

    hook(fake_os, "fsync", sync)
    hook(fake_os, "fdatasync", sync)
    hook(fake_os, "write", write)


def _text(filesystem: Any, path: Any) -> str:
    """The absolute path that ``path`` names, as text."""
    absolute: Any = filesystem.absnormpath(filesystem.make_string_path(path))
    return absolute.decode("utf-8", "surrogateescape") if isinstance(absolute, bytes) else absolute
