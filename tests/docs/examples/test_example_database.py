import asyncio

from factflow_infra.protocols import QueueMessage
from factflow_infra_testing import Process, Simulation, simulate


class Ledger:
    """Stands for a database on another machine: a plain object of the test, so a killed process leaves it as it is."""

    def __init__(self) -> None:
        self.rows: list[str] = []

    async def insert(self, key: str) -> None:
        await asyncio.sleep(0.001)  # the request
        if key not in self.rows:  # a unique constraint
            self.rows.append(key)
        await asyncio.sleep(0.001)  # the answer: a process killed here never sees it


async def cashier(process: Process, ledger: Ledger) -> None:
    async def handle(message: QueueMessage) -> None:
        await ledger.insert(message.message_id)

    await process.queue("rabbitmq").subscribe("payments", handle, concurrency=4)
    await asyncio.Event().wait()


@simulate(max_examples=100)
async def test_each_payment_counts_once(sim: Simulation) -> None:
    ledger = Ledger()  # made in the test: each run has its own
    cash = sim.start(lambda process: cashier(process, ledger), name="cashier")
    payments = [QueueMessage.from_json({"amount": n}, message_id=f"payment-{n}") for n in range(1, 5)]
    await sim.queue("rabbitmq").publish_batch("payments", payments)
    await sim.drain()
    sim.check.queue("payments")  # no loss, no phantom, no duplicate after ack, honest redelivery
    sim.check.exactly_once_effect(ledger.rows, expected=[message.message_id for message in payments])
    sim.check.sometimes(cash.lives > 1, "the cashier was started again")
