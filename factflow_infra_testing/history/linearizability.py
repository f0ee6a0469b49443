"""Whether a history of one register has an order that explains it: the search of Wing and Gong, as Lowe does it.

The events are gone through in time. A configuration is a state that the register may be in, with those of the running steps
that have taken effect already. When a step ends, it must have taken effect by then: each configuration is led on through
running steps until it has, in every way that their answers allow, and those for which there is no way are dropped. A step
whose outcome is unknown never ends: it takes effect at any time, or not at all. Configurations that have been seen are not
gone through again. The search is bounded, and says that it does not know where the bound is met.

A power loss is a step too. What has ended is durable, and what has not may have been seen and be gone: the state falls back to any
that stood since the last change that ended. (A history of steps that end is then as linearizable as ever.)

The register of storage holds nothing, or a value with an etag. What is not known of it (the etag of a write whose answer was
lost) is learned from the first answer that tells, so that later answers must agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from factflow_infra_testing.history.storage_calls import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MAX_CONFIGURATIONS = 100_000


@dataclass(frozen=True, slots=True)
class Held:
    """A version: ``etag`` is empty until one is told; ``not_etags`` are those that it cannot have."""

    value: Value
    etag: str = ""
    not_etags: frozenset[str] = frozenset()


State: TypeAlias = "Held | None"
Effect: TypeAlias = "Callable[[State], Iterator[State]]"
"""The states that a step leads to from a state; none where its answer is impossible there."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """``begin`` and ``end`` are places in one sequence of events; ``end`` is ``None`` where the outcome is unknown.

    ``changes``: it leaves another state behind, and does not only look. ``after``: a step given before this one, with the same
    places, which takes effect first. ``loses``: it is a power loss.
    """

    begin: int
    end: int | None
    effect: Effect
    label: str
    changes: bool = False
    after: Step | None = None
    loses: bool = False

    def leads(self, state: State, earlier: frozenset[State]) -> Iterator[tuple[State, frozenset[State]]]:
        """Where it leads to, and to which ``earlier`` states a power loss may lead back from there."""
        if self.loses:
            yield from ((one, frozenset[State]()) for one in (state, *earlier))
            return
        for reached in self.effect(state):
            if not self.changes:
                yield reached, earlier
            else:
                yield reached, earlier | {state} if self.end is None else frozenset()


def power_loss(at: int) -> Step:
    """The power is lost at the place ``at``, between what came before and what comes after."""
    return Step(at, at + 1, lambda state: iter((state,)), "power loss", loses=True)


@dataclass(frozen=True, slots=True)
class Outcome:
    """``stuck``: the step that no order explains; ``exhausted``: the bound was met before the search's end."""

    stuck: Step | None
    exhausted: bool
    configurations: int


def search_order(steps: Sequence[Step], *, limit: int = MAX_CONFIGURATIONS) -> Outcome:
    """Look for an order of ``steps``, on a register that holds nothing at first, of at most ``limit`` configurations."""
    events = sorted(
        [(step.begin, 1, number) for number, step in enumerate(steps)]
        + [(step.end, 0, number) for number, step in enumerate(steps) if step.end is not None]
    )
    numbers = {step: number for number, step in enumerate(steps)}
    first = [None if step.after is None else numbers[step.after] for step in steps]
    configurations: set[tuple[State, frozenset[State], frozenset[int]]] = {(None, frozenset(), frozenset())}
    forgets = any(step.loses for step in steps)
    running: dict[int, None] = {}
    explored = 0
    for _, begins, number in events:
        if begins:
            running[number] = None
            continue
        done: set[tuple[State, frozenset[State], frozenset[int]]] = set()
        seen = set(configurations)
        stack = list(configurations)
        while stack:
            explored += 1
            if explored > limit:
                return Outcome(None, exhausted=True, configurations=explored)
            state, earlier, effected = stack.pop()
            if number in effected:
                done.add((state, earlier, effected - {number}))
                continue
            for other in running:
                if other in effected or (first[other] in running and first[other] not in effected):
                    continue
                for reached, back in steps[other].leads(state, earlier):
                    configuration = (reached, back if forgets else earlier, effected | {other})
                    if configuration not in seen:
                        seen.add(configuration)
                        stack.append(configuration)
        del running[number]
        if not done:
            return Outcome(steps[number], exhausted=False, configurations=explored)
        configurations = done
    return Outcome(None, exhausted=False, configurations=explored)


# The steps of storage, as effects.


def writes(value: Value, etag: str = "", *, absent: bool = False, match: str | None = None) -> Effect:
    """``value`` is written, where the condition holds."""

    def effect(state: State) -> Iterator[State]:
        if absent and state is not None:
            return
        if match is not None and not may_match(state, match):
            return
        yield Held(value, etag)

    return effect


def writes_again(value: Value, etag: str = "") -> Effect:
    """``value`` is written where nothing stands, or nothing happens."""

    def effect(state: State) -> Iterator[State]:
        yield state
        if state is None:
            yield Held(value, etag)

    return effect


def deletes(match: str | None = None) -> Effect:
    def effect(state: State) -> Iterator[State]:
        if match is None or may_match(state, match):
            yield None

    return effect


def refuses(*, absent: bool = False, match: str | None = None) -> Effect:
    """The condition did not hold, and nothing was changed."""

    def effect(state: State) -> Iterator[State]:
        if absent:
            if state is not None:
                yield state
        elif match is not None:
            if state is None or (state.etag and state.etag != match):
                yield state
            elif not state.etag:
                yield Held(state.value, "", state.not_etags | {match})

    return effect


def reads(value: Value, etag: str = "") -> Effect:
    """``value`` was seen, with ``etag`` where it was told."""

    def effect(state: State) -> Iterator[State]:
        if state is None or not state.value.agrees(value):
            return
        if etag and ((state.etag and state.etag != etag) or etag in state.not_etags):
            return
        yield Held(
            Value(state.value.content or value.content, state.value.rest or value.rest),
            state.etag or etag,
            frozenset() if state.etag or etag else state.not_etags,
        )

    return effect


def sees(*, present: bool) -> Effect:
    """The key was there, or was not."""

    def effect(state: State) -> Iterator[State]:
        if (state is not None) == present:
            yield state

    return effect


def may_match(state: State, etag: str) -> bool:
    """Whether the version that stands there may have ``etag``."""
    return state is not None and (state.etag == etag or (not state.etag and etag not in state.not_etags))
