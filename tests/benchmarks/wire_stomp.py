"""The speed of the wire tier over STOMP: the production provider and a bare stompman, in virtual time.

    python tests/benchmarks/wire_stomp.py [rounds]

*stompman*: send with receipts and consume with acks, 200 in flight, end to end. *provider*: the same through
``ArtemisQueueProvider``. *heart-beats*: what an hour of an idle provider with one subscription costs. Searched runs are in
``search.py``.
"""

from __future__ import annotations

import asyncio

import stompman
from wire_rates import MESSAGES, WIDTH, compare

from factflow_infra.queue.messages import QueueMessage
from factflow_infra_testing.broker import SimulatedBroker
from factflow_infra_testing.wire.stomp.frontend import PASSWORD, PORT, USER
from factflow_infra_testing.wire.stomp.provider import listening, wire_provider


def on_broker(scenario):
    async def main():
        broker = SimulatedBroker("artemis")
        listening(broker)
        await scenario(broker)

    return main


async def bare(broker) -> None:
    servers = [stompman.ConnectionParameters(broker.profile.name, PORT, USER, PASSWORD)]
    options = {"heartbeat": stompman.Heartbeat(30_000, 30_000), "max_concurrent_handlers": None}
    async with stompman.Client(servers, **options) as client, stompman.Client(servers, **options) as worker:
        done, left = asyncio.Event(), MESSAGES

        async def handle(frame) -> None:
            nonlocal left
            await frame.ack()
            left -= 1
            if not left:
                done.set()

        window = {"subscription-type": "ANYCAST", "consumer-window-size": "-1"}
        subscription = await worker.subscribe_with_manual_ack("/queue/work", handle, headers=window, receipt_timeout=30)
        numbers = iter(range(MESSAGES))

        async def produce() -> None:
            for number in numbers:
                headers = {"destination-type": "ANYCAST", "persistent": "true", "number": str(number)}
                await client.send(b"x" * 100, "/queue/work", headers=headers, receipt_timeout=30)

        await asyncio.gather(*(produce() for _ in range(WIDTH)))
        await done.wait()
        await subscription.unsubscribe()


async def provider(broker) -> None:
    producer = wire_provider(broker, host="localhost", exposed=False, options={})
    worker = wire_provider(broker, host="localhost", exposed=False, options={})
    done, left = asyncio.Event(), MESSAGES

    async def handle(_) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    await worker.subscribe("work", handle, concurrency=WIDTH, prefetch=5 * WIDTH)
    numbers = iter(range(MESSAGES))

    async def produce() -> None:
        for number in numbers:
            await producer.publish("work", QueueMessage(b"x" * 100, message_id=str(number)))

    await asyncio.gather(*(produce() for _ in range(WIDTH)))
    await done.wait()
    await worker.stop()
    await producer.stop()


async def idle(broker) -> None:
    async def handle(_) -> None: ...

    worker = wire_provider(broker, host="localhost", exposed=False, options={})
    await worker.subscribe("work", handle)
    await asyncio.sleep(3600)
    assert worker.health().active_subscriptions == 1
    await worker.stop()


if __name__ == "__main__":
    compare("stompman", on_broker(bare), on_broker(provider), wanted=5_000, idle=on_broker(idle))
