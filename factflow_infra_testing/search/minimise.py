"""Making a failing plan small: delta debugging (Zeller's ddmin) over faults, then a simpler form of each fault left.

Every candidate is run for real. Faults are named by ordinals of the domain, so taking one out does not shift the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from factflow_infra_testing.search.decisions import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Plan = tuple[Fault, ...]
    Reproduces = Callable[[Plan], Plan | None]

_SINGLES = 128
_ORDINAL_STEPS = 8


@dataclass(frozen=True, slots=True)
class Minimised:
    """The smallest plan found, what it cost in runs, and whether the budget ended the work early."""

    plan: Plan
    runs: int
    exhausted: bool


class _BudgetSpentError(Exception):
    """No run left."""


class _Tester:
    """Runs candidates: at most ``budget``, none twice. Keeps the best plan seen."""

    def __init__(self, reproduces: Reproduces, best: Plan, budget: int) -> None:
        self._reproduces = reproduces
        self._known: dict[Plan, Plan | None] = {}
        self.budget = budget
        self.best = best
        self.runs = 0

    def test(self, plan: Plan) -> Plan | None:
        """The part of ``plan`` that took effect where the failure is the same, else None."""
        key = tuple(sorted(plan))
        if key in self._known:
            return self._known[key]
        if self.runs >= self.budget:
            raise _BudgetSpentError
        self.runs += 1
        hit = self._known[key] = self._reproduces(plan)
        if hit is not None:
            self.best = hit
        return hit


def minimise(
    reproduces: Reproduces, plan: Sequence[Fault], *, ranks: Mapping[str, int] | None = None, budget: int = 500
) -> Minimised:
    """The smallest plan from ``plan`` that still fails the same way.

    ``reproduces`` runs a plan and returns the faults of it that took place if the failure is the same, else None. ``ranks``
    orders kinds, mildest first: of several single faults that suffice the mildest is kept. ``budget`` bounds the runs.
    """
    order = ranks or {}
    tester = _Tester(reproduces, tuple(plan), budget)
    try:
        _reduce(tester, tuple(plan), order)
    except _BudgetSpentError:
        return Minimised(tester.best, tester.runs, exhausted=True)
    return Minimised(tester.best, tester.runs, exhausted=False)


def _reduce(tester: _Tester, plan: Plan, ranks: Mapping[str, int]) -> None:
    if tester.test(()) is not None:
        return
    mildest_first = sorted(plan, key=lambda fault: (ranks.get(fault.kind, len(ranks)), fault.choice, fault.nth))
    # Most defects need one fault. Trying each alone first costs little, and finds the mildest rather than the last one left.
    current: Plan | None = None
    for fault in mildest_first[: min(_SINGLES, tester.budget // 2)]:
        current = tester.test((fault,))
        if current is not None:
            break
    if current is None:
        current = _ddmin(tester, plan)
    while True:
        simpler = _simplify(tester, current)
        if simpler == current:
            tester.best = current
            return
        current = _ddmin(tester, simpler)


def _ddmin(tester: _Tester, plan: Plan) -> Plan:
    current, parts = plan, 2
    while len(current) >= 2:
        parts = min(parts, len(current))
        size = -(-len(current) // parts)
        chunks = [current[start : start + size] for start in range(0, len(current), size)]
        for index, chunk in enumerate(chunks):
            rest = tuple(fault for other, part in enumerate(chunks) if other != index for fault in part)
            hit = tester.test(chunk)
            if hit is not None:
                current, parts = hit, 2
                break
            hit = tester.test(rest)
            if hit is not None:
                current, parts = hit, max(parts - 1, 2)
                break
        else:
            if parts >= len(current):
                break
            parts *= 2
    return current


def _simplify(tester: _Tester, plan: Plan) -> Plan:
    current = plan
    for index in range(len(plan)):
        if index >= len(current):
            break
        for simpler in _simpler(current[index]):
            if any(
                (simpler.kind, simpler.target, simpler.nth) == (f.kind, f.target, f.nth) and f != current[index]
                for f in current
            ):
                continue
            hit = tester.test((*current[:index], simpler, *current[index + 1 :]))
            if hit is not None:
                current = hit
                break
    return current


def _simpler(fault: Fault) -> Iterator[Fault]:
    """Milder choices at the same place first, then the same at earlier places, the earliest first."""
    for choice in range(1, fault.choice):
        yield Fault(fault.kind, fault.target, fault.nth, choice)
    earlier = sorted({1, 2, 3, fault.nth // 2, *range(max(1, fault.nth - _ORDINAL_STEPS // 2), fault.nth)})
    for nth in earlier:
        if 1 <= nth < fault.nth:
            yield Fault(fault.kind, fault.target, nth, fault.choice)
