"""One writer a key at a time, among the threads of all processes that share the root.

``flock`` on one of 256 files in ``<root>/.factflow``, chosen by the key. The kernel gives the lock back when its holder
dies. The file is opened anew for every holder, because a lock belongs to the open file: threads exclude each other too.
Readers take no lock. The lock files must not be removed while a provider uses the root; they hold nothing.

Nobody waits in here: a lock that is held elsewhere is ``HeldError``, and the caller comes again (``workers.py``). Whoever stands still
amid a change (a frozen container, SIGSTOP) keeps its lock until it goes on or dies. It cannot be taken away: it would go on with its
renames. A thread that waited for it would be one less for all other keys, and nobody could end it.
"""

from __future__ import annotations

import zlib
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from factflow_infra.storage.filesystem import steps
from factflow_infra.storage.keys import RESERVED_PREFIX

if TYPE_CHECKING:
    from collections.abc import Generator

    from factflow_infra.storage.filesystem.tree import Tree

LOCK_FOLDER = RESERVED_PREFIX
_STRIPES = 256


class AbandonedError(Exception):
    """The caller went away before the change was made; nothing was changed."""


class HeldError(Exception):
    """Somebody else holds the lock; nothing was changed."""


def stripe(key: str) -> int:
    """Which lock ``key`` shares with one in 256 others."""
    return zlib.crc32(key.encode()) % _STRIPES


@contextmanager
def locked(tree: Tree, key: str) -> Generator[None, None, None]:
    """Hold the lock of ``key``, or raise ``HeldError``. Never taken twice by one thread: two keys may share a stripe."""
    descriptor = _open(tree, f"lock-{stripe(key):02x}")
    try:
        if not steps.try_lock(descriptor):
            raise HeldError
        yield
    finally:
        steps.close(descriptor)


def _open(tree: Tree, name: str) -> int:
    with tree.opened_root() as root:
        try:
            folder = steps.open_directory(root, LOCK_FOLDER)
        except FileNotFoundError:
            with suppress(FileExistsError):
                steps.make_directory(root, LOCK_FOLDER)
            folder = steps.open_directory(root, LOCK_FOLDER)
        try:
            return steps.open_lock(folder, name)
        finally:
            steps.close(folder)
