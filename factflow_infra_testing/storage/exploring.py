"""Every state that a power loss may leave, at every operation of a workload: all of them, not a sample.

    def save(folder):                                    # the code under test: its files lie below ``folder``
        ...
    def check(folder, crash):                            # a new process, on what is left
        assert crash.done is False or Path(folder, "report").read_text() == "whole"

    explored = explore(save, check)                      # raises what ``check`` raises, and says in which state

The functions may be ``async def`` too. The power is lost before each operation on the disk, and after the last. For each of these moments the crash model
(``crashes.py``) gives every legal state; equal ones are checked once. The number of states is exponential in what is not
synced at one moment, so workloads are to be short, and contents a few sectors: scale the sector down rather than the contents
up.
"""

from __future__ import annotations

import importlib
import inspect
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from factflow_infra_testing.simulation.runner import run
from factflow_infra_testing.storage.crashes import SECTOR, CrashModel
from factflow_infra_testing.storage.files import SimulatedFilesystem
from factflow_infra_testing.storage.watch import NodeView

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from factflow_infra_testing.storage.crashes import Tree

HOST = "localhost"
_ANOTHER = 1
"""Seed of the checks: a process that is started anew makes up other random names."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A file that was left. The inode and the time of its last change are those of before."""

    data: bytes
    inode: int
    mtime_ns: int


Left = dict[str, "Leaf | Left"]


@dataclass(frozen=True, slots=True)
class Crash:
    """One state after a power loss.

    ``step``: the operation before which the power was lost, from 1; ``operation`` and ``path`` say which, and are empty after
    the last one. ``done``: the workload had returned before it.
    """

    step: int
    operation: str
    path: str
    done: bool
    left: Left

    def __str__(self) -> str:
        moment = "after the workload" if self.done else f"before step {self.step} ({self.operation} {self.path})"
        return "\n".join([f"power lost {moment}; left is:", *_lines(self.left)])


@dataclass(frozen=True, slots=True)
class Explored:
    """``steps``: operations of the workload; ``states``: legal states over all moments; ``checked``: different ones."""

    steps: int
    states: int
    checked: int

    def __add__(self, other: Explored) -> Explored:
        return Explored(self.steps + other.steps, self.states + other.states, self.checked + other.checked)


class Explorer:
    """Explores workloads on one simulated disk, which must be entered. ``opaque(name)``: nobody looks into what has this name.

    ``checked`` remembers what was checked, so that a state which several workloads leave is checked once: ``claim`` says what is
    demanded of it.
    """

    def __init__(
        self,
        files: SimulatedFilesystem,
        *,
        sector: int = SECTOR,
        opaque: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._files = files
        self._sector = sector
        self._opaque = opaque
        self._checked: set[object] = set()

    def explore(
        self,
        workload: Callable[[str, Any], object],
        check: Callable[[str, Crash], object],
        *,
        prepare: Callable[[str], object] | None = None,
        claim: Callable[[Crash], object] = lambda crash: crash.done,
    ) -> Explored:
        """``workload(folder, what prepare returned)``, then ``check(folder, crash)`` for each state. Errors of both are raised.

        What ``prepare`` leaves unsynced may be lost too.
        """
        crashes, steps, states = self._crashes(workload, prepare)
        new = [crash for crash in crashes if self._is_new(crash, claim(crash))]
        with self._files.run():
            folder = self._files.folder(HOST)
            for crash in new:
                self._files.disk.reset()
                _mount(self._files, folder, crash.left)
                try:
                    run(lambda crash=crash: _carry_out(check, folder, crash), seed=_ANOTHER).result()
                except Exception as error:
                    error.add_note(str(crash))
                    raise
        return Explored(steps, states, len(new))

    def _is_new(self, crash: Crash, claim: object) -> bool:
        key = (_key(crash.left, self._opaque), claim)
        known = key in self._checked
        self._checked.add(key)
        return not known

    def _crashes(
        self,
        workload: Callable[[str, Any], object],
        prepare: Callable[[str], object] | None,
    ) -> tuple[list[Crash], int, int]:
        files, view = self._files, NodeView()
        found: list[Crash] = []
        seen: set[object] = set()
        steps = states = 0
        looked = -1
        with files.run():
            folder = files.folder(HOST)
            root = files.filesystem.get_object(folder)
            watch = files.watch
            watch.model = CrashModel(self._sector)

            def gather(operation: str, path: str, *, done: bool = False) -> int:
                nonlocal steps, states, looked
                steps += not done
                if watch.model.changes == looked and not done:
                    return 0  # nothing was done to the disk since
                looked = watch.model.changes
                for tree in watch.model.survivors(root, view, opaque=self._opaque):
                    left = _left(tree)
                    states += 1
                    key = (_key(left, self._opaque), done)
                    if key not in seen:
                        seen.add(key)
                        found.append(Crash(steps, operation, path.removeprefix(f"{folder}/"), done, left))
                return 0

            async def main() -> None:
                given = None if prepare is None else await _carry_out(prepare, folder)
                watch.on_step = gather
                try:
                    await _carry_out(workload, folder, given)
                finally:
                    watch.on_step = None
                gather("", "", done=True)

            run(main).result()
        return found, steps, states


def explore(
    workload: Callable[[str], object],
    check: Callable[[str, Crash], object],
    *,
    prepare: Callable[[str], object] | None = None,
    sector: int = SECTOR,
    files: SimulatedFilesystem | None = None,
) -> Explored:
    """Check every state that a power loss during ``workload(folder)`` may leave; see the module.

    ``prepare(folder)`` makes what is there before. ``files``: an entered disk to use, for many explorations.
    """
    with SimulatedFilesystem() if files is None else nullcontext(files) as disk:
        explorer = Explorer(disk, sector=sector)
        return explorer.explore(lambda folder, _: workload(folder), check, prepare=prepare)


async def _carry_out(function: Callable[..., object], *arguments: object) -> object:
    result = function(*arguments)
    return await cast("Awaitable[object]", result) if inspect.isawaitable(result) else result


def _left(tree: Tree[Any]) -> Left:
    left: Left = {}
    for name, below in tree.items():
        if isinstance(below, dict):
            left[name] = _left(below)
        else:
            left[name] = Leaf(below.data, below.node.st_ino, below.node.stat_result.st_mtime_ns)
    return left


def _key(left: Mapping[str, Leaf | Left], opaque: Callable[[str], bool]) -> object:
    """What of a state can be told apart. Of names that nobody looks into, only how many there are."""
    hidden = sum(map(opaque, left))
    seen = tuple(
        (name, _key(below, opaque) if isinstance(below, dict) else below)
        for name, below in left.items()
        if not opaque(name)
    )
    return (*seen, hidden)


def _lines(left: Mapping[str, Leaf | Left], depth: int = 1) -> Iterator[str]:
    if not left:
        yield f"{'  ' * depth}(nothing)"
    for name, below in left.items():
        if isinstance(below, dict):
            yield f"{'  ' * depth}{name}/"
            yield from _lines(below, depth + 1)
        else:
            yield f"{'  ' * depth}{name}: {len(below.data)} bytes {below.data[:60]!r}"


def _mount(files: SimulatedFilesystem, folder: str, left: Left) -> None:
    """Make ``folder`` hold what was left, and nothing else, durably."""
    nodes: Any = importlib.import_module("pyfakefs.fake_file")
    filesystem = files.filesystem
    made: dict[int, Any] = {}

    def fill(node: Any, entries: Left) -> None:
        for name, below in entries.items():
            if isinstance(below, dict):
                child = nodes.FakeDirectory(name, filesystem=filesystem)
                node.add_entry(child)
                fill(child, below)
                continue
            child = made.get(below.inode)
            if child is None:
                child = made[below.inode] = nodes.FakeFile(name, contents=below.data, filesystem=filesystem)
                child.st_size = len(below.data)
                child.stat_result.st_ino = below.inode
                child.stat_result._st_mtime_ns = below.mtime_ns  # noqa: SLF001 - exact; the public setter takes a float
            child.name = name
            node.add_entry(child)

    with files.watch.durable():
        root = filesystem.get_object(folder)
        for name in list(root.entries):
            root.remove_entry(name)
        filesystem.last_ino = max(filesystem.last_ino, 1_000_000)  # none of the inodes that are left is given out again
        fill(root, left)
    files.watch.reset()
