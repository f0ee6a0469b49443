"""Swarm testing: each run of a search has its own random subset of fault kinds on, at its own rates.

All kinds at once hide one another (a killed process never gets to lose an ack), so about half of the runs turn on very
few, the others about half of all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from factflow_infra_testing.search.decisions import SwarmDecisions, mix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from factflow_infra_testing.search.kinds import FaultKind

_FEW = 3
_FACTORS = (0.5, 1.0, 2.0, 4.0, 8.0)
_MOST = 0.9  # a fault that always happens leaves no run worth watching
_SALT = 0x5357_4152_4D  # keeps the swarm's draws apart from the runs' own


def swarm_rates(seed: int, kinds: Sequence[FaultKind]) -> dict[str, float]:
    """The kinds that are on in the run of ``seed``, and their rates."""
    if not kinds:
        return {}
    state = mix(_SALT, seed)
    few = state & 1
    chosen: list[FaultKind] = []
    if few:
        wanted = 1 + (state >> 1) % min(_FEW, len(kinds))
        left = list(kinds)
        for _ in range(wanted):
            state = mix(state)
            chosen.append(left.pop(state % len(left)))
    else:
        for kind in kinds:
            state = mix(state)
            if state & 1:
                chosen.append(kind)
    rates: dict[str, float] = {}
    for kind in chosen:
        state = mix(state)
        rates[kind.kind] = min(max(_MOST, kind.rate), kind.rate * _FACTORS[state % len(_FACTORS)])
    return rates


def swarm_decisions(seed: int, kinds: Sequence[FaultKind]) -> SwarmDecisions:
    """The decisions of the run of ``seed``."""
    budgets = {kind.kind: kind.budget for kind in kinds if kind.budget is not None}
    return SwarmDecisions(seed, swarm_rates(seed, kinds), budgets)
