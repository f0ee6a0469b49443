"""The example service as a process of a simulation, and what a run of it must show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from factflow_infra.protocols import QueueMessage
from factflow_infra_testing.demo.service import FILED, INVOICES, HastyInvoiceWorker, InvoiceWorker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from factflow_infra_testing.simulation.processes import Process
    from factflow_infra_testing.simulation.simulation import Simulation

COUNT = 3


def scenario_of(
    worker: type[InvoiceWorker], *, profile: str = "rabbitmq", storage: str = "filesystem"
) -> Callable[[Simulation], Awaitable[None]]:
    """A run in which ``worker`` files three invoices, on simulated backends."""

    async def serve(process: Process) -> None:
        await worker(process.queue(profile), process.storage(storage)).run()

    async def scenario(sim: Simulation) -> None:
        sim.start(serve, name="worker")
        announced: set[int] = set()

        async def collect(message: QueueMessage) -> None:
            announced.add(message.json()["number"])

        queue, store = sim.queue(profile), sim.storage(storage)
        await queue.subscribe(FILED, collect)
        for number in range(COUNT):
            await queue.publish(INVOICES, QueueMessage.from_json({"number": number}, message_id=f"invoice-{number}"))
        await sim.drain()
        sim.check.queue(INVOICES)
        filed = {key async for key in store.list("invoices/")}
        # An invoice that failed four times waits in the dead-letter queue for somebody to look at: not done, not lost.
        due = [number for number in range(COUNT) if f"invoice-{number}" not in sim.dead_letters(INVOICES)]
        unfiled = [number for number in due if f"invoices/{number}.json" not in filed]
        assert not unfiled, f"acked, and never filed: {unfiled}"
        silent = [number for number in due if number not in announced]
        assert not silent, f"filed, and never announced: {silent}"

    return scenario


hasty = scenario_of(HastyInvoiceWorker)
careful = scenario_of(InvoiceWorker)
