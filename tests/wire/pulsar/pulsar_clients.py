"""The library's client on the simulated broker: the real one over a socket on loopback, and its stand-in in virtual time."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress

import pulsar
import pulsar.asyncio

from factflow_infra_testing.api.pulsar.provider import listening
from factflow_infra_testing.broker import SimulatedBroker
from factflow_infra_testing.simulation.runner import run as run_simulated
from factflow_infra_testing.wire.pulsar.serving import serve

TOPIC = "persistent://public/default/queue.orders"
EARLIEST = pulsar.InitialPosition.Earliest
SHARED = pulsar.ConsumerType.Shared
LIMIT = 10.0
"""Seconds that anything may take, on a busy machine."""


def connect(url, **options):
    options.setdefault("operation_timeout_seconds", 10)
    return pulsar.asyncio.Client(url, logger=pulsar.FileLogger(pulsar.LoggerLevel.Error, "/dev/null"), **options)


class Bench:
    """A broker and a client of it."""

    def __init__(self, broker, url):
        self.broker = broker
        self.url = url
        self.client = connect(url)
        self.kept = []  # a producer or consumer that is collected is closed

    async def producer(self, topic=TOPIC, **options):
        options.setdefault("block_if_queue_full", True)
        options.setdefault("batching_enabled", False)
        return self.keep(await self.client.create_producer(topic, **options))

    async def consumer(self, name="s", kind=SHARED, topic=TOPIC, **options):
        options.setdefault("initial_position", EARLIEST)
        options.setdefault("negative_ack_redelivery_delay_ms", 100)
        return self.keep(await self.client.subscribe(topic, name, kind, **options))

    def keep(self, one):
        self.kept.append(one)
        return one

    def depth(self, name="s", topic=TOPIC):
        return self.broker.broker.depth(f"{topic}#{name}")


@asynccontextmanager
async def bench(**options):
    async with await serve(**options) as server:
        one = Bench(server.broker, server.url)
        try:
            yield one
        finally:
            await asyncio.wait_for(one.client.close(), LIMIT)


async def take(consumer, count):
    """So many messages, as text."""
    return [(await asyncio.wait_for(consumer.receive(), LIMIT)) for _ in range(count)]


def texts(messages):
    """Bodies, each with its redelivery count where there is one: ``1 2r1``."""
    return " ".join(m.data().decode() + (f"r{m.redelivery_count()}" if m.redelivery_count() else "") for m in messages)


async def until(condition):
    """Wait for ``condition``, for ``LIMIT`` seconds at most."""
    async with asyncio.timeout(LIMIT):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in the client's own threads
            await asyncio.sleep(0.01)


async def nothing(consumer, seconds=0.3):
    """That nothing comes for so long. The consumer is of no use afterwards: a cancelled receive swallows a message."""
    try:
        message = await asyncio.wait_for(consumer.receive(), seconds)
    except TimeoutError:
        return True
    raise AssertionError(f"{message.data()!r} came")


class PatientLoop(asyncio.SelectorEventLoop):
    """Bears the client's threads calling back after it was closed, which would end the process."""

    def call_soon_threadsafe(self, callback, *args, context=None):
        with suppress(RuntimeError):
            return super().call_soon_threadsafe(callback, *args, context=context)


def run_loop(body):
    with asyncio.Runner(loop_factory=PatientLoop) as runner:
        runner.run(body)


def on_wire(main, **options):
    """Run ``main(bench)`` with the real client."""

    async def body():
        async with bench(**options) as one:
            await main(one)

    run_loop(body())


def on_api(main):
    """Run ``main(bench)`` with the stand-in."""

    async def body():
        broker = SimulatedBroker("pulsar")
        listening(broker, "broker", exposed=True)
        one = Bench(broker, "pulsar://broker:6650")
        await main(one)
        await one.client.close()

    outcome = run_simulated(body)
    outcome.result()
    assert not outcome.unhandled
    assert not outcome.leftovers


TIERS = {"wire": on_wire, "api": on_api}
