"""What a search has exercised: a fault that never fired, or a property that never held, makes a pass worth less."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from factflow_infra_testing.search.run import RunRecord


@dataclass(slots=True, kw_only=True)
class Coverage:
    """Tallies over all runs of one search (those that minimise a failure are not counted)."""

    kinds: tuple[str, ...]
    named: bool = False
    """Whether the kinds were named one by one: then one that the scenario has no place for is worth a word too."""
    runs: int = 0
    fired: dict[str, int] = field(default_factory=dict[str, int])
    asked: dict[str, int] = field(default_factory=dict[str, int])
    sometimes: dict[str, bool] = field(default_factory=dict[str, bool])
    missing: dict[str, str] | None = None
    """Queues that each run so far was asked for and did not have, with what there is to say of each."""

    def add(self, record: RunRecord, asked: Mapping[str, int]) -> None:
        self.runs += 1
        if self.missing is None:
            self.missing = dict(record.missing)
        elif self.missing:
            self.missing = {name: text for name, text in self.missing.items() if name in record.missing}
        for kind, count in record.fired.items():
            self.fired[kind] = self.fired.get(kind, 0) + count
        for kind, count in asked.items():
            self.asked[kind] = self.asked.get(kind, 0) + count
        for label, held in record.sometimes.items():
            self.sometimes[label] = self.sometimes.get(label, False) or held

    @property
    def never_fired(self) -> tuple[str, ...]:
        """The kinds that were wanted and did not happen once, though there was a place for them (or they were named)."""
        return tuple(kind for kind in self.kinds if not self.fired.get(kind) and (self.named or self.asked.get(kind)))

    @property
    def never_there(self) -> tuple[str, ...]:
        """What there is to say of queues that the test looked into in every run and none had: their names may be misspelt."""
        return tuple((self.missing or {}).values())

    @property
    def never_held(self) -> tuple[str, ...]:
        """The labels given to ``sim.check.sometimes`` that were not true once."""
        return tuple(sorted(label for label, held in self.sometimes.items() if not held))
