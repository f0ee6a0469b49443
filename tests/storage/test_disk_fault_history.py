"""A fault of the disk is in the history, so the timeline of a report shows where it struck."""

from factflow_infra.errors import StorageFullError
from factflow_infra_testing import Fault, Faults, SimulationSession
from factflow_infra_testing.search.decisions import PlannedDecisions
from factflow_infra_testing.search.run import RunOptions
from factflow_infra_testing.simulation.execution import execute


async def writer(process):
    try:
        await process.storage("filesystem").write("invoices/1", b"1")
    except StorageFullError:
        await process.storage("filesystem").write("invoices/1", b"1")


async def scenario(sim):
    sim.start(writer, name="writer")
    await sim.drain()


def test_a_fault_of_the_disk_is_noted_with_its_target():
    plan = [Fault("disk-full", "mkdir invoices", 1)]
    with SimulationSession() as session:
        record = execute(
            scenario,
            decisions=PlannedDecisions(plan),
            seed=0,
            faults=Faults.all(),
            session=session,
            options=RunOptions(),
        )
    assert record.failure is None
    assert [(op.process, op.target, op.detail) for op in record.history.of("fault")] == [
        ("writer", "mkdir invoices", "disk-full")
    ]
