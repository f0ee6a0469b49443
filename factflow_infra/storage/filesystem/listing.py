"""Listing keys in UTF-8 byte order, in constant memory.

The order is that of whole keys, not of a walk through folders: ``a.b`` comes before ``a/b``, because ``.`` comes before
``/``. So a folder stands among its neighbours as its name with ``/`` behind it.

A folder is read in rounds: each takes the next ``ROUND`` names after the last one in order, however many there are. So
a folder of millions costs as many scans as it has rounds, and never more memory than one round. No folder stays open
between rounds: what is written meanwhile may appear or not, what was finished before the call does appear.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from factflow_infra.storage.filesystem import steps
from factflow_infra.storage.keys import MAX_KEY_BYTES, is_reserved
from factflow_infra.storage.objects import ObjectPage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from factflow_infra.storage.filesystem.tree import Tree

ROUND = 100_000


class Walk:
    """The keys that begin with ``prefix`` and come after ``after``, in order. Every method is a blocking call."""

    def __init__(self, tree: Tree, prefix: str, after: str | None = None) -> None:
        self._tree = tree
        self._prefix = prefix
        self._after = after or ""
        self._skipped: str | None = None
        self._keys = self._walk()

    def take(self, count: int) -> list[str]:
        """The next ``count`` keys; fewer at the end."""
        taken: list[str] = []
        for key in self._keys:
            taken.append(key)
            if len(taken) == count:
                break
        return taken

    def next(self) -> str | None:
        return next(self._keys, None)

    def skip(self, prefix: str) -> None:
        """Leave out the rest of the keys that begin with ``prefix``."""
        self._skipped = prefix

    def _walk(self) -> Iterator[str]:
        base = self._prefix.rpartition("/")[0]
        # Each level is a folder's names in order and the folder's path, with its "/".
        levels = [self._names(f"{base}/" if base else "")]
        while levels:
            for path in levels[-1]:
                if not self._wanted(path):
                    continue
                if path.endswith("/"):
                    levels.append(self._names(path))
                    break
                yield path
            else:
                levels.pop()

    def _wanted(self, path: str) -> bool:
        """Whether ``path``, a key or a folder with its ``/``, is or may hold a key that is asked for."""
        if self._skipped is not None and path.startswith(self._skipped):
            return False
        if path.endswith("/"):
            inside = path.startswith(self._prefix) or self._prefix.startswith(path)
            return inside and (path > self._after or self._after.startswith(path))
        return path.startswith(self._prefix) and path > self._after

    def _names(self, folder: str) -> Iterator[str]:
        last = ""
        while True:
            names = self._round(folder, last)
            yield from names
            if len(names) < ROUND or (self._skipped is not None and folder.startswith(self._skipped)):
                return
            last = names[-1]

    def _round(self, folder: str, last: str) -> list[str]:
        with self._tree.opened(folder.split("/")[:-1], folder, refuse_links=False) as opened:
            if opened is None:  # removed meanwhile
                return []
            return heapq.nsmallest(ROUND, (path for path in self._paths(opened, folder) if path > last))

    def _paths(self, opened: int, folder: str) -> Iterator[str]:
        for name, is_folder in steps.entries(opened):
            if is_reserved(name):
                continue
            path = f"{folder}{name}/" if is_folder else f"{folder}{name}"
            if self._wanted(path) and _is_key(path):
                yield path


def page(tree: Tree, prefix: str, delimiter: str | None, limit: int, after: str | None) -> ObjectPage:
    """One page of at most ``limit`` keys and common prefixes together."""
    walk = Walk(tree, prefix, after)
    if after is not None and delimiter is not None:
        # A page that ended with a common prefix goes on behind all the keys that it stands for.
        position = after.find(delimiter, len(prefix)) if after.startswith(prefix) else -1
        if position >= 0 and position + len(delimiter) == len(after):
            walk.skip(after)
    keys: list[str] = []
    prefixes: list[str] = []
    last: str | None = None
    while (key := walk.next()) is not None:
        if len(keys) + len(prefixes) == limit:
            return ObjectPage(keys=tuple(keys), prefixes=tuple(prefixes), next_after=last)
        position = key.find(delimiter, len(prefix)) if delimiter is not None else -1
        if delimiter is not None and position >= 0:
            last = key[: position + len(delimiter)]
            prefixes.append(last)
            walk.skip(last)
        else:
            last = key
            keys.append(key)
    return ObjectPage(keys=tuple(keys), prefixes=tuple(prefixes))


def _is_key(path: str) -> bool:
    """Whether a name that was found can be (part of) a key: other tools may leave what is not UTF-8, or too long."""
    try:
        return len(path.encode()) <= MAX_KEY_BYTES
    except UnicodeEncodeError:
        return False
