import pytest
from factflow_infra import create_queue_provider
from factflow_infra.protocols import QueueMessage
from factflow_infra_testing import Process, Simulation, simulate
from invoices import InvoiceWorker


# [tiers]
@pytest.mark.parametrize("tier", ["model", "wire"])
@simulate(max_examples=20)
async def test_on_both_tiers(sim: Simulation, tier: str) -> None:
    async def worker(process: Process) -> None:
        await InvoiceWorker(process.queue("rabbitmq", tier=tier), process.storage()).run()

    sim.start(worker, name="worker")
    await sim.queue("rabbitmq", tier=tier).publish("invoices", QueueMessage.from_json({"number": 1}))
    await sim.drain()
    assert [key async for key in sim.storage().list()] == ["invoices/1.json"]


# [/tiers]
# [uri]
@simulate(max_examples=20)
async def test_a_service_that_makes_its_own_provider(sim: Simulation) -> None:
    uri = sim.uri("rabbitmq")  # amqp://..., for any client inside the run

    async def worker(process: Process) -> None:
        await InvoiceWorker(create_queue_provider(uri), process.storage()).run()

    sim.start(worker, name="worker")
    await sim.queue("rabbitmq").publish("invoices", QueueMessage.from_json({"number": 1}))
    await sim.drain()
    assert [key async for key in sim.storage().list()] == ["invoices/1.json"]


# [/uri]
