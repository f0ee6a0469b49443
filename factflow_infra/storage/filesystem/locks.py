"""One writer a key at a time, among the threads of all processes that share the root.

``flock`` on one of 256 files in ``<root>/.factflow``, chosen by the key. The kernel gives the lock back when its holder
dies. The file is opened anew for every holder, because a lock belongs to the open file: threads exclude each other too.
Readers take no lock. The lock files must not be removed while a provider uses the root; they hold nothing.

Whoever stands still amid a change (a frozen container, SIGSTOP) keeps its lock until it goes on or dies. It cannot be taken away: it would
go on with its renames. So who waits for it asks again and again, which, unlike a ``flock`` that waits, its caller can end.
"""

from __future__ import annotations

import zlib
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from factflow_infra.storage.filesystem import steps
from factflow_infra.storage.keys import RESERVED_PREFIX

if TYPE_CHECKING:
    import threading
    from collections.abc import Generator

    from factflow_infra.storage.filesystem.tree import Tree

LOCK_FOLDER = RESERVED_PREFIX
_STRIPES = 256


_PAUSES: Final = (0.000_2, 0.005)
"""Seconds between two attempts: doubled from the first to the longest."""


class AbandonedError(Exception):
    """The caller went away before the change was made; nothing was changed."""


@contextmanager
def locked(tree: Tree, key: str, abandoned: threading.Event) -> Generator[None, None, None]:
    """Hold the lock of ``key``. Never taken twice by one thread: two keys may share a stripe.

    Raises ``AbandonedError`` where the caller goes away before it is there.
    """
    descriptor = _open(tree, f"lock-{zlib.crc32(key.encode()) % _STRIPES:02x}")
    try:
        pause, longest = _PAUSES
        while not steps.try_lock(descriptor):
            if abandoned.wait(pause):
                raise AbandonedError
            pause = min(2 * pause, longest)
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
