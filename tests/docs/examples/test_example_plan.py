from factflow_infra.protocols import QueueMessage
from factflow_infra_testing import Fault, Simulation, simulate
from test_invoices import worker


@simulate(plan=[Fault("kill", "worker@settle invoices", 1), Fault("ack-lost", "invoices", 2)])
async def test_this_very_schedule(sim: Simulation) -> None:
    process = sim.start(worker, name="worker")
    for n in range(2):
        await sim.queue("rabbitmq").publish("invoices", QueueMessage.from_json({"number": n}))
    await sim.drain()
    sim.check.no_loss("invoices")
    assert process.lives == 2
