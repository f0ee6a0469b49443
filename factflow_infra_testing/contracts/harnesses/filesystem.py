"""The harnesses of ``FilesystemStorageProvider``: a real folder in real time, a disk in memory in virtual time."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from factflow_infra.storage.filesystem import FilesystemStorageProvider
from factflow_infra_testing.contracts.pace import LIVE_PACE, VIRTUAL_PACE
from factflow_infra_testing.contracts.storage import (
    PlainStorageBackend,
    StorageCapability,
    StorageEnvironment,
    exercise_storage,
)
from factflow_infra_testing.storage.watch import CREATE, LINK, MKDIR, RENAME, RMDIR, UNLINK

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from factflow_infra.protocols import StorageProtocol
    from factflow_infra_testing.storage.files import SimulatedFilesystem

_COMMON = frozenset(
    {
        StorageCapability.CONDITIONAL_CREATE,
        StorageCapability.CONDITIONAL_WRITE,
        StorageCapability.CONDITIONAL_STREAM,
        StorageCapability.CONDITIONAL_DELETE,
        StorageCapability.CORRUPT,
        StorageCapability.RESIDUE,
        StorageCapability.SYMLINK,
        StorageCapability.MISSING_ROOT,
    }
)
_ROOMY = 1 << 40
_CHANGES = frozenset({CREATE, MKDIR, RENAME, UNLINK, RMDIR, LINK})
_SECRET = b"a secret outside the root"


class FolderBackend(PlainStorageBackend):
    """Providers on the folder ``root``; ``outside`` is a folder beside it. Works on whatever disk ``open`` works on."""

    def __init__(self, root: str, outside: str, make: Callable[[str], StorageProtocol]) -> None:
        self._root = Path(root)
        self._outside = Path(outside)
        self._make = make

    async def provider(self) -> StorageProtocol:
        return self._make(str(self._root))

    async def corrupt(self, key: str) -> None:
        path = self._root / key
        before = path.stat()
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        with path.open("r+b") as file:  # the same file, as when a disk decays: nothing but the content tells
            file.write(data)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    async def residue(self) -> list[str]:
        """Every file that is neither an object nor its sidecar; the provider's own lock files are no residue."""
        files = {str(path.relative_to(self._root)) for path in self._root.rglob("*") if path.is_file()}
        objects = {name for name in files if ".factflow" not in name and not name.endswith(".meta.json")}
        known = objects | {f"{name}.meta.json" for name in objects}
        return sorted(name for name in files - known if not _is_lock(name))

    async def symlink(self, key: str) -> bytes:
        self._outside.mkdir(parents=True)
        (self._outside / "secret").write_bytes(_SECRET)
        self._link(key, self._outside / "secret")
        return _SECRET

    async def symlink_folder(self, key: str) -> None:
        self._link(key, self._outside)

    def _link(self, key: str, target: Path) -> None:
        link = self._root / key
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)

    async def outside(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self._outside.iterdir()}

    async def rootless(self) -> StorageProtocol:
        return self._make(str(self._outside / "never-made"))


def _is_lock(name: str) -> bool:
    return "lock" in name.rsplit("/", 1)[-1]


class FilesystemStorageHarness:
    """Runs each behaviour in real time, on the stock loop, in a new folder below ``folder``.

    ``make``: another provider for a root; ``capabilities``: fewer than all.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        make: Callable[[str], StorageProtocol] = FilesystemStorageProvider,
        capabilities: frozenset[StorageCapability] = _COMMON | {StorageCapability.REAL_LOOP},
    ) -> None:
        self.capabilities = capabilities
        self._folder = Path(folder)
        self._make = make

    def run(self, check: Callable[[StorageEnvironment], Coroutine[Any, Any, None]]) -> None:
        name = uuid4().hex[:8]
        root, outside = self._folder / name / "root", self._folder / name / "outside"
        root.mkdir(parents=True)
        backend = FolderBackend(str(root), str(outside), self._make)
        asyncio.run(exercise_storage(check, backend, capabilities=self.capabilities, pace=LIVE_PACE))


class MemoryBackend(FolderBackend):
    """A folder on a disk in memory that can be filled up, and made read-only."""

    def __init__(self, files: SimulatedFilesystem, make: Callable[[str], StorageProtocol]) -> None:
        super().__init__(files.root, "/outside", make)
        self._files = files

    async def fill(self) -> None:
        used: int = self._files.filesystem.get_disk_usage(self._files.root).used
        self._files.filesystem.set_disk_usage(used + 1_000_000, self._files.root)

    async def deny(self) -> None:
        def refuse(operation: str, path: str) -> int:
            if operation in _CHANGES:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            return 0

        self._files.watch.on_step = refuse

    async def allow(self) -> None:
        self._files.watch.on_step = None
        self._files.filesystem.set_disk_usage(_ROOMY, self._files.root)


class SimulatedFilesystemHarness:
    """Runs each behaviour in virtual time, on an empty disk in memory. ``files`` must be entered."""

    def __init__(
        self,
        files: SimulatedFilesystem,
        *,
        make: Callable[[str], StorageProtocol] = FilesystemStorageProvider,
        capabilities: frozenset[StorageCapability] = _COMMON | {StorageCapability.FULL, StorageCapability.DENY},
    ) -> None:
        self.capabilities = capabilities
        self._files = files
        self._make = make

    def run(self, check: Callable[[StorageEnvironment], Coroutine[Any, Any, None]]) -> None:
        from factflow_infra_testing.simulation.runner import run

        async def main() -> None:
            backend = MemoryBackend(self._files, self._make)
            await exercise_storage(check, backend, capabilities=self.capabilities, pace=VIRTUAL_PACE)

        with self._files.run():
            outcome = run(main)
        outcome.result()
        assert not outcome.unhandled, f"nobody took these errors: {outcome.unhandled}"
