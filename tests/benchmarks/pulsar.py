"""``PulsarQueueProvider`` against the bare ``pulsar.asyncio`` client doing the same work, on one real Pulsar.

    python tests/benchmarks/pulsar.py [--uri pulsar://127.0.0.1:6650] [--rounds 7]

Without ``--uri`` a throw-away Pulsar is started. The work: publish confirmed messages of 256 bytes with 100 in flight, without
batches, which is the client's faster way for such a producer (PUL-24); consume them on a Shared subscription, one awaited ack
each, with one handler at a time (bare: a loop that receives, reads and acks) and with ten (bare: ten such loops). The bare client
sends what the provider sends: an id, when it was made, the content type and a header. It runs on the library's own callbacks,
which the provider wraps. Both publish a first message that is not measured: for that one the provider makes the topic, its
subscription and its producer, which the bare code has made before. Rounds of both alternate in one process, the order changing each round, so that a slow moment of the machine
meets both. The ratio of the medians counts, and that of CPU time beside it, which other processes disturb less.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import uuid4

# This file has the name of the client: the folder it is in must not come first.
sys.path.append(sys.path.pop(0))

import pulsar
import pulsar.asyncio
from comparing import BODY, PREFETCH, Countdown, Meter, Rate, compare, in_flight, running_server, server_module

from factflow_infra import create_queue_provider
from factflow_infra.queue.messages import QueueMessage

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLBACKS: Final = ("_set_future", "_set_future_v2")
OF_THE_LIBRARY: Final = {name: getattr(pulsar.asyncio, name) for name in CALLBACKS}


@contextmanager
def untouched() -> Iterator[None]:
    """The library as it is without the provider, which wraps its callbacks (``_contain``)."""
    wrapped = {name: getattr(pulsar.asyncio, name) for name in CALLBACKS}
    vars(pulsar.asyncio).update(OF_THE_LIBRARY)
    yield
    vars(pulsar.asyncio).update(wrapped)


async def bare(uri: str, handlers: int, messages: int) -> tuple[Rate, Rate]:
    with untouched():
        return await on_the_client(uri, handlers, messages)


async def on_the_client(uri: str, handlers: int, messages: int) -> tuple[Rate, Rate]:
    """What one writes on the client for the same promises: a subscription that keeps, confirms, acks by hand."""
    client = pulsar.asyncio.Client(uri, logger=pulsar.FileLogger(pulsar.LoggerLevel.Error, os.devnull))
    topic = f"persistent://public/default/bench-bare-{uuid4().hex[:8]}"
    kind, first = pulsar.ConsumerType.Shared, pulsar.InitialPosition.Earliest
    consumer = await client.subscribe(topic, "s", consumer_type=kind, initial_position=first, receiver_queue_size=0)
    await consumer.close()
    producer = await client.create_producer(topic, batching_enabled=False, max_pending_messages=1000)

    async def publish() -> None:
        now = datetime.now(UTC)
        properties = {"id": uuid4().hex, "sent": now.isoformat(), "content-type": "application/json", "execution": "1"}
        await producer.send(BODY, properties=properties, event_timestamp=int(now.timestamp() * 1000))

    await publish()
    published = await in_flight(messages, publish)
    countdown = Countdown(messages + 1)
    meter = Meter(messages + 1)
    consumer = await client.subscribe(
        topic, "s", consumer_type=kind, initial_position=first, receiver_queue_size=PREFETCH
    )

    async def handle() -> None:
        while True:
            message = await consumer.receive()
            message.data()
            message.properties()
            await consumer.acknowledge(message)
            countdown.one()

    handling = [asyncio.ensure_future(handle()) for _ in range(handlers)]
    await countdown.over.wait()
    consumed = meter.rate()
    await consumer.close()
    await asyncio.wait(handling)
    await client.close()
    for task in handling:
        task.exception()
    return published, consumed


async def ours(uri: str, handlers: int, messages: int) -> tuple[Rate, Rate]:
    name = f"bench-ours-{uuid4().hex[:8]}"
    async with create_queue_provider(uri) as provider:

        async def publish() -> None:
            await provider.publish(
                name, QueueMessage(BODY, headers={"execution": "1"}, content_type="application/json")
            )

        await publish()
        published = await in_flight(messages, publish)
        countdown = Countdown(messages + 1)

        async def handle(message: QueueMessage) -> None:
            del message
            countdown.one()

        meter = Meter(messages + 1)
        await provider.subscribe(name, handle, prefetch=PREFETCH, concurrency=handlers)
        await countdown.over.wait()
        consumed = meter.rate()
    return published, consumed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--uri")
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with running_server(options.uri, lambda folder: server_module("pulsar").Pulsar(folder)) as uri:
        good = True
        for handlers in (1, 10):
            runs = {"bare": partial(bare, uri, handlers), "ours": partial(ours, uri, handlers)}
            good &= asyncio.run(compare(f"handlers at once: {handlers}", runs, options.messages, options.rounds))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
