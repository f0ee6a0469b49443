"""``RabbitMqQueueProvider`` against bare aio-pika doing the same work, on one real RabbitMQ: messages a second, and ratios.

    python tests/benchmarks/rabbitmq.py [--uri amqp://guest:guest@127.0.0.1/] [--queue-type quorum] [--rounds 7]

Without ``--uri`` a throw-away RabbitMQ is started. The work: publish persistent, mandatory, confirmed messages of 256 bytes
with 100 in flight; consume them with the same prefetch, one ack each. Rounds of both alternate in one process, the order
changing each round, so that a slow moment of the machine meets both. The ratio of the medians counts, and that of CPU time
beside it, which other processes disturb less.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import aio_pika

from factflow_infra import create_queue_provider
from factflow_infra.queue.messages import QueueMessage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

IN_FLIGHT = 100
PREFETCH = 100
BODY = b"x" * 256
WANTED = 0.85


@dataclass
class Rate:
    """Messages a second of wall time, and of this process' CPU time."""

    wall: float
    cpu: float


class Meter:
    """Measures one stretch of work."""

    def __init__(self, messages: int) -> None:
        self._messages = messages
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def rate(self) -> Rate:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return Rate(self._messages / wall, self._messages / cpu)


async def in_flight(messages: int, publish: Callable[[], Awaitable[object]]) -> Rate:
    numbers = iter(range(messages))

    async def work() -> None:
        for _ in numbers:
            await publish()

    meter = Meter(messages)
    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return meter.rate()


class Countdown:
    def __init__(self, messages: int) -> None:
        self._left = messages
        self.over = asyncio.Event()

    def one(self) -> None:
        self._left -= 1
        if not self._left:
            self.over.set()


async def bare(uri: str, queue_type: str, messages: int) -> tuple[Rate, Rate]:
    """What one writes on aio-pika for the same promises: confirms, mandatory with returns raised, manual acks."""
    connection = await aio_pika.connect(uri)
    channel = await connection.channel(on_return_raises=True)
    name = f"bench-bare-{uuid4().hex[:8]}"
    queue = await channel.declare_queue(name, durable=True, arguments={"x-queue-type": queue_type})

    async def publish() -> None:
        message = aio_pika.Message(
            BODY,
            message_id=uuid4().hex,
            headers={"execution": "1"},
            content_type="application/json",
            timestamp=datetime.now(UTC),
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        await channel.default_exchange.publish(message, routing_key=name, mandatory=True)

    published = await in_flight(messages, publish)
    countdown = Countdown(messages)

    async def handle(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        await message.ack()
        countdown.one()

    await channel.set_qos(prefetch_count=PREFETCH)
    meter = Meter(messages)
    tag = await queue.consume(handle)
    await countdown.over.wait()
    consumed = meter.rate()
    await queue.cancel(tag)
    await queue.delete(if_unused=False, if_empty=False)
    await connection.close()
    return published, consumed


async def ours(uri: str, queue_type: str, messages: int) -> tuple[Rate, Rate]:
    name = f"bench-ours-{uuid4().hex[:8]}"
    async with create_queue_provider(uri, queue_type=queue_type) as provider:

        async def publish() -> None:
            await provider.publish(
                name, QueueMessage(BODY, headers={"execution": "1"}, content_type="application/json")
            )

        published = await in_flight(messages, publish)
        countdown = Countdown(messages)

        async def handle(message: QueueMessage) -> None:
            del message
            countdown.one()

        meter = Meter(messages)
        await provider.subscribe(name, handle, prefetch=PREFETCH, concurrency=10)
        await countdown.over.wait()
        consumed = meter.rate()
    connection = await aio_pika.connect(uri)
    async with connection:
        await (await connection.channel()).queue_delete(name)
    return published, consumed


async def compare(uri: str, queue_type: str, messages: int, rounds: int) -> bool:
    print(f"{queue_type} queue, {messages} messages a round, {rounds} rounds; messages/s")
    results: dict[str, list[tuple[Rate, Rate]]] = {"bare": [], "ours": []}
    runs = {"bare": bare, "ours": ours}
    await bare(uri, queue_type, messages // 4)
    await ours(uri, queue_type, messages // 4)
    for number in range(rounds):
        for name in ("bare", "ours") if number % 2 else ("ours", "bare"):
            results[name].append(await runs[name](uri, queue_type, messages))
    good = True
    for position, work in enumerate(("publish, 100 in flight", "consume and ack")):
        wall = {name: statistics.median(pair[position].wall for pair in pairs) for name, pairs in results.items()}
        cpu = {name: statistics.median(pair[position].cpu for pair in pairs) for name, pairs in results.items()}
        ratio, cpu_ratio = wall["ours"] / wall["bare"], cpu["ours"] / cpu["bare"]
        good &= ratio >= WANTED
        print(
            f"{work:24} bare {wall['bare']:8,.0f}   ours {wall['ours']:8,.0f}   ratio {ratio:.2f}   by CPU {cpu_ratio:.2f}"
        )
    return good


@contextmanager
def running_server(uri: str | None) -> Iterator[str]:
    if uri is not None:
        yield uri
        return
    path = Path(__file__).parents[1] / "live" / "servers" / "rabbitmq.py"
    spec = importlib.util.spec_from_file_location("bench_rabbitmq_server", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with tempfile.TemporaryDirectory() as folder:
        server = module.RabbitMq(Path(folder))
        server.start()
        try:
            yield server.uri
        finally:
            server.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--uri")
    parser.add_argument("--queue-type", choices=["quorum", "classic"], action="append")
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    good = True
    with running_server(options.uri) as uri:
        for queue_type in options.queue_type or ["quorum", "classic"]:
            good &= asyncio.run(compare(uri, queue_type, options.messages, options.rounds))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
