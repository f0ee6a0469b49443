"""``PulsarQueueProvider`` against the bare ``pulsar.asyncio`` client doing the same work, on one real Pulsar.

    python tests/benchmarks/pulsar.py [--uri pulsar://127.0.0.1:6650] [--rounds 25] [--handlers 1] [--handlers 10] [--each]

Without ``--uri`` a throw-away Pulsar is started. The work: publish confirmed messages of 256 bytes with 100 in flight, without
batches, which is the client's faster way for such a producer (PUL-24); consume them on a Shared subscription, one awaited ack
each, with one handler at a time (bare: a loop that receives, reads and acks) and with ten (bare: ten such loops), at most 100 held
(bare: a receiver queue of 100; acks are grouped as the client does it by itself on both sides).

Each side has a client of its own, connected throughout, and each round a new topic: both have a subscription made that keeps the
messages, a producer, and a first message, before the clock starts. The clock of consuming runs from the first message to the last.
The bare client sends what the provider sends, properties of the same names and lengths, which is looked at first. It runs on the
library's own callbacks, which the provider wraps. How rounds are compared is in ``comparing.compare``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

# This file has the name of the client: the folder it is in must not come first.
sys.path.append(sys.path.pop(0))

import pulsar
import pulsar.asyncio
from comparing import BODY, PREFETCH, Countdown, Rate, compare, in_flight, running_server, server_module

from factflow_infra import create_queue_provider
from factflow_infra.queue.messages import QueueMessage
from factflow_infra.queue.naming import PulsarNamingStrategy
from factflow_infra.queue.pulsar import wire
from factflow_infra.queue.timestamps import format_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from factflow_infra import QueueProtocol

CALLBACKS: Final = ("_set_future", "_set_future_v2")
OF_THE_LIBRARY: Final = {name: getattr(pulsar.asyncio, name) for name in CALLBACKS}
SHARED: Final = {
    "consumer_type": pulsar.ConsumerType.Shared,
    "initial_position": pulsar.InitialPosition.Earliest,
}


@contextmanager
def untouched() -> Iterator[None]:
    """The library as it is without the provider, which wraps its callbacks (``_contain``)."""
    wrapped = {name: getattr(pulsar.asyncio, name) for name in CALLBACKS}
    vars(pulsar.asyncio).update(OF_THE_LIBRARY)
    yield
    vars(pulsar.asyncio).update(wrapped)


async def bare(client: pulsar.asyncio.Client, handlers: int, messages: int) -> tuple[Rate, Rate]:
    with untouched():
        return await on_the_client(client, handlers, messages)


async def publish_bare(producer: pulsar.asyncio.Producer) -> None:
    now = datetime.now(UTC)
    properties = {
        "execution": "1",
        wire.ID: uuid4().hex,
        wire.TIMESTAMP: format_timestamp(now),
        wire.CONTENT_TYPE: "application/json",
    }
    await producer.send(BODY, properties=properties, event_timestamp=int(now.timestamp() * 1000))


async def on_the_client(client: pulsar.asyncio.Client, handlers: int, messages: int) -> tuple[Rate, Rate]:
    """What one writes on the client for the same promises: a subscription that keeps, confirms, acks by hand."""
    topic = f"persistent://public/default/bench-bare-{uuid4().hex[:8]}"
    consumer = await client.subscribe(topic, "s", receiver_queue_size=0, **SHARED)
    await consumer.close()
    producer = await client.create_producer(topic, batching_enabled=False, max_pending_messages=1000)
    await publish_bare(producer)
    published = await in_flight(messages, partial(publish_bare, producer))
    countdown = Countdown(messages)
    consumer = await client.subscribe(topic, "s", receiver_queue_size=PREFETCH, **SHARED)

    async def handle() -> None:
        while True:
            message = await consumer.receive()
            message.data()
            message.properties()
            countdown.one()
            await consumer.acknowledge(message)

    handling = [asyncio.ensure_future(handle()) for _ in range(handlers)]
    consumed = await countdown.rate()
    await consumer.close()
    await asyncio.wait(handling)
    for task in handling:
        task.exception()
    await producer.close()
    return published, consumed


async def publish_ours(provider: QueueProtocol, name: str) -> None:
    await provider.publish(name, QueueMessage(BODY, headers={"execution": "1"}, content_type="application/json"))


async def ours(provider: QueueProtocol, handlers: int, messages: int) -> tuple[Rate, Rate]:
    name = f"bench-ours-{uuid4().hex[:8]}"
    await publish_ours(provider, name)
    published = await in_flight(messages, partial(publish_ours, provider, name))
    countdown = Countdown(messages)

    async def handle(message: QueueMessage) -> None:
        del message
        countdown.one()

    subscription = await provider.subscribe(name, handle, prefetch=PREFETCH, concurrency=handlers)
    consumed = await countdown.rate()
    await subscription.close()
    return published, consumed


async def check_content(client: pulsar.asyncio.Client, provider: QueueProtocol) -> None:
    """Both sides must send the same, but for when and which."""
    name = f"bench-content-{uuid4().hex[:8]}"
    await publish_ours(provider, name)
    naming = PulsarNamingStrategy()
    topic = naming.encode(naming.destination(name))
    producer = await client.create_producer(topic, batching_enabled=False)
    await publish_bare(producer)
    consumer = await client.subscribe(topic, "look", receiver_queue_size=PREFETCH, **SHARED)
    first, second = [_lengths(await consumer.receive()) for _ in range(2)]
    assert first == second, f"the two sides send different messages: {first} and {second}"
    await consumer.close()
    await producer.close()


def _lengths(message: pulsar.Message) -> Any:
    properties = message.properties()
    return message.data(), message.event_timestamp() > 0, {name: len(properties[name]) for name in sorted(properties)}


async def measure(uri: str, handlers: int, options: argparse.Namespace) -> bool:
    client = pulsar.asyncio.Client(uri, logger=pulsar.FileLogger(pulsar.LoggerLevel.Error, os.devnull))
    async with create_queue_provider(uri) as provider:
        await check_content(client, provider)
        runs = {"bare": partial(bare, client, handlers), "ours": partial(ours, provider, handlers)}
        title = f"handlers at once: {handlers}"
        good = await compare(title, runs, options.messages, options.rounds, warm_up=options.warm_up, each=options.each)
    await client.close()
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--uri")
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--handlers", type=int, action="append")
    parser.add_argument("--each", action="store_true", help="print every round")
    options = parser.parse_args()
    with running_server(options.uri, lambda folder: server_module("pulsar").Pulsar(folder)) as uri:
        good = [asyncio.run(measure(uri, handlers, options)) for handlers in options.handlers or (1, 10)]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
