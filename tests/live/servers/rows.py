"""Which rows of the queue contract need certain faults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from factflow_infra_testing.contracts import QUEUE_BEHAVIOURS

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from factflow_infra_testing.contracts import QueueCapability, QueueEnvironment
    from factflow_infra_testing.contracts.behaviours import Behaviour


def rows_of(
    faults: AbstractSet[QueueCapability], others: frozenset[QueueCapability]
) -> list[Behaviour[QueueEnvironment, QueueCapability]]:
    """Those that need some of ``faults``, and beside these only ``others``."""
    rows = [row for row in QUEUE_BEHAVIOURS if row.needs & faults and not row.missing(others | faults)]
    assert rows
    return rows
