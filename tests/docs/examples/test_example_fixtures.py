import asyncio

import pytest
from factflow_infra.protocols import QueueMessage
from factflow_infra_testing import Fault
from invoices import InvoiceWorker


async def test_one_invoice(queue_provider, filesystem_storage):
    service = asyncio.create_task(InvoiceWorker(queue_provider, filesystem_storage).run())
    await queue_provider.publish("invoices", QueueMessage.from_json({"number": 7}))
    await asyncio.sleep(60)  # virtual
    assert await filesystem_storage.read("invoices/7.json") == b'{"number":7}'
    service.cancel()


@pytest.mark.faults(Fault("ack-lost", "orders", 1))
async def test_a_lost_ack_brings_the_message_again(queue_provider, simulated_broker):
    seen: list[bool] = []

    async def handle(message: QueueMessage) -> None:
        seen.append(message.redelivered)

    await queue_provider.subscribe("orders", handle)
    await queue_provider.publish("orders", QueueMessage(b"1"))
    await asyncio.sleep(60)
    assert seen == [False, True]
    assert simulated_broker.depth("orders") == 0


@pytest.mark.parametrize("queue_provider", ["rabbitmq-classic", "rabbitmq-quorum"], indirect=True)
async def test_on_both_kinds_of_queue(queue_provider):
    await queue_provider.publish("orders", QueueMessage(b"1"))
