"""What a process that died amid a write or a delete left behind: temporary files, and sidecars whose object is gone.

None of it is ever listed or read; it only takes space. A temporary file that is still being written holds a lock of its own, which
its process loses when it dies, so what belongs to a living write is left alone, however old it is.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from factflow_infra.errors import StorageError
from factflow_infra.storage.filesystem import steps
from factflow_infra.storage.filesystem.locks import AbandonedError, HeldError, locked
from factflow_infra.storage.keys import SIDECAR_SUFFIX, is_reserved

if TYPE_CHECKING:
    import threading
    from collections.abc import Generator

    from factflow_infra.storage.filesystem.tree import Tree

_NANOSECONDS = 1e9


def remove(tree: Tree, older_than: float, abandoned: threading.Event) -> int:
    """Remove what has not changed for ``older_than`` seconds, and folders that are empty then; how many files that were."""
    count, folders = 0, [""]
    while folders:
        folder = folders.pop()
        removed, below = _in_folder(tree, folder, older_than, abandoned)
        folders += below
        if removed:
            count += removed
            with suppress(OSError, StorageError):
                tree.prune(_segments(folder), folder)
    return count


def _in_folder(tree: Tree, folder: str, older_than: float, abandoned: threading.Event) -> tuple[int, list[str]]:
    count, below = 0, list[str]()
    with tree.opened(_segments(folder), folder, refuse_links=False) as opened:
        if opened is None:  # removed meanwhile
            return 0, []
        for name, is_folder in steps.entries(opened):
            if abandoned.is_set():
                raise AbandonedError
            if is_folder:
                if not is_reserved(name):
                    below.append(f"{folder}{name}/")
            elif steps.is_temporary(name):
                count += _remove_temporary(opened, name, older_than)
            elif name.endswith(SIDECAR_SUFFIX):
                count += _remove_sidecar(tree, opened, folder, name, older_than)
    return count, below


def _segments(folder: str) -> list[str]:
    return folder.split("/")[:-1]


def _remove_temporary(parent: int, name: str, older_than: float) -> bool:
    with suppress(FileNotFoundError), _opened(parent, name) as descriptor:
        if _is_old(parent, name, older_than) and steps.try_lock(descriptor):
            steps.unlink(parent, name)
            return True
    return False


def _remove_sidecar(tree: Tree, parent: int, folder: str, name: str, older_than: float) -> bool:
    """A sidecar without its object, which the key's lock proves to be no write's under way. One whose lock is held stays."""
    object_name = name.removesuffix(SIDECAR_SUFFIX)
    key = f"{folder}{object_name}"
    if not object_name or _is_file(parent, object_name) or not _is_text(key):
        return False
    with suppress(FileNotFoundError, HeldError):
        if _is_old(parent, name, older_than):
            with locked(tree, key):
                if not _is_file(parent, object_name):
                    steps.unlink(parent, name)
                    return True
    return False


@contextmanager
def _opened(parent: int, name: str) -> Generator[int, None, None]:
    descriptor = steps.open_file(parent, name)
    try:
        yield descriptor
    finally:
        steps.close(descriptor)


def _is_old(parent: int, name: str, older_than: float) -> bool:
    changed = steps.status_at(parent, name).st_mtime_ns
    return time.time_ns() - changed >= older_than * _NANOSECONDS


def _is_file(parent: int, name: str) -> bool:
    try:
        return not steps.is_directory(steps.status_at(parent, name))
    except FileNotFoundError:
        return False


def _is_text(key: str) -> bool:
    """Whether it is a key at all: other tools may leave names that are not UTF-8."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True
