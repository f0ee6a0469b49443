"""Which kinds of fault may happen, and the registry of all that there are."""

from __future__ import annotations

from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from factflow_infra_testing.errors import UnknownFaultError
from factflow_infra_testing.search.kinds import FaultKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

RUN_FAULTS: Mapping[str, FaultKind] = MappingProxyType(
    {
        kind.kind: kind
        for kind in (
            FaultKind("timer-tie", (), "timers that are due at the same instant run in another order", 0.1, steps=True),
            FaultKind("job-delay", ("1 ms", "50 ms", "1 s"), "a job on a thread (a disk, S3) takes its time", 0.1),
            FaultKind(
                "pause",
                (),
                "a process stands still for a while, and misses its heartbeats",
                0.02,
                tires=True,
                steps=True,
            ),
            FaultKind(
                "clock-jump",
                ("1 s back", "1 s forward", "1 h back", "1 h forward"),
                "the wall clock of a machine jumps",
                0.02,
                tires=True,
                steps=True,
            ),
            FaultKind(
                "terminate",
                (),
                "a process is told to end (SIGTERM), as in a deployment, and is started again",
                0.02,
                tires=True,
                steps=True,
            ),
            FaultKind(
                "kill",
                ("reset", "silent"),
                "a process is killed at an await: its peers see a reset, or only fall silent",
                0.03,
                tires=True,
                steps=True,
            ),
        )
    }
)
"""The kinds that belong to the loop and to processes, mildest first."""

_MILDEST = ("timer-tie", "job-delay", "link-split", "link-delay")


@cache
def known_kinds() -> Mapping[str, FaultKind]:
    """Every kind by name, mildest first: what reports, plans and shrinking prefer in this order."""
    from factflow_infra_testing.broker.faults import BROKER_FAULTS
    from factflow_infra_testing.search.network_faults import NETWORK_FAULTS
    from factflow_infra_testing.storage.disk_faults import DISK_FAULTS, POWER_LOSS
    from factflow_infra_testing.storage.s3_faults import S3_FAULTS

    every = {**S3_FAULTS, **DISK_FAULTS, **BROKER_FAULTS, **NETWORK_FAULTS, **RUN_FAULTS}
    last = {POWER_LOSS: every.pop(POWER_LOSS)}
    return MappingProxyType({**{kind: every[kind] for kind in _MILDEST}, **every, **last})


def check_kinds(kinds: Iterable[str]) -> frozenset[str]:
    """``kinds`` as a set; ``UnknownFaultError`` naming those that do not exist and listing those that do."""
    if isinstance(kinds, str):
        kinds = (kinds,)
    wanted = frozenset(kinds)
    unknown = sorted(repr(kind) for kind in wanted if kind not in known_kinds())
    if unknown:
        raise UnknownFaultError(f"No such fault kind: {', '.join(unknown)}. Known are: {', '.join(known_kinds())}.")
    return wanted


class Faults:
    """An immutable set of fault kinds. Build it with ``all``, ``none`` or ``only``; take kinds out with ``-``."""

    __slots__ = ("_kinds", "named")

    def __init__(self, kinds: Iterable[str] = (), *, named: bool = True) -> None:
        wanted = check_kinds(kinds)
        self._kinds = tuple(kind for kind in known_kinds() if kind in wanted)
        self.named: Final = named
        """Whether someone asked for these very kinds, rather than for all of them or all but some."""

    @classmethod
    def all(cls) -> Faults:
        """Every kind there is."""
        return cls(known_kinds(), named=False)

    @classmethod
    def none(cls) -> Faults:
        """No fault: the search then varies nothing but the inputs."""
        return cls()

    @classmethod
    def only(cls, *kinds: str) -> Faults:
        """Just these kinds."""
        return cls(kinds)

    def without(self, *kinds: str) -> Faults:
        """These, less ``kinds``."""
        unwanted = check_kinds(kinds)
        return Faults((kind for kind in self._kinds if kind not in unwanted), named=self.named)

    def __sub__(self, kinds: Faults | Iterable[str]) -> Faults:
        return self.without(*kinds) if not isinstance(kinds, str) else self.without(kinds)

    def __or__(self, kinds: Faults | Iterable[str]) -> Faults:
        return Faults((*self._kinds, *check_kinds(kinds)), named=self.named)

    def __contains__(self, kind: object) -> bool:
        return kind in self._kinds

    def __iter__(self) -> Iterator[str]:
        """The kinds, mildest first."""
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Faults) and self._kinds == other._kinds

    def __hash__(self) -> int:
        return hash(self._kinds)

    def __repr__(self) -> str:
        if not self._kinds:
            return "Faults.none()"
        if len(self._kinds) == len(known_kinds()):
            return "Faults.all()"
        return f"Faults.only({', '.join(map(repr, self._kinds))})"
