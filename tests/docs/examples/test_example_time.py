import asyncio

from factflow_infra.protocols import ErrorHandling, QueueMessage
from factflow_infra_testing import Faults, Process, Simulation, simulate

HOURLY = ErrorHandling(max_retries=2, retry_delay_seconds=3600, dead_letter_queue="returns.failed")


async def worker(process: Process) -> None:
    async def handle(_: QueueMessage) -> None:
        raise RuntimeError("the tax office does not answer")

    await process.queue("rabbitmq").subscribe("returns", handle, error_handling=HOURLY)
    await asyncio.Event().wait()


@simulate(faults=Faults.none(), max_examples=10)
async def test_a_return_is_given_up_after_two_hours(sim: Simulation) -> None:
    sim.start(worker, name="worker")
    await sim.queue("rabbitmq").publish("returns", QueueMessage(b"2025", message_id="return-1"))
    await sim.drain()
    sim.check.bounded_redelivery("returns", max_retries=2)
    assert 2 * 3600 < sim.time() < 3 * 3600
    (letter,) = sim.broker("rabbitmq").messages("returns.failed")
    assert letter.headers["factflow-dead-letter-reason"] == "retries-exhausted"
