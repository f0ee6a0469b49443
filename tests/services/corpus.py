"""The cases of the corpus, as data, and the search of one: what the test and the table in the docs share."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factflow_infra_testing.search.faults import Faults
from factflow_infra_testing.search.run import TIERS
from factflow_infra_testing.search.search import SearchResult, search

if TYPE_CHECKING:
    from collections.abc import Callable

_NO_CASES = ("__init__", "support", "own_client", "corpus", "table")
ALL_NAMES = tuple(
    sorted(
        path.stem
        for path in Path(__file__).parent.glob("*.py")
        if path.stem not in _NO_CASES and not path.stem.startswith("test_")
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
    tiers: tuple[str, ...]
    """Where it can be made: some mistakes need a client of one's own, or the library's ways."""

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
    return Case(
        name, module.__doc__.strip(), module.broken, module.mended, module.scenario, getattr(module, "TIERS", TIERS)
    )


def names(tier: str) -> tuple[str, ...]:
    """The cases of ``tier``, in order."""
    return tuple(name for name in ALL_NAMES if tier in case(name).tiers)


NAMES = names("model")
WIRE_ONLY = tuple(name for name in ALL_NAMES if name not in NAMES)
DEARER = (
    "append_retried",
    "exists_then_write",
    "listing_as_snapshot",
    "metadata_trusted",
    "rename_without_fsync",
    "short_write_ignored",
    "temporary_file_elsewhere",
    "write_then_publish",
)
"""Services with storage, whose runs take ten times as long: the suite does a share of them, ``tests.services.table`` all."""
