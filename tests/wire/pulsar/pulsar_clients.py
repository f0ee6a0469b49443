"""The library's client on the simulated broker: the real one over a socket on loopback, and its stand-in in virtual time."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace

import pulsar
import pulsar.asyncio

from factflow_infra_testing.api.pulsar.provider import attach, listening
from factflow_infra_testing.broker import SimulatedBroker
from factflow_infra_testing.simulation.runner import run as run_simulated
from factflow_infra_testing.wire.pulsar.commands import CODEC
from factflow_infra_testing.wire.pulsar.frames import write_frame
from factflow_infra_testing.wire.serving import serve

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


def url_of(server):
    return f"pulsar://127.0.0.1:{server.port}"


@asynccontextmanager
async def bench():
    async with await serve(profile="pulsar") as server:
        one = Bench(server.broker, url_of(server))
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
    async def whole():
        try:
            return await body
        finally:
            await asyncio.sleep(0.02)  # connections that were cut are closed by the loop

    with asyncio.Runner(loop_factory=PatientLoop) as runner:
        return runner.run(whole())


def on_wire(main):
    """Run ``main(bench)`` with the real client."""

    async def body():
        async with bench() as one:
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


class Gate:
    """A proxy in front of a broker, whose connections can be dropped. ``url`` is where a client goes."""

    def __init__(self, host, port):
        self._target = (host, port)
        self._writers = {}
        self._tasks = set()
        self._server = None

    @classmethod
    async def open(cls, url):
        host, port = url.removeprefix("pulsar://").split(":")
        gate = cls(host, int(port))
        gate._server = await asyncio.start_server(gate._connected, "127.0.0.1", 0)
        gate.url = f"pulsar://127.0.0.1:{gate._server.sockets[0].getsockname()[1]}"
        return gate

    async def _connected(self, reader, writer):
        there, back = await asyncio.open_connection(*self._target)
        self._writers[writer] = self._writers[back] = None
        first = asyncio.create_task(self._pass(reader, back, lambda data: data))
        second = asyncio.create_task(self._pass(there, writer, self._Diverting(self.url)))
        for task in (first, second):
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    class _Diverting:
        """Has every lookup answered with the proxy's own address: else clients go past it."""

        def __init__(self, url):
            self._url = url
            self._data = b""

        def __call__(self, data):
            self._data += data
            out = b""
            while len(self._data) >= 4 and len(self._data) >= (size := 4 + int.from_bytes(self._data[:4], "big")):
                frame, self._data = self._data[:size], self._data[size:]
                command = CODEC.decode("BaseCommand", frame[8 : 8 + int.from_bytes(frame[4:8], "big")])
                if "lookup_response" in command:
                    answer = {**command["lookup_response"], "brokerServiceUrl": self._url}
                    frame = write_frame("lookup_response", answer)
                out += frame
            return out

    async def _pass(self, reader, writer, through):
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(through(data))
                await writer.drain()
        writer.close()

    def drop(self):
        writers, self._writers = self._writers, {}
        for writer in writers:
            writer.transport.abort()

    async def close(self):
        self.drop()
        self._server.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class ApiGate:
    """The same for the stand-in: an address of its own, at which its connections have a name of their own."""

    def __init__(self, broker, front_end, number):
        self._broker = broker
        self._name = f"client-{number}"
        attach(front_end, self._name, exposed=True, client=self._name)
        self.url = f"pulsar://{self._name}:6650"

    def drop(self):
        self._broker.disconnect(self._name)

    async def close(self):
        """Nothing is left."""


def api_bench(main):
    """What ``main(bench)`` gives, in virtual time; ``bench.gate`` makes gates."""

    async def body():
        broker = SimulatedBroker("pulsar")
        front_end = listening(broker, "broker", exposed=True)
        numbers = itertools.count()

        async def gate(url):
            del url
            return ApiGate(broker, front_end, next(numbers))

        return await main(SimpleNamespace(gate=gate, url="pulsar://broker:6650"))

    return run_simulated(body).result()


def wire_bench(main):
    """What ``main(bench)`` gives, on the served broker."""

    async def body():
        async with await serve(profile="pulsar") as server:
            return await main(SimpleNamespace(url=url_of(server)))

    return run_loop(body())
