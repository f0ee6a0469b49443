"""The one source of every choice that a run makes, and the record of what was not benign.

A decision is asked for by ``kind`` (what sort of choice: ``"ack-lost"``, ``"kill"``), ``target`` (about what: a queue, a
process) and its ordinal among those with the same kind and target. 0 is always the benign choice. What was chosen
otherwise is a ``Fault``: short, frozen data whose ordinals mean something in the domain, so that a plan survives edits of
the code under test, and taking one fault out does not shift the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import log, log1p
from typing import TYPE_CHECKING, Protocol
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from factflow_infra_testing.search.kinds import Budget

_MASK = (1 << 64) - 1
_UNIT = 2.0**-53


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """The ``nth`` (from 1) decision of ``kind`` on ``target`` takes ``choice`` instead of 0, the benign one."""

    kind: str
    target: str
    nth: int
    choice: int = 1

    def __post_init__(self) -> None:
        # A plan is typed by hand: a wrong one must say so here, not silently match nothing.
        if type(self.kind) is not str or type(self.target) is not str:
            raise TypeError(f"A fault's kind and target are strings, got {self.kind!r} and {self.target!r}.")
        if type(self.nth) is not int or type(self.choice) is not int:
            raise TypeError(f"A fault's nth and choice are whole numbers, got {self.nth!r} and {self.choice!r}.")
        if self.nth < 1 or self.choice < 1:
            raise ValueError(
                f"A fault counts from 1, and choice 0 is no fault: got nth={self.nth}, choice={self.choice} "
                f"for {self.kind!r} on {self.target!r}."
            )

    def __repr__(self) -> str:
        choice = "" if self.choice == 1 else f", {self.choice}"
        return f"Fault({self.kind!r}, {self.target!r}, {self.nth}{choice})"


class Decisions(Protocol):
    """What the simulated parts ask."""

    def pick(self, n: int, kind: str, target: str = "") -> int:
        """A number in ``range(n)``; 0 is benign. Counts the ordinal of ``(kind, target)`` even when 0 is the answer."""
        ...

    def enabled(self, kind: str) -> bool:
        """Whether ``kind`` can deviate in this run at all: a part may skip asking where it cannot."""
        ...

    @property
    def deviations(self) -> Sequence[Fault]:
        """What was not benign so far, in the order of the run."""
        ...

    def quiet(self) -> None:
        """Faults end: every later answer is 0."""
        ...


def mix(*numbers: int) -> int:
    """One 64-bit number out of several, well spread (splitmix64): the same everywhere, free of any global state."""
    state = 0
    for number in numbers:
        state = _stir(state, number)
    return state


def _stir(state: int, number: int) -> int:
    """``mix(*numbers, number)``, where ``state`` is ``mix(*numbers)``."""
    state = (state + number + 0x9E3779B97F4A7C15) & _MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return state ^ (state >> 31)


def spread(seed: int, numbers: Iterable[int]) -> list[int]:
    """``mix(seed, number)`` for each of ``numbers``, in a third of the time."""
    start = (mix(seed) + 0x9E3779B97F4A7C15) & _MASK
    drawn: list[int] = []
    for number in numbers:
        state = (start + number) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        drawn.append(state ^ (state >> 31))
    return drawn


@lru_cache(maxsize=4096)
def text_seed(text: str) -> int:
    """A number for ``text`` that does not depend on ``PYTHONHASHSEED``."""
    return crc32(text.encode("utf-8", "surrogatepass"))


class _Stream:
    """The decisions of one kind on one target: how many were asked, and when the next deviation is due."""

    __slots__ = ("count", "due", "rarity", "state")

    def __init__(self, state: int) -> None:
        self.count = 0
        self.due = 0
        self.rarity = 1
        self.state = state

    def draw(self) -> int:
        self.state = state = _stir(0, self.state)
        return state

    def schedule(self, log_miss: float) -> None:
        # A geometric gap: one draw a deviation instead of one a decision.
        gap = 1 if log_miss == 0.0 else 1 + int(log(((self.draw() >> 11) + 1) * _UNIT) / log_miss)
        self.due = self.count + gap * self.rarity


class _Kind:
    """A kind that is on in a swarm, and its decisions by target. ``start``: what their random streams begin with."""

    __slots__ = ("budget", "log_miss", "start", "streams", "tires")

    def __init__(self, log_miss: float, start: int, budget: Budget | None, *, tires: bool) -> None:
        self.log_miss = log_miss
        self.start = start
        self.budget = budget
        self.tires = tires
        self.streams: dict[str, _Stream] = {}


class SwarmDecisions:
    """Random deviations at a rate per kind; a kind without a rate is off and costs one dict lookup.

    Each ``(kind, target)`` has its own random stream, so what is asked elsewhere changes nothing here, but for kinds that
    share a budget (``budgets``, by kind): those stop when it is used up. Each strike of a ``tiring`` kind makes the next on
    that target half as likely, so that a run gets past the point where it is struck.
    """

    __slots__ = ("_all", "_deviations", "_kinds", "_left")

    def __init__(
        self,
        seed: int,
        rates: Mapping[str, float],
        budgets: Mapping[str, Budget] | None = None,
        tiring: Collection[str] = (),
    ) -> None:
        budgets = budgets or {}
        self._left = {budget.name: budget.most for budget in budgets.values()}
        self._deviations: list[Fault] = []
        self._kinds: dict[str, _Kind] = {}
        start = mix(seed)
        for kind, rate in rates.items():
            if not 0.0 <= rate <= 1.0:
                raise ValueError(f"The rate of {kind!r} must be between 0 and 1, got {rate!r}.")
            if rate > 0.0:
                log_miss = 0.0 if rate == 1.0 else log1p(-rate)  # 0.0 stands for "always"
                self._kinds[kind] = _Kind(
                    log_miss, _stir(start, text_seed(kind)), budgets.get(kind), tires=kind in tiring
                )
        self._all = self._kinds

    def pick(self, n: int, kind: str, target: str = "") -> int:
        known = self._kinds.get(kind)
        if known is None:
            return 0
        stream = known.streams.get(target)
        if stream is None:
            stream = known.streams[target] = _Stream(_stir(known.start, text_seed(target)))
            stream.schedule(known.log_miss)
        stream.count += 1
        if stream.count != stream.due:
            return 0
        if known.tires:
            stream.rarity *= 2
        stream.schedule(known.log_miss)
        if n < 2:
            return 0
        budget = known.budget
        if budget is not None:
            if not self._left[budget.name]:
                return 0
            self._left[budget.name] -= 1
        choice = 1 if n == 2 else 1 + stream.draw() % (n - 1)
        self._deviations.append(Fault(kind, target, stream.count, choice))
        return choice

    def enabled(self, kind: str) -> bool:
        return kind in self._kinds

    @property
    def deviations(self) -> Sequence[Fault]:
        return self._deviations

    @property
    def kinds(self) -> tuple[str, ...]:
        """Those that were on from the beginning."""
        return tuple(self._all)

    @property
    def asked(self) -> Mapping[str, int]:
        """How often each kind that was on has been asked for, before ``quiet``."""
        return {kind: sum(s.count for s in known.streams.values()) for kind, known in self._all.items()}

    def quiet(self) -> None:
        self._kinds = {}


class PlannedDecisions:
    """Deviates exactly where ``plan`` says. A choice beyond what is offered at that point counts as not matched."""

    __slots__ = ("_counts", "_deviations", "_loud", "_plan", "_planned")

    def __init__(self, plan: Iterable[Fault] = ()) -> None:
        self._plan = tuple(plan)
        self._planned: dict[str, dict[str, dict[int, int]]] = {}
        for fault in self._plan:
            at = self._planned.setdefault(fault.kind, {}).setdefault(fault.target, {})
            if fault.nth in at:
                raise ValueError(f"The plan decides {fault.kind!r} on {fault.target!r} number {fault.nth} twice.")
            at[fault.nth] = fault.choice
        self._counts: dict[str, dict[str, int]] = {}
        self._deviations: list[Fault] = []
        self._loud = True

    def pick(self, n: int, kind: str, target: str = "") -> int:
        if not self._loud:
            return 0
        # Counted for every kind, also those not in the plan: an entry that matches nothing is answered with what there is.
        counts = self._counts.get(kind)
        if counts is None:
            counts = self._counts[kind] = {}
        nth = counts[target] = counts.get(target, 0) + 1
        targets = self._planned.get(kind)
        if targets is None:
            return 0
        at = targets.get(target)
        if at is None:
            return 0
        choice = at.get(nth, 0)
        if choice == 0 or choice >= n:
            return 0
        self._deviations.append(Fault(kind, target, nth, choice))
        return choice

    def enabled(self, kind: str) -> bool:
        return self._loud and kind in self._planned

    @property
    def plan(self) -> tuple[Fault, ...]:
        return self._plan

    @property
    def deviations(self) -> Sequence[Fault]:
        return self._deviations

    @property
    def asked(self) -> Mapping[str, int]:
        """How often each kind has been asked for, before ``quiet``."""
        return {kind: sum(counts.values()) for kind, counts in self._counts.items()}

    @property
    def unmatched(self) -> tuple[Fault, ...]:
        """The entries of the plan that met no decision so far."""
        matched = set(self._deviations)
        return tuple(fault for fault in self._plan if fault not in matched)

    def occurred(self, kind: str) -> Mapping[str, int]:
        """For each target of ``kind``, how many decisions there were: what a plan could have named."""
        return dict(self._counts.get(kind, {}))

    def quiet(self) -> None:
        self._loud = False


def benign() -> PlannedDecisions:
    """No deviation at all."""
    return PlannedDecisions()
