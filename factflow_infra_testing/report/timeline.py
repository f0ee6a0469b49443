"""The history of a run as rows: virtual time down, one column a process, faults across. Shared by text and HTML."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from factflow_infra_testing.history.operations import INFO, LOOKS, MARKED, OK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from factflow_infra_testing.history.operations import Operation

_POLLS: Final = LOOKS - {"log"}
_TOLD: Final[Mapping[str, str]] = MappingProxyType({OK: "", INFO: "effect unknown"})
"""Outcomes in the words of a reader; others are told as they are."""
_LONG_KEY: Final = 12
_SHORT_KEY: Final = 4


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the text timeline: a cell in the column of ``process``, or, where ``skipped``, a gap."""

    time: float
    process: str
    cell: str
    marked: bool
    skipped: int = 0


class Names:
    """Short forms of long message ids, unambiguous among those of one history. Object keys stay as they are."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        keys = {op.key for op in operations if len(op.key) > _LONG_KEY and "/" not in op.key}
        self._short: dict[str, str] = {}
        for length in range(_SHORT_KEY, max(map(len, keys), default=0) + 1):
            taken: dict[str, list[str]] = {}
            for key in keys - self._short.keys():
                taken.setdefault(key[:length], []).append(key)
            self._short.update({owners[0]: short for short, owners in taken.items() if len(owners) == 1})

    def short(self, key: str) -> str:
        return self._short.get(key, key)


def processes_of(operations: Sequence[Operation]) -> list[str]:
    """The columns: in order of first appearance."""
    return list(dict.fromkeys(op.process for op in operations))


def is_marked(operation: Operation) -> bool:
    return operation.kind in MARKED


def describe(operation: Operation, names: Names) -> str:
    """One operation in a line, without its time: what, on what, and how it ended where that is not simply well."""
    named = operation.kind == "fault" and operation.detail  # the detail is which fault
    parts = [operation.detail if named else operation.kind]
    if operation.target and operation.target != operation.process:
        parts.append(operation.target.removeprefix("/queue/"))
    if operation.key:
        parts.append(names.short(operation.key))
    text = " ".join(parts)
    if operation.completed is None and not is_marked(operation):
        return f"{text} -> never ended"
    detail = f" ({operation.detail})" if operation.detail and not named else ""
    outcome = _TOLD.get(operation.outcome, operation.outcome)
    return text + (f" -> {outcome}" if outcome else "") + detail


def rows(operations: Sequence[Operation], *, limit: int) -> list[Row]:
    """All operations, or ``limit`` of them: the first, the last and what is near a fault, with the gaps stated."""
    names = Names(operations)
    runs = _gathered(operations)
    keep = _selected([run[0] for run in runs], limit)
    result: list[Row] = []
    skipped = 0
    for index, run in enumerate(runs):
        if index not in keep:
            skipped += len(run)
            continue
        op = run[0]
        if skipped:
            result.append(Row(op.invoked, "", "", marked=False, skipped=skipped))
            skipped = 0
        again = f" ({len(run)} times, to {run[-1].invoked:.3f})" if len(run) > 1 else ""
        result.append(Row(op.invoked, op.process, describe(op, names) + again, is_marked(op)))
    if skipped:
        result.append(Row(operations[-1].invoked, "", "", marked=False, skipped=skipped))
    return result


def _gathered(operations: Sequence[Operation]) -> list[list[Operation]]:
    """Looks that follow one another and are all the same, as a service makes that polls, in one; all else by itself."""
    gathered: list[list[Operation]] = []
    for op in operations:
        if gathered and op.kind in _POLLS and _shown(op) == _shown(gathered[-1][0]):
            gathered[-1].append(op)
        else:
            gathered.append([op])
    return gathered


def _shown(op: Operation) -> tuple[str, ...]:
    return op.process, op.kind, op.target, op.key, op.outcome, op.detail


def _selected(operations: Sequence[Operation], limit: int) -> set[int]:
    count = len(operations)
    if count <= limit:
        return set(range(count))
    faults = [index for index, op in enumerate(operations) if is_marked(op)]
    # Ranked by distance to what matters: the faults first, then their neighbours, the start and the end.
    anchors = [*faults, 0, count - 1]
    ranked = sorted(range(count), key=lambda index: (min(abs(index - anchor) for anchor in anchors), index))
    return set(ranked[:limit])
