"""An example service: it takes invoices from a queue, files each in storage, and announces what it has filed.

It knows the two protocols and nothing else, so the same code runs in the simulation and against a real broker.
``HastyInvoiceWorker`` has the mistake that this kit was made to find; ``InvoiceWorker`` is the same service, mended.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from factflow_infra.protocols import QueueMessage

if TYPE_CHECKING:
    from factflow_infra.protocols import QueueProtocol, StorageProtocol

INVOICES = "/queue/invoices"
FILED = "/queue/invoices.filed"


class InvoiceWorker:
    """Files an invoice, announces it, and only then acks: a crash in between costs a repetition, never an invoice."""

    def __init__(self, queue: QueueProtocol, storage: StorageProtocol) -> None:
        self.queue = queue
        self.storage = storage

    async def run(self) -> None:
        """Serve until cancelled."""
        await self.queue.subscribe(INVOICES, self.handle, concurrency=2)
        try:
            await asyncio.Event().wait()
        finally:
            await self.queue.stop()
            await self.storage.close()

    async def handle(self, message: QueueMessage) -> None:
        await self.file(message)

    async def file(self, message: QueueMessage) -> None:
        """Write under a key that names the invoice, so that doing it twice is doing it once."""
        number = message.json()["number"]
        key = f"invoices/{number}.json"
        await self.storage.write(key, message.body, {"message_id": message.message_id}, content_type="application/json")
        filed = QueueMessage.from_json({"number": number, "key": key}, message_id=f"filed-{number}")
        await self.queue.publish(FILED, filed)


class HastyInvoiceWorker(InvoiceWorker):
    """Returns, and so acks, as soon as the work is under way: faster, until the process dies."""

    def __init__(self, queue: QueueProtocol, storage: StorageProtocol) -> None:
        super().__init__(queue, storage)
        self._filing: set[asyncio.Task[None]] = set()

    async def handle(self, message: QueueMessage) -> None:
        task = asyncio.create_task(self.file(message))
        self._filing.add(task)
        task.add_done_callback(self._filing.discard)
