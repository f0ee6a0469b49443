"""The cases of the corpus, as data, and the search of one: what the test and the table in the docs share."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factflow_infra_testing.search.faults import Faults
from factflow_infra_testing.search.search import SearchResult, search

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = tuple(
    sorted(
        path.stem
        for path in Path(__file__).parent.glob("*.py")
        if path.stem not in ("__init__", "support", "corpus", "table") and not path.stem.startswith("test_")
    )
)


@dataclass(frozen=True, slots=True)
class Case:
    """A mistake: the service that makes it, its mended twin, and the run that both must survive."""

    name: str
    mistake: str
    broken: Callable[..., Any]
    mended: Callable[..., Any]
    scenario: Callable[..., Any]

    def search(
        self,
        service: Callable[..., Any],
        *,
        examples: int,
        seed: int = 0,
        tier: str = "model",
        profile: str | None = None,
    ) -> SearchResult:
        """Look for a failure of ``service`` under every fault there is. ``profile``: another broker than the one it asks for."""

        async def scenario(sim: Any) -> None:
            sim.tier = tier
            if profile is not None:
                provide = sim.provide_queue
                sim.provide_queue = lambda _, **how: provide(profile, **how)
            await self.scenario(sim, service)

        return search(scenario, faults=Faults.all(), max_examples=examples, seed=seed)


def case(name: str) -> Case:
    module = importlib.import_module(f"{__package__}.{name}")
    return Case(name, module.__doc__.strip(), module.broken, module.mended, module.scenario)
