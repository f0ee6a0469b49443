"""A power loss on a simulated disk: which of the legal states is left, and how the disk is put into it.

What was not synced is chosen by a *survival*: one of ``SURVIVALS``, or a number from ``len(SURVIVALS) + 1`` on, each
another mixture in which every name, size and sector is chosen for itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from factflow_infra_testing.errors import KitUsageError
from factflow_infra_testing.search.decisions import mix, text_seed
from factflow_infra_testing.storage.watch import DiskWatch, path_of

if TYPE_CHECKING:
    from collections.abc import Callable

SURVIVALS: Final = ("kept", "lost", "contents-lost", "names-lost")
"""What becomes of what was not synced, by choice of ``power-loss``, mildest first: all of it was written back; none of it;
of files only their names; of files only what was written into them."""
MIXTURES: Final = 28

_RANDOM = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){1,6}[0-9a-f]*|(?<=tmp)[a-z0-9_]{8}")


def check_survival(unsynced: object) -> int:
    """The choice of ``power-loss`` that ``unsynced`` names."""
    if isinstance(unsynced, str) and unsynced in SURVIVALS:
        return SURVIVALS.index(unsynced) + 1
    if type(unsynced) is int and 1 <= unsynced <= len(SURVIVALS) + MIXTURES:
        return unsynced
    raise KitUsageError(
        f"`unsynced` takes {', '.join(map(repr, SURVIVALS))}, or the choice of a power-loss, a number from 1 to "
        f"{len(SURVIVALS) + MIXTURES}; got {unsynced!r}."
    )


def described(choice: int) -> str:
    """A choice of ``power-loss`` in words."""
    return SURVIVALS[choice - 1] if choice <= len(SURVIVALS) else f"mixture {choice - len(SURVIVALS)}"


def chooser(choice: int) -> Callable[[int, Any, str], int]:
    """The choices of each part, for ``CrashModel.lose``."""
    name = SURVIVALS[choice - 1] if choice <= len(SURVIVALS) else ""

    def choose(count: int, node: Any, part: str) -> int:
        is_name = part.startswith("name ")
        if not name:
            return mix(choice, text_seed(plain(f"{path_of(node)} {part}"))) % count
        lost = name == "lost" or (name == "names-lost" and is_name) or (name == "contents-lost" and not is_name)
        return 0 if lost else count - 1

    return choose


def plain(path: str) -> str:
    """``path`` with ``*`` for the parts of names that are random: the same in every run."""
    return _RANDOM.sub("*", path)


def lose(watch: DiskWatch, choice: int, concerns: Callable[[Any], bool]) -> list[str]:
    """Put the disk into a state that a power loss may leave; what is no more as it was, a line each."""
    before = {id(file): file.byte_contents for file in watch.model.dirty_files()}
    names, contents = watch.model.lose(chooser(choice), concerns)
    lost: list[str] = []
    with watch.durable():
        for folder, entries in names.items():
            lost += [_described(folder, name, node) for name, node in entries.items()]
            _put(folder, entries)
        with watch.told():
            for file, data in contents.items():
                if data != before.get(id(file)):
                    file.set_initial_contents(data)
                    lost.append(f"content of {path_of(file)}")
    return lost


def _described(folder: Any, name: str, node: Any) -> str:
    path = f"{path_of(folder).rstrip('/')}/{name}"
    if node is None:
        return f"name {path}"
    return f"replacement of {path}" if name in folder.entries else f"removal of {path}"


def _put(folder: Any, entries: dict[str, Any]) -> None:
    """Make the names of ``folder`` stand for these nodes, or for none."""
    for name in entries:
        if name in folder.entries:
            folder.remove_entry(name, recursive=False)
    for name, node in entries.items():
        if node is not None:
            node.name = name
            folder.add_entry(node)
