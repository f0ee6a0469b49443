"""A subscription that closes gives back what it holds, whatever the broker leaves unanswered on the way.

It is the client that sees to it: aiormq closes a channel one of whose requests is given up.
"""

import asyncio

import pytest
from pamqp.commands import Basic

from factflow_infra import create_queue_provider
from factflow_infra.protocols import QueueMessage
from factflow_infra_testing.broker import SimulatedBroker
from factflow_infra_testing.simulation.runner import run
from factflow_infra_testing.wire.amqp import channel
from factflow_infra_testing.wire.amqp.provider import broker_uris, listening


def unanswered(_channel, _method):
    return None


@pytest.mark.parametrize("request_index", [Basic.Qos.index, Basic.Cancel.index], ids=["qos", "cancel"])
def test_what_is_held_goes_back_though_a_request_before_the_last_is_not_answered(monkeypatch, request_index):
    async def main():
        listening(broker := SimulatedBroker("rabbitmq-quorum"))
        holder, other = (create_queue_provider(broker_uris(broker)[0], connect_timeout=5) for _ in range(2))
        held, taken = asyncio.Event(), asyncio.Event()

        async def deaf(_):
            held.set()
            while not taken.is_set():
                try:
                    await taken.wait()
                except asyncio.CancelledError:
                    continue

        async def take(_):
            taken.set()

        subscription = await holder.subscribe("jobs", deaf)
        await other.publish("jobs", QueueMessage(b"1"))
        await held.wait()
        await other.subscribe("jobs", take)
        with monkeypatch.context() as patch:
            patch.setitem(channel._HANDLERS, request_index, unanswered)
            await subscription.close(timeout=1)
            async with asyncio.timeout(60):
                await taken.wait()
        assert holder.health().connected
        await holder.stop()
        await other.stop()

    run(main).result()


@pytest.mark.parametrize("profile", ["rabbitmq-quorum", "rabbitmq-classic"])
def test_what_a_closed_subscription_held_is_the_next_again_in_its_order(profile):
    async def main():
        listening(broker := SimulatedBroker(profile))
        queue = create_queue_provider(
            broker_uris(broker)[0], queue_type=profile.removeprefix("rabbitmq-"), connect_timeout=5
        )
        await queue.publish_batch("jobs", [QueueMessage(b"%d" % n) for n in range(20)])
        handle = await queue.subscribe_batch("jobs", max_messages=4, max_wait=60)
        await handle.ack(await anext(aiter(handle)))
        await handle.close()
        assert [message.payload.body for message in broker.broker.ready("jobs")] == [b"%d" % n for n in range(4, 20)]
        await queue.stop()

    run(main).result()
