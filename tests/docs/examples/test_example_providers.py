import sys

import pytest

# [use]
import asyncio

from factflow_infra import create_queue_provider, create_storage_provider
from factflow_infra.protocols import QueueMessage


async def main() -> None:
    queue = create_queue_provider("stomp://localhost")  # or amqp://host/vhost, or FACTFLOW_QUEUE_URI
    storage = create_storage_provider("file:///var/lib/invoices")  # or minio://bucket, s3://bucket/prefix

    async def handle(message: QueueMessage) -> None:  # returning acks; raising retries, then dead-letters
        key = f"invoices/{message.message_id}.json"
        await storage.write(key, message.body, {"message_id": message.message_id})

    async with queue:
        await queue.subscribe("invoices", handle, concurrency=8)
        await queue.publish("invoices", QueueMessage.from_json({"number": 1}, message_id="invoice-1"))
        await asyncio.sleep(60)  # serve for a minute
    await storage.close()


# [/use]
async def test_it_on_simulated_backends(
    queue_provider, filesystem_storage, storage_provider, monkeypatch: pytest.MonkeyPatch
):
    module = sys.modules[__name__]
    monkeypatch.setattr(module, "create_queue_provider", lambda _: queue_provider)
    monkeypatch.setattr(module, "create_storage_provider", lambda _: filesystem_storage)
    await main()
    assert await storage_provider.read("invoices/invoice-1.json") == b'{"number":1}'
