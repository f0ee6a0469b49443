"""What a power loss may leave of a disk: a model of what was synced and what was not, apart from any disk.

Operations go in (``write``, ``truncate``, ``entry``, ``rename``, ``sync``), the legal states after a power loss come out
(``survivors`` gives all of them, ``lose`` one). A node, file or folder, is any object that can be a key; the model compares
and holds it, and looks into none.

What POSIX and the Linux filesystems promise, and no more, which is what a service may rely on:

- ``fsync`` of a file makes its content and size durable, not its name; ``fsync`` of a folder makes the names in it durable,
  not what they stand for. Nothing else makes anything durable.
- What is not synced may have been written back all the same, in part and in any order: of a file, each sector for itself and
  the size for itself; of a folder, each name for itself. A block that was never written reads as zeros.
- A sector is written whole or not at all.
- ``rename`` is atomic for those who look on. After a power loss the old name, the new one, or both may be there, but never
  neither: a removal of the old name that survived implies the new name. (POSIX is silent; journalling filesystems do the
  whole of it or none, ext2 may leave both.)
- A failed ``fsync`` of a file leaves its pages marked clean, as on Linux: what they held is still read, but will never be
  written, and the next ``fsync`` succeeds.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping

N = TypeVar("N", bound="Hashable")
T = TypeVar("T")
N_contra = TypeVar("N_contra", contravariant=True)

SECTOR = 512
"""Bytes that a disk writes whole or not at all."""


class Choose(Protocol[N_contra]):
    """One of ``count`` possibilities of a part of ``node``, the oldest first: the last one is what stands now.

    ``part`` is a folder's ``name ...``, or a file's ``size`` or ``sector ...``.
    """

    def __call__(self, count: int, node: N_contra, part: str, /) -> int: ...


@dataclass(slots=True)
class _Change:
    """Bytes put at ``offset``, or with ``data`` None a cut or stretch to ``offset`` bytes."""

    offset: int
    data: bytes | None
    forsaken: bool = False
    """Its page was marked clean by a failed sync: it may be on the disk, or never."""
    firm: bool = False
    """It is on the disk: a sync that came after a failed one."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What each part of a file may be: its size, and each of its sectors. Oldest first; the last of each stands now."""

    sizes: tuple[int, ...]
    sectors: tuple[tuple[bytes, ...], ...]

    def compose(self, size: int, versions: tuple[int, ...]) -> bytes:
        """The content for a choice of size and of each sector's version."""
        return b"".join(kinds[pick] for kinds, pick in zip(self.sectors, versions, strict=True))[:size]


class Content:
    """A file since its last sync: what was durable then, and what was done to it since."""

    __slots__ = ("_changes", "_sector", "_synced")

    def __init__(self, synced: bytes, sector: int = SECTOR) -> None:
        self._synced = synced
        self._sector = sector
        self._changes: list[_Change] = []

    def write(self, offset: int, data: bytes) -> None:
        self._changes.append(_Change(offset, data))

    def truncate(self, size: int) -> None:
        self._changes.append(_Change(size, None))

    def sync(self) -> bool:
        """Make what can be durable so; whether anything is left that may still be lost."""
        if not any(change.forsaken for change in self._changes):
            return False
        for change in self._changes:
            change.firm = not change.forsaken
        return True

    def fail_sync(self) -> None:
        """Forsake what a failed sync was to write."""
        for change in self._changes:
            change.forsaken = not change.firm

    def layout(self) -> Layout:
        sector, sizes, now = self._sector, [len(self._synced)], bytearray(self._synced)
        sectors = [[bytes(now[start : start + sector].ljust(sector, b"\0"))] for start in range(0, len(now), sector)]
        for change in self._changes:
            self._apply(change, now, sizes, sectors)
        return Layout(_distinct(sizes), tuple(_distinct(kinds) for kinds in sectors))

    def _apply(self, change: _Change, now: bytearray, sizes: list[int], sectors: list[list[bytes]]) -> None:
        sector, before = self._sector, len(now)
        start = change.offset if change.data is not None else min(change.offset, before)
        if change.data is None:
            end = max(change.offset, before)
            del now[change.offset :]
            now.extend(bytes(change.offset - len(now)))
        else:
            end = start + len(change.data)
            now.extend(bytes(max(0, end - before)))
            now[start:end] = change.data
        if change.firm:
            sizes[:] = [len(now)]
        elif len(now) > before:
            sizes += [*range((before // sector + 1) * sector, len(now), sector), len(now)]
        else:
            sizes.append(len(now))
        while len(sectors) * sector < len(now):
            sectors.append([bytes(sector)])
        for index in range(min(start, before) // sector, -(-max(end, len(now) if len(now) > before else 0) // sector)):
            if index >= len(sectors):
                break
            low = index * sector
            if change.firm:
                sectors[index] = [_overlaid(kind, low, change, sector) for kind in sectors[index]]
            else:
                sectors[index].append(bytes(now[low : low + sector].ljust(sector, b"\0")))


def _overlaid(kind: bytes, low: int, change: _Change, sector: int) -> bytes:
    piece = bytearray(kind)
    if change.data is None:
        cut = max(0, change.offset - low)
        piece[cut:] = bytes(max(0, sector - cut))
    else:
        begin, end = max(change.offset - low, 0), min(change.offset + len(change.data) - low, sector)
        if begin < end:
            piece[begin:end] = change.data[low + begin - change.offset : low + end - change.offset]
    return bytes(piece)


def _distinct(kinds: list[T]) -> tuple[T, ...]:
    """The first one first, the last one last, each once between them; one where they are all the same."""
    if all(kind == kinds[0] for kind in kinds):
        return (kinds[0],)
    between = dict.fromkeys(kinds[1:-1])
    return (kinds[0], *(kind for kind in between if kind not in (kinds[0], kinds[-1])), kinds[-1])


@dataclass(slots=True, eq=False)
class _Slot(Generic[N]):
    """A name in a folder since the folder's last sync: what it has stood for, the synced node (or none) first."""

    folder: N
    name: str
    nodes: list[N | None]
    floor: int = 0
    """Versions before this one are no longer possible."""

    @property
    def last(self) -> int:
        return len(self.nodes) - 1


@dataclass(frozen=True, slots=True, eq=False)
class _Coupling(Generic[N]):
    """A rename: where the old name's removal survived, the new name (or what followed it) did too."""

    source: _Slot[N]
    removed: int
    target: _Slot[N]
    added: int

    def holds(self, picks: Mapping[int, int]) -> bool:
        source, target = picks.get(id(self.source), self.source.last), picks.get(id(self.target), self.target.last)
        return source < self.removed or target >= self.added


class View(Protocol[N]):
    """A look at the disk as it stands, which the model itself does not hold."""

    def entries(self, folder: N) -> Mapping[str, N] | None:
        """The names in ``folder`` and their nodes; None for a file."""
        ...

    def content(self, file: N) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Survivor(Generic[N]):
    """A file after the power loss."""

    node: N
    data: bytes


Tree = dict[str, "Survivor[N] | Tree[N]"]
"""A folder after the power loss: names to files and folders."""


class CrashModel(Generic[N]):
    """What is not durable on a disk. ``sector``: bytes that are written whole or not at all."""

    def __init__(self, sector: int = SECTOR) -> None:
        if sector < 1:
            raise ValueError(f"a sector has at least 1 byte, not {sector}")
        self._sector = sector
        self._contents: dict[N, Content] = {}
        self._slots: dict[N, dict[str, _Slot[N]]] = {}
        self._couplings: list[_Coupling[N]] = []
        self.changes = 0
        """Grows with each operation that may change what survives."""

    def __bool__(self) -> bool:
        """Whether a power loss could leave anything but what stands."""
        return bool(self._contents or self._slots)

    # -- operations ---------------------------------------------------------------------------------------------------

    def write(self, file: N, offset: int, data: bytes, before: bytes) -> None:
        """``data`` was written at ``offset`` of ``file``, whose whole content was ``before``."""
        self._content(file, before).write(offset, data)

    def truncate(self, file: N, size: int, before: bytes) -> None:
        """``file``, whose whole content was ``before``, was cut or stretched to ``size`` bytes."""
        self._content(file, before).truncate(size)

    def entry(self, folder: N, name: str, before: N | None, after: N | None) -> None:
        """``name`` in ``folder`` stood for ``before`` and now stands for ``after``; None is nothing."""
        self._slot(folder, name, before).nodes.append(after)

    def rename(self, node: N, source: tuple[N, str], target: tuple[N, str], replaced: N | None) -> None:
        """``node`` went from ``source`` (folder and name) to ``target``, where ``replaced`` was."""
        here, there = self._slot(*source, node), self._slot(*target, replaced)
        here.nodes.append(None)
        there.nodes.append(node)
        self._couplings.append(_Coupling(here, here.last, there, there.last))

    def sync(self, node: N) -> None:
        """An ``fsync`` of ``node`` succeeded: of a file its content, of a folder its names are durable."""
        self.changes += 1
        content = self._contents.get(node)
        if content is not None and not content.sync():
            del self._contents[node]
        for slot in self._slots.pop(node, {}).values():
            slot.floor = slot.last
        self._settle()

    def fail_sync(self, node: N) -> None:
        """An ``fsync`` of ``node`` failed. A folder's names are kept in the journal, and are synced the next time."""
        self.changes += 1
        content = self._contents.get(node)
        if content is not None:
            content.fail_sync()

    def forget(self, node: N) -> None:
        """``node`` is as it stands, durably."""
        self._contents.pop(node, None)
        for slot in self._slots.pop(node, {}).values():
            slot.floor = slot.last
        self._settle()

    def clear(self) -> None:
        """Everything is as it stands, durably."""
        self._contents.clear()
        self._slots.clear()
        self._couplings.clear()

    def _content(self, file: N, before: bytes) -> Content:
        self.changes += 1
        content = self._contents.get(file)
        if content is None:
            content = self._contents[file] = Content(before, self._sector)
        return content

    def _slot(self, folder: N, name: str, before: N | None) -> _Slot[N]:
        self.changes += 1
        names = self._slots.setdefault(folder, {})
        slot = names.get(name)
        if slot is None:
            slot = names[name] = _Slot(folder, name, [before])
        return slot

    def _settle(self) -> None:
        """A removal that is durable makes the new name durable; then what cannot be lost any more is forgotten."""
        for coupling in reversed(self._couplings):  # the latest first: a file that was renamed twice ends where it is
            if coupling.source.floor >= coupling.removed:
                coupling.target.floor = max(coupling.target.floor, coupling.added)
        self._couplings = [
            one for one in self._couplings if one.source.floor < one.removed and one.target.floor < one.added
        ]
        for folder, names in list(self._slots.items()):
            for name, slot in list(names.items()):
                if slot.floor == slot.last:
                    del names[name]
            if not names:
                del self._slots[folder]

    # -- outcomes -------------------------------------------------------------------------------------------------------

    def dirty_files(self) -> tuple[N, ...]:
        """The files whose content a power loss may change."""
        return tuple(self._contents)

    def dirty_folders(self) -> tuple[N, ...]:
        """The folders whose names a power loss may change."""
        return tuple(self._slots)

    def lose(
        self, choose: Choose[N], concerns: Callable[[N], bool] = lambda _: True
    ) -> tuple[dict[N, dict[str, N | None]], dict[N, bytes]]:
        """A power loss: the names and the contents that are not what stood before it. What is left is durable.

        Only of the files and folders that it ``concerns``: those of the machine that lost its power.
        """
        slots = [slot for folder, names in self._slots.items() if concerns(folder) for slot in names.values()]
        picks: dict[int, int] = {}
        for slot in slots:
            picks[id(slot)] = slot.floor + choose(len(slot.nodes) - slot.floor, slot.folder, f"name {slot.name}")
        while broken := [one for one in self._couplings if not one.holds(picks)]:
            for one in broken:  # the old name is gone: then the new one is there
                picks[id(one.target)] = max(picks.get(id(one.target), one.target.last), one.added)
        names: dict[N, dict[str, N | None]] = {}
        for slot in slots:
            node = slot.nodes[picks[id(slot)]]
            if node is not slot.nodes[-1]:
                names.setdefault(slot.folder, {})[slot.name] = node
        contents = {
            file: _chosen(content.layout(), choose, file) for file, content in self._contents.items() if concerns(file)
        }
        for node in [*(slot.folder for slot in slots), *contents]:
            self.forget(node)
        return names, contents

    def survivors(
        self, root: N, view: View[N], *, opaque: Callable[[str], bool] = lambda _: False
    ) -> Iterator[Tree[N]]:
        """Every tree below ``root`` that a power loss now may leave, each once.

        ``opaque(name)``: the name's own presence is explored, what is in it is not, for names that nobody looks into.
        """
        slots = [slot for names in self._slots.values() for slot in names.values()]
        seen: set[object] = set()
        ranges = [range(slot.floor, slot.last + 1) for slot in slots]
        for picked in itertools.product(*ranges):
            picks = {id(slot): pick for slot, pick in zip(slots, picked, strict=True)}
            if not all(one.holds(picks) for one in self._couplings):
                continue
            chosen: dict[N, dict[str, N | None]] = {}
            for slot in slots:
                chosen.setdefault(slot.folder, {})[slot.name] = slot.nodes[picks[id(slot)]]
            names = self._named(root, chosen, view, opaque)
            if (key := _key(names)) not in seen:
                seen.add(key)
                yield from self._filled(names, view, opaque)

    def _named(
        self, folder: N, chosen: Mapping[N, Mapping[str, N | None]], view: View[N], opaque: Callable[[str], bool]
    ) -> Tree[N]:
        entries: dict[str, N | None] = {**(view.entries(folder) or {}), **chosen.get(folder, {})}
        tree: Tree[N] = {}
        for name in sorted(entries):
            node = entries[name]
            if node is None:
                continue
            if view.entries(node) is None:
                tree[name] = Survivor(node, b"")
            else:
                tree[name] = {} if opaque(name) else self._named(node, chosen, view, opaque)
        return tree

    def _filled(self, tree: Tree[N], view: View[N], opaque: Callable[[str], bool]) -> Iterator[Tree[N]]:
        """``tree`` with every content that its files may have."""
        files = {leaf.node: name for name, leaf in _leaves(tree)}
        possible = {node: self._possible(node, view, whole=not opaque(name)) for node, name in files.items()}
        for combination in itertools.product(*possible.values()):
            yield _with(tree, dict(zip(possible, combination, strict=True)))

    def _possible(self, file: N, view: View[N], *, whole: bool) -> tuple[bytes, ...]:
        content = self._contents.get(file)
        if content is None or not whole:
            return (view.content(file),)
        layout, found = content.layout(), dict[bytes, None]()
        for size in layout.sizes:
            needed = layout.sectors[: -(-size // self._sector)]
            for pieces in itertools.product(*needed):
                found[b"".join(pieces)[:size]] = None
        return tuple(found)


def _chosen(layout: Layout, choose: Choose[N], file: N) -> bytes:
    size = layout.sizes[choose(len(layout.sizes), file, "size")]
    versions = tuple(
        choose(len(kinds), file, f"sector {number}") if len(kinds) > 1 else 0
        for number, kinds in enumerate(layout.sectors)
    )
    return layout.compose(size, versions)


def _leaves(tree: Tree[N]) -> Iterator[tuple[str, Survivor[N]]]:
    for name, below in tree.items():
        if isinstance(below, dict):
            yield from _leaves(below)
        else:
            yield name, below


def _with(tree: Tree[N], contents: Mapping[N, bytes]) -> Tree[N]:
    return {
        name: _with(below, contents) if isinstance(below, dict) else Survivor(below.node, contents[below.node])
        for name, below in tree.items()
    }


def _key(tree: Tree[N]) -> object:
    return tuple((name, _key(below) if isinstance(below, dict) else id(below.node)) for name, below in tree.items())
