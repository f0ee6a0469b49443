import asyncio

from factflow_infra.errors import QueueError
from factflow_infra.protocols import QueueMessage
from factflow_infra_testing import Process, Simulation, simulate
from invoices import InvoiceWorker

INVOICES = [QueueMessage.from_json({"number": n}, message_id=f"invoice-{n}") for n in range(3)]
FILED = [f"invoices/{n}.json" for n in range(3)]


async def worker(process: Process) -> None:
    await InvoiceWorker(process.queue("rabbitmq"), process.storage("s3")).run()


# [producer]
async def producer(process: Process) -> None:
    """A process of its own, so that its publishes meet faults: what was not confirmed is sent again, under its old id."""
    queue = process.queue("rabbitmq")
    for message in INVOICES:
        while True:
            try:
                await queue.publish("invoices", message)
            except QueueError as error:
                if not error.retryable:
                    raise
                await asyncio.sleep(1)
            else:
                break
    await queue.stop()


@simulate(max_examples=30)
async def test_two_workers_and_a_producer(sim: Simulation) -> None:
    sim.start(worker, name="worker-a", host="a")
    sim.start(worker, name="worker-b", host="b")
    sim.start(producer, name="producer")
    await sim.drain()
    sim.check.no_loss("invoices")
    assert [key async for key in sim.storage("s3").list("invoices/")] == FILED


# [/producer]
# [by-hand]
@simulate(plan=[])  # one run, no fault but those made here
async def test_a_restart_in_the_middle(sim: Simulation) -> None:
    process = sim.start(worker, name="worker")
    await sim.queue("rabbitmq").publish_batch("invoices", INVOICES)
    process.kill()
    assert process.status == "restarting"
    await sim.sleep(5)
    assert (process.status, process.lives) == ("running", 2)
    process.terminate()  # as SIGTERM: a deployment
    await sim.drain()
    assert [key async for key in sim.storage("s3").list("invoices/")] == FILED


# [/by-hand]
