"""The faults of disks, a closed list, and where each is asked for.

Every one is what a real disk or its machine does, and each strikes one operation of a process under test; the test's own
storage meets none. The target is the operation and the path below the machine's folder, as ``fsync invoices/7.json``, with
``*`` for the random part of a temporary name, and the machine's name before it where it is not ``localhost``; that of a power loss
is what the process is busy with, as for a kill.
"""

from __future__ import annotations

import errno
import os
import time
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from factflow_infra_testing.search.kinds import FaultKind
from factflow_infra_testing.simulation.owners import current_owner
from factflow_infra_testing.storage.budgets import SURFACING
from factflow_infra_testing.storage.power import MIXTURES, SURVIVALS, plain
from factflow_infra_testing.storage.watch import (
    CREATE,
    LINK,
    LIST,
    MKDIR,
    OPEN,
    READ,
    RENAME,
    RMDIR,
    SYNC,
    UNLINK,
    WRITE,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from factflow_infra_testing.search.decisions import Decisions
    from factflow_infra_testing.simulation.owners import Owner

DISK_SLOW: Final = "disk-slow"
SHORT_WRITE: Final = "short-write"
TOO_MANY_FILES: Final = "too-many-files"
DISK_FULL: Final = "disk-full"
DISK_DENIED: Final = "disk-denied"
DISK_ERROR: Final = "disk-error"
POWER_LOSS: Final = "power-loss"

LATENCIES: Final = (0.0, 0.01, 1.0, 10.0)
"""Seconds by choice of ``disk-slow``."""
SHORT: Final = 1
"""Bytes that a short write takes: the least there is."""

_ALL: Final = frozenset({READ, WRITE, SYNC, OPEN, CREATE, MKDIR, RENAME, UNLINK, RMDIR, LINK, LIST})
_FAILURES: Final[Mapping[str, tuple[int, frozenset[str]]]] = MappingProxyType(
    {
        TOO_MANY_FILES: (errno.EMFILE, frozenset({OPEN, CREATE, LIST})),
        DISK_FULL: (errno.ENOSPC, frozenset({WRITE, CREATE, MKDIR, LINK})),
        DISK_DENIED: (errno.EACCES, frozenset({OPEN, CREATE, MKDIR, RENAME, UNLINK, RMDIR, LINK, LIST})),
        DISK_ERROR: (errno.EIO, _ALL - {OPEN}),
    }
)
"""What fails an operation: its error, and the operations that POSIX lets fail so."""

DISK_FAULTS: Final[Mapping[str, FaultKind]] = MappingProxyType(
    {
        kind.kind: replace(kind, part="filesystem")
        for kind in (
            FaultKind(DISK_SLOW, ("10 ms", "1 s", "10 s"), "an operation on the disk takes its time", 0.02),
            FaultKind(SHORT_WRITE, (), "the disk takes the first byte of a write, and says so", 0.02),
            FaultKind(
                TOO_MANY_FILES, (), "the process has no file descriptor left for a moment (EMFILE)", 0.03, SURFACING
            ),
            FaultKind(DISK_FULL, (), "the disk has no space left for a moment (ENOSPC)", 0.03, SURFACING),
            FaultKind(DISK_DENIED, (), "the permission is denied for a moment (EACCES)", 0.03, SURFACING),
            FaultKind(
                DISK_ERROR,
                (),
                "the disk fails an operation (EIO); what an fsync was to write will never be, though the next one succeeds",
                0.03,
                SURFACING,
            ),
            FaultKind(
                POWER_LOSS,
                SURVIVALS,
                "a machine loses its power: its processes end, and of what was not synced this much survives, or a mixture",
                0.02,
                steps=True,
            ),
        )
    }
)
"""Every kind by name, mildest first."""

POWER_CHOICES: Final = 1 + len(SURVIVALS) + MIXTURES


class DiskFaults:
    """Asked before each operation on the disk; ``root`` holds the machines' folders.

    ``lose_power(owner, choice)`` ends the owner's machine, and does not come back to it. ``note(target, fault)`` is told
    of each other fault when it strikes.
    """

    def __init__(
        self,
        decisions: Decisions,
        root: str,
        lose_power: Callable[[Owner, int], None],
        note: Callable[[str, str], None],
    ) -> None:
        self._decisions = decisions
        self._root = f"{root}/"
        self._lose_power = lose_power
        self._note = note
        self._live = tuple(kind for kind in DISK_FAULTS if decisions.enabled(kind))
        self.exposed = False
        """Whether the test's own operations meet faults, all but the loss of power."""

    @property
    def live(self) -> bool:
        """Whether any of the kinds can happen in this run."""
        return bool(self._live)

    def on_step(self, operation: str, path: str) -> int:
        """See ``DiskWatch.on_step``."""
        owner = current_owner()
        if owner is None and not self.exposed:
            return 0
        if owner is not None and not owner.alive:
            raise MachineOffError
        target, pick = self._target(operation, path, "localhost" if owner is None else owner.host), self._decisions.pick
        happens: dict[str, int] = {}
        # All are asked for, so that no answer shifts the ordinals of another kind.
        for kind in self._live:
            if kind == POWER_LOSS:
                choice = 0 if owner is None else pick(POWER_CHOICES, kind, owner.aim)
            elif kind == DISK_SLOW:
                choice = pick(len(LATENCIES), kind, target) if operation in _ALL else 0
            elif kind == SHORT_WRITE:
                choice = pick(2, kind, target) if operation == WRITE else 0
            else:
                choice = pick(2, kind, target) if operation in _FAILURES[kind][1] else 0
            if choice:
                happens[kind] = choice
        return self._happen(happens, owner, path, target) if happens else 0

    def _happen(self, happens: dict[str, int], owner: Owner | None, path: str, target: str) -> int:
        """The mildest first, until one ends the operation: what comes behind it does not strike."""
        if DISK_SLOW in happens:
            self._strike(DISK_SLOW, happens[DISK_SLOW], target)
            time.sleep(LATENCIES[happens[DISK_SLOW]])
        if POWER_LOSS in happens and owner is not None:
            self._lose_power(owner, happens[POWER_LOSS])
            raise MachineOffError
        for kind, (code, _) in _FAILURES.items():
            if kind in happens:
                self._strike(kind, happens[kind], target)
                raise OSError(code, os.strerror(code), path)
        if SHORT_WRITE not in happens:
            return 0
        self._strike(SHORT_WRITE, happens[SHORT_WRITE], target)
        return SHORT

    def _strike(self, kind: str, choice: int, target: str) -> None:
        self._note(target, DISK_FAULTS[kind].describe(choice))

    def _target(self, operation: str, path: str, host: str) -> str:
        own = f"{self._root}{host}/"
        if path.startswith(own):
            path = path[len(own) :]
        elif f"{path}/" == own:
            path = "."
        where = "" if host == "localhost" else f"{host}:"
        return f"{operation} {where}{plain(path)}"


class MachineOffError(BaseException):
    """Raised through code whose machine has just lost its power: nothing of it has an effect any more."""
