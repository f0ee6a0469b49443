"""The testing kit: production providers on simulated backends, in virtual time.

Load it with ``pytest -p factflow_infra_testing``; it registers nothing by itself. Every name here is imported on first
use, so that loading the plugin costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from factflow_infra_testing.broker.provider import SimulatedQueueProvider
    from factflow_infra_testing.contracts import QueueContract, StorageContract
    from factflow_infra_testing.search.decisions import Fault
    from factflow_infra_testing.search.faults import Faults
    from factflow_infra_testing.search.simulate import simulate
    from factflow_infra_testing.simulation.processes import Process
    from factflow_infra_testing.simulation.session import SimulationSession
    from factflow_infra_testing.simulation.simulation import Simulation

__all__ = [
    "Fault",
    "Faults",
    "Process",
    "QueueContract",
    "SimulatedQueueProvider",
    "Simulation",
    "SimulationSession",
    "StorageContract",
    "simulate",
]

pytest_plugins = ("factflow_infra_testing.plugin", "factflow_infra_testing.fixtures")

_HOME = {
    "Fault": "search.decisions",
    "Faults": "search.faults",
    "Process": "simulation.processes",
    "QueueContract": "contracts",
    "SimulatedQueueProvider": "broker.provider",
    "Simulation": "simulation.simulation",
    "SimulationSession": "simulation.session",
    "StorageContract": "contracts",
    "simulate": "search.simulate",
}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
