"""The same service with a mistake: it acks when the work has begun, not when it is done."""

import asyncio

from factflow_infra.protocols import QueueMessage
from invoices import InvoiceWorker


class HastyInvoiceWorker(InvoiceWorker):
    async def run(self) -> None:
        self.filing: set[asyncio.Task[None]] = set()
        await super().run()

    async def handle(self, message: QueueMessage) -> None:
        self.filing.add(asyncio.create_task(self.file(message)))
