from factflow_infra.protocols import QueueMessage
from factflow_infra_testing import Simulation, simulate
from test_invoices import worker


@simulate(max_examples=30)
async def test_ten_minutes_without_the_broker(sim: Simulation) -> None:
    sim.start(worker, name="worker", host="a")
    queue, storage = sim.queue("rabbitmq"), sim.storage("filesystem", host="a")
    await sim.sleep(1)  # it has connected
    sim.partition("a", "rabbitmq")  # the test itself is outside of it
    await queue.publish("invoices", QueueMessage.from_json({"number": 1}))
    await sim.sleep(600)
    assert not await storage.exists("invoices/1.json")
    sim.heal()
    await sim.drain()
    assert await storage.exists("invoices/1.json")
