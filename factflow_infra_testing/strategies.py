"""Plans as an ordinary Hypothesis strategy, for those who write ``@given`` themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from factflow_infra_testing.errors import KitUsageError
from factflow_infra_testing.search.decisions import Fault
from factflow_infra_testing.search.faults import Faults, known_kinds

if TYPE_CHECKING:
    from collections.abc import Sequence


def fault_plans(
    targets: Sequence[str], *, faults: Faults | None = None, max_faults: int = 3, max_nth: int = 5
) -> st.SearchStrategy[list[Fault]]:
    """Short lists of faults, no place decided twice; they shrink to none, and to early ordinals of the mildest kinds.

    ``targets``: the queues, storages and processes that may be struck, named as in the code under test. ``faults``: the
    kinds (all). Pass what is drawn to ``PlannedDecisions``, or as ``plan=``.
    """
    kinds = tuple(faults if faults is not None else Faults.all())
    if not targets or isinstance(targets, str):
        raise KitUsageError(f"`targets` takes a list of names such as ['/queue/orders'], got {targets!r}.")
    if max_faults < 0 or max_nth < 1:
        raise KitUsageError(f"Plans need max_faults from 0 and max_nth from 1, got {max_faults!r} and {max_nth!r}.")
    if not kinds:
        return st.just([])
    registry = known_kinds()

    def of_kind(kind: str) -> st.SearchStrategy[Fault]:
        choices = max(1, len(registry[kind].choices))
        return st.builds(
            Fault,
            kind=st.just(kind),
            target=st.sampled_from(list(targets)),
            nth=st.integers(1, max_nth),
            choice=st.integers(1, choices),
        )

    fault = st.sampled_from(kinds).flatmap(of_kind)
    return st.lists(fault, max_size=max_faults, unique_by=lambda each: (each.kind, each.target, each.nth))
