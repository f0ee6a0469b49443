"""Swarm testing: each run of a search has its own random subset of fault kinds on, at its own rates.

All kinds at once hide one another (a killed process never gets to lose an ack), so about half of the runs turn on very
few, the others about half of all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from factflow_infra_testing.search.decisions import SwarmDecisions, mix, spread, text_seed

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from factflow_infra_testing.search.kinds import FaultKind

_FEW = 3
_FACTORS = (0.5, 1.0, 2.0, 4.0, 8.0)
_MOST = 0.9  # a fault that always happens leaves no run worth watching
_IDLE_SHARE = 8
_IDLE_SALT = 0x4944_4C45
_SALT = 0x5357_4152_4D  # keeps the swarm's draws apart from the runs' own


def swarm_rates(seed: int, kinds: Sequence[FaultKind]) -> dict[str, float]:
    """The kinds that are on in the run of ``seed``, and their rates."""
    return {kind.kind: rate for kind, rate in _chosen(seed, kinds)}


def _chosen(seed: int, kinds: Sequence[FaultKind]) -> list[tuple[FaultKind, float]]:
    if not kinds:
        return []
    state = mix(_SALT, seed)
    # Each kind has draws of its own, so that a new kind leaves most runs of a seed as they were.
    draws = [*zip(spread(state, [text_seed(kind.kind) for kind in kinds]), range(len(kinds)), kinds, strict=True)]
    if state & 1:
        chosen = sorted(draws)[: 1 + (state >> 1) % min(_FEW, len(kinds))]
    else:
        chosen = [one for one in draws if one[0] & 1]
    return [(kind, _rate(kind, mix(draw))) for draw, _, kind in chosen]


def _rate(kind: FaultKind, draw: int) -> float:
    return min(max(_MOST, kind.rate), kind.rate * _FACTORS[draw % len(_FACTORS)])


def swarm_decisions(seed: int, kinds: Sequence[FaultKind], idle: Sequence[FaultKind] = ()) -> SwarmDecisions:
    """The decisions of the run of ``seed``.

    ``idle``: kinds that seem to have no occasion in this scenario. Only one run in eight has them, beside its others.
    """
    chosen = _chosen(seed, kinds)
    if idle and mix(_IDLE_SALT, seed) % _IDLE_SHARE == 0:
        chosen += _chosen(mix(_IDLE_SALT, seed), idle)
    rates = {kind.kind: rate for kind, rate in chosen}
    budgets = {kind.kind: kind.budget for kind, _ in chosen if kind.budget is not None}
    return SwarmDecisions(seed, rates, budgets, [kind.kind for kind, _ in chosen if kind.tires])


def split(kinds: Sequence[FaultKind], parts: Collection[str]) -> tuple[tuple[FaultKind, ...], tuple[FaultKind, ...]]:
    """``kinds`` as those that can strike a scenario that uses ``parts``, and the idle ones."""
    used = tuple(kind for kind in kinds if not kind.part or kind.part in parts)
    return used, tuple(kind for kind in kinds if kind not in used)
