"""What a batch's settling leaves in the history: the verdict that counted."""

from __future__ import annotations

import asyncio

import pytest

from factflow_infra.protocols import ErrorHandling, QueueMessage
from factflow_infra_testing import Simulation, simulate


@pytest.mark.parametrize("second", ["ack", "retry"])
@simulate(plan=[])
async def test_after_a_cancelled_settling_the_next_verdict_counts(sim: Simulation, second: str) -> None:
    queue = sim.queue("rabbitmq")
    unlimited = ErrorHandling(max_retries=None, retry_delay_seconds=1.0)
    handle = await queue.subscribe_batch("orders", max_messages=1, max_wait=0.0, error_handling=unlimited)
    await queue.publish("orders", QueueMessage(b"", message_id="m"))
    batches = aiter(handle)
    batch = await anext(batches)
    settling = asyncio.ensure_future(handle.retry(batch))
    await asyncio.sleep(0)  # the copy is on its way, and not confirmed
    settling.cancel()
    await asyncio.wait([settling])
    assert settling.cancelled()
    await getattr(handle, second)(batch)
    if second == "retry":
        await handle.ack(await anext(batches))
    await handle.close()
    await sim.drain()
    sim.check.no_loss("orders")
    verdicts = [operation.detail for operation in sim.history.of("handle")]
    assert [verdict.rpartition(" ")[2] for verdict in verdicts] == (["ack"] if second == "ack" else ["retry", "ack"])
