"""The options of ``@simulate``, checked when the test is defined: what is wrong is said there, with the value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from factflow_infra_testing.errors import KitUsageError
from factflow_infra_testing.search.decisions import Fault, PlannedDecisions
from factflow_infra_testing.search.faults import Faults, check_kinds
from factflow_infra_testing.search.run import TIERS, Backend, RunOptions
from factflow_infra_testing.search.surroundings import check_found_with

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the decorator was given, checked."""

    faults: Faults | None
    max_examples: int | None
    plan: tuple[Fault, ...] | None
    found_with: str
    seed: int | None
    run: RunOptions
    strict: bool
    backend: Callable[[], Backend]


def check_options(
    *,
    faults: object,
    max_examples: object,
    plan: Any,
    found_with: object,
    seed: object,
    virtual_budget: Any,
    tier: object,
    strict: bool,
    backend: Callable[[], Backend],
) -> Options:
    """The options as one value; ``KitUsageError`` names the one that cannot be used."""
    return Options(
        faults=_checked_faults(faults),
        max_examples=_whole("max_examples", max_examples, at_least=1),
        plan=None if plan is None else check_plan(plan),
        found_with=check_found_with(found_with) if found_with is not None else "",
        seed=_whole("seed", seed, at_least=0),
        run=RunOptions(virtual_budget=_positive("virtual_budget", virtual_budget), tier=check_tier(tier)),
        strict=strict,
        backend=backend,
    )


def _checked_faults(faults: object) -> Faults | None:
    if faults is None or isinstance(faults, Faults):
        return faults
    raise KitUsageError(f"`faults` takes a Faults such as Faults.all() or Faults.only('ack-lost'), got {faults!r}.")


def check_tier(tier: object) -> str | None:
    """``tier`` if there is such a tier; None stands for each profile's own."""
    if tier is None or tier in TIERS:
        return cast("str | None", tier)
    raise KitUsageError(f"`tier` takes {' or '.join(map(repr, TIERS))}, got {tier!r}.")


def check_plan(plan: Any) -> tuple[Fault, ...]:
    """``plan`` as a tuple of faults of known kinds, no place decided twice."""
    if isinstance(plan, (str, Fault)) or not hasattr(plan, "__iter__"):
        raise KitUsageError(f"`plan` takes a list of Fault, got {plan!r}.")
    entries: tuple[object, ...] = tuple(plan)
    faults = tuple(entry for entry in entries if isinstance(entry, Fault))
    if len(faults) != len(entries):
        wrong = next(entry for entry in entries if not isinstance(entry, Fault))
        raise KitUsageError(f"`plan` takes Fault(kind, target, nth), got {wrong!r}.")
    check_kinds(fault.kind for fault in faults)
    try:
        PlannedDecisions(faults)
    except ValueError as error:
        raise KitUsageError(str(error)) from None
    return faults


def _whole(name: str, value: object, *, at_least: int) -> int | None:
    if value is None:
        return None
    if type(value) is not int or value < at_least:
        raise KitUsageError(f"`{name}` takes a whole number from {at_least}, got {value!r}.")
    return value


def _positive(name: str, value: float | None) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float) or not 0.0 < value < float("inf"):
        raise KitUsageError(f"`{name}` takes a number of seconds above 0, got {value!r}.")
    return float(value)
