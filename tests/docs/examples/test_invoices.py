from factflow_infra.protocols import QueueMessage
from factflow_infra_testing import Faults, Process, Simulation, simulate
from invoices import InvoiceWorker  # your code: it knows only the two protocols


async def worker(process: Process) -> None:
    await InvoiceWorker(process.queue("rabbitmq"), process.storage("filesystem")).run()


@simulate(faults=Faults.all(), max_examples=200)
async def test_every_invoice_is_filed(sim: Simulation) -> None:
    sim.start(worker, name="worker")  # killed at any await, and started again
    queue, storage = sim.queue("rabbitmq"), sim.storage("filesystem")
    for n in range(3):
        await queue.publish("invoices", QueueMessage.from_json({"number": n}, message_id=f"invoice-{n}"))
    await sim.drain()  # faults end; run until nothing is left to do
    sim.check.no_loss("invoices")
    assert [key async for key in storage.list("invoices/")] == [f"invoices/{n}.json" for n in range(3)]
