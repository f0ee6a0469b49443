"""What one simulated run is told and what it leaves behind: the seam between the search and the simulation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from factflow_infra_testing.history.operations import Operation
    from factflow_infra_testing.search.decisions import Decisions, Fault
    from factflow_infra_testing.search.faults import Faults
    from factflow_infra_testing.search.surroundings import Place

TIERS = ("model", "wire")
"""How much of a queue provider is real: the engine, or all of it and its client library."""

Scenario: TypeAlias = Callable[[Any], Awaitable[None]]
"""What is run: it gets the ``Simulation``, which is opaque to the search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What a run may spend. ``virtual_budget`` is in virtual seconds; None leaves the simulation's own default.

    ``digest``: have a passing run's digest too; a failing run's is always there. ``tier``: of its queue providers that do not
    say; None is each profile's own.
    """

    virtual_budget: float | None = None
    tier: str | None = None
    digest: bool = False


class RecordedHistory(Protocol):
    """What a report reads of a history."""

    @property
    def operations(self) -> Sequence[Operation]:
        """Every operation, in the order of its invocation."""
        ...

    def told(self) -> Sequence[Operation]:
        """The same, and what was only seen from without."""
        ...

    @property
    def noticed(self) -> Mapping[str, int]:
        """What the report should say besides, and how often it was so."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """The outcome of one run. A failing scenario is data here, never an exception out of the executor.

    ``deviations`` is every decision that was not benign, in the order of the run; ``digest`` is equal for equal runs;
    ``sometimes`` has every label given to ``sim.check.sometimes`` and whether it held at least once; ``fired`` counts the
    faults that took place, by kind; ``parts`` are those of ``FaultKind.part`` that the scenario uses; ``tier`` is that of the
    ``RunOptions``; ``places`` says where in the code under test a process stood when a fault struck it; ``libraries``
    are those of its clients, by their names on the package index;
    ``missing`` are queues that the test looked into and that the run did not have, with what there is to say of each.
    """

    failure: BaseException | None
    deviations: tuple[Fault, ...] = ()
    history: RecordedHistory | None = None
    digest: str = ""
    virtual_seconds: float = 0.0
    sometimes: Mapping[str, bool] = field(default_factory=dict[str, bool])
    fired: Mapping[str, int] = field(default_factory=dict[str, int])
    parts: tuple[str, ...] = ()
    places: Mapping[Fault, Place] = field(default_factory=dict["Fault", "Place"])
    libraries: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict[str, str])
    tier: str | None = None


class Execute(Protocol):
    """Runs one whole simulation on a loop of its own, and returns: the scenario's failure is in the record."""

    def __call__(
        self,
        scenario: Scenario,
        *,
        decisions: Decisions,
        seed: int,
        faults: Faults,
        session: Any,
        options: RunOptions,
    ) -> RunRecord: ...


@dataclass(frozen=True, slots=True)
class Backend:
    """An executor, and how to open what its runs share (patches and fakes that are dear to set up): once a search."""

    execute: Execute
    open_session: Callable[[], AbstractContextManager[Any]]


def default_backend() -> Backend:
    """The simulation of this kit."""
    from factflow_infra_testing.simulation.execution import execute
    from factflow_infra_testing.simulation.session import SimulationSession

    return Backend(execute, SimulationSession)
