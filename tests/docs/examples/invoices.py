"""A service: it files each invoice that comes by queue, and acks it when it is filed."""

import asyncio

from factflow_infra.protocols import QueueMessage, QueueProtocol, StorageProtocol


class InvoiceWorker:
    def __init__(self, queue: QueueProtocol, storage: StorageProtocol) -> None:
        self.queue = queue
        self.storage = storage

    async def run(self) -> None:
        """Serve until cancelled."""
        await self.queue.subscribe("invoices", self.handle)
        try:
            await asyncio.Event().wait()
        finally:
            await self.queue.stop()
            await self.storage.close()

    async def handle(self, message: QueueMessage) -> None:  # returning acks, raising retries
        await self.file(message)

    async def file(self, message: QueueMessage) -> None:
        number = message.json()["number"]
        await self.storage.write(f"invoices/{number}.json", message.body, {"message_id": message.message_id})
