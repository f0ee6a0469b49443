from factflow_infra.protocols import QueueMessage
from factflow_infra_testing import Fault, Faults, Simulation
from factflow_infra_testing.search.decisions import PlannedDecisions
from factflow_infra_testing.search.run import RunOptions
from factflow_infra_testing.simulation.execution import execute
from factflow_infra_testing.simulation.session import SimulationSession
from factflow_infra_testing.strategies import fault_plans
from hypothesis import given, settings
from test_invoices import worker


async def scenario(sim: Simulation) -> None:
    sim.start(worker, name="worker")
    await sim.queue("rabbitmq").publish("invoices", QueueMessage.from_json({"number": 1}))
    await sim.drain()
    sim.check.no_loss("invoices")


@given(plan=fault_plans(["invoices"], faults=Faults.only("ack-lost", "reset", "broker-restart")))
@settings(max_examples=30, deadline=None)
def test_no_short_plan_loses_an_invoice(plan: list[Fault]) -> None:
    with SimulationSession() as session:
        record = execute(
            scenario,
            decisions=PlannedDecisions(plan),
            seed=0,
            faults=Faults.all(),
            session=session,
            options=RunOptions(),
        )
    assert record.failure is None, record.failure
