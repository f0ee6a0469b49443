"""The checks on whole runs: what is right is not called broken, whichever way the messages came and went."""

import asyncio

import aio_pika
import pytest
from simulated_runs import forever, message, passing, run_once

from factflow_infra.protocols import ErrorHandling
from factflow_infra_testing.errors import KitUsageError
from factflow_infra_testing.history.checkers import Judgement
from factflow_infra_testing.simulation.checks import CheckFailedError

AT_ONCE = ErrorHandling(max_retries=0, dead_letter_queue="orders.dead")


@pytest.mark.parametrize("asked", [None, "workers"])
def test_a_named_subscriber_of_a_queue_handles_the_queues_messages(asked):
    async def worker(process):
        async def handle(received):
            if received.message_id == "bad":
                raise OSError

        await process.queue().subscribe("orders", handle, subscription="workers", error_handling=AT_ONCE)
        await forever()

    async def scenario(sim):
        sim.start(worker, name="worker")
        for name in ("good", "bad"):
            await sim.queue().publish("orders", message(name))
        await sim.drain()
        assert [op.target for op in sim.history.of("handle")] == ["orders", "orders"]
        assert sim.check.no_loss("orders", subscription=asked).judgement is Judgement.PASS
        assert sim.check.bounded_redelivery("orders", max_retries=0, subscription=asked).judgement is Judgement.PASS
        sim.check.queue("orders", subscription=asked)

    passing(scenario)


def test_a_dead_letter_is_no_phantom_to_who_handles_it():
    async def worker(process):
        async def fail(_):
            raise OSError

        async def look(_):
            pass

        queue = process.queue()
        await queue.subscribe("orders", fail, error_handling=AT_ONCE)
        await queue.subscribe("orders.dead", look)
        await forever()

    async def scenario(sim):
        sim.start(worker, name="worker")
        await sim.queue().publish("orders", message("a"))
        await sim.drain()
        assert [op.target for op in sim.history.of("handle")] == ["orders", "orders.dead"]
        assert sim.check.no_phantom("orders.dead").judgement is Judgement.PASS

    passing(scenario)


def test_what_a_client_of_ones_own_has_sent_is_not_called_a_phantom():
    async def producer(_, uri):
        connection = await aio_pika.connect(uri)
        channel = await connection.channel()
        await channel.declare_queue("orders", durable=True, arguments={"x-queue-type": "quorum"})
        await channel.default_exchange.publish(aio_pika.Message(b"a", message_id="a"), "orders")
        await forever()

    async def worker(process):
        async def handle(_):
            pass

        await process.queue("rabbitmq", tier="wire").subscribe("orders", handle)
        await forever()

    async def scenario(sim):
        uri = sim.uri("rabbitmq")
        sim.start(worker, name="worker")
        sim.start(lambda process: producer(process, uri), name="producer")
        await sim.drain()
        assert [op.key for op in sim.history.of("handle")] == ["a"]
        assert sim.check.no_phantom("orders").judgement is Judgement.UNKNOWN

    passing(scenario)


def test_what_came_back_before_it_was_first_handled_has_no_order_to_keep():
    async def scenario(sim):
        async def dawdle(_):
            await sim.sleep(5)

        async def handle(_):
            pass

        queue = sim.queue()
        closing = await queue.subscribe("orders", dawdle, prefetch=3)
        for name in "abcd":
            await queue.publish("orders", message(name))
        await sim.sleep(1)
        await closing.close()  # beside the handler of a the others are given back: they stand behind d (RMQ-41)
        await queue.subscribe("orders", handle)
        await sim.drain()
        assert [op.key for op in sim.history.of("handle")] == ["a", "d", "b", "c"]
        assert sim.check.fifo_per_key("orders").judgement is Judgement.PASS

    passing(scenario)


@pytest.mark.parametrize("crash", [False, True])
def test_a_broker_that_the_test_crashes_may_flag_what_it_kept(crash):
    async def worker(process):
        async def handle(_):
            await asyncio.sleep(5)

        await process.queue("rabbitmq-classic").subscribe("orders", handle, prefetch=1)
        await forever()

    async def scenario(sim):
        sim.start(worker, name="worker")
        for name in "abc":
            await sim.queue("rabbitmq-classic").publish("orders", message(name))
        await sim.sleep(1)
        sim.broker("rabbitmq-classic").restart(crash=crash)
        await sim.drain()
        sim.check.queue("orders")
        assert [op.detail for op in sim.history.of("fault")] == ["broker-restart"]

    passing(scenario)


@pytest.mark.parametrize("how", ["restart", "disconnect", "fail_over"])
def test_what_the_test_does_to_a_broker_is_in_the_history_and_excuses_a_crash(how):
    async def fragile(process):
        queue = process.queue()
        await queue.publish("orders", message("a"))
        for _ in range(60):
            await asyncio.sleep(1)
            if not queue.health().connected:
                raise OSError("it is gone")

    async def scenario(sim):
        process = sim.start(fragile, name="worker")
        await sim.sleep(5)
        arguments = {"disconnect": ["worker"], "fail_over": ["rabbitmq-quorum"]}.get(how, [])
        getattr(sim.broker(), how)(*arguments)
        await sim.sleep(10)
        assert process.lives > 1

    told = {"restart": "broker-restart", "disconnect": "reset", "fail_over": "failover"}
    record = passing(scenario)
    assert [op.detail for op in record.history.of("fault")] == [told[how]]


class Altering:
    """A storage that keeps another thing than it was given, and never says otherwise."""

    def __init__(self, inner, alter):
        self.inner = inner
        self.alter = alter

    def __getattr__(self, name):
        return getattr(self.inner, name)

    async def write(self, key, data, metadata=None, **options):
        return await self.inner.write(key, *self.alter(data, metadata), **options)


async def pieces():
    yield b"on"
    yield b"e"


async def shortened(data):
    yield (b"".join([piece async for piece in data]))[:-1]


@pytest.mark.parametrize("kind", ["filesystem", "s3"])
@pytest.mark.parametrize(
    ("data", "alter"),
    [
        (b"one", lambda data, metadata: (data, metadata)),
        (b"one", lambda data, metadata: (data[:-1], metadata)),
        (b"one", lambda data, _: (data, {"route_id": "r"})),
        (pieces, lambda data, metadata: (data, metadata)),
        (pieces, lambda data, metadata: (shortened(data), metadata)),
    ],
)
def test_what_is_read_is_compared_with_what_was_asked_for_not_with_what_was_told(kind, data, alter):
    async def scenario(sim):
        storage = sim.storage(kind)
        storage.provider = Altering(storage.provider, alter)
        metadata = {"route_id": "r", "lineage_id": "l"}
        await storage.write("k", data() if callable(data) else data, metadata, content_type="text/plain")
        await storage.get("k")
        await sim.drain()
        sim.check.storage(kind)

    honest = alter(b"one", {"lineage_id": "l"}) == (b"one", {"lineage_id": "l"})
    failure = run_once(scenario).failure
    assert (failure is None) == honest, failure


def bridge_between(one, other, *, loses=()):
    """A service that takes from ``orders`` on one broker, and publishes to ``orders`` on the other."""

    async def bridge(process):
        here, there = process.queue(one), process.queue(other)

        async def pass_on(received):
            await there.publish("orders", received)

        async def handle(received):
            if received.message_id in loses:
                await asyncio.sleep(1e9)

        await here.subscribe("orders", pass_on)
        await there.subscribe("orders", handle, concurrency=3)
        await forever()

    return bridge


def test_queues_of_one_name_on_two_brokers_are_judged_one_by_one():
    async def scenario(sim):
        sim.start(bridge_between("rabbitmq", "artemis"), name="bridge")
        for name in "abc":
            await sim.queue("rabbitmq").publish("orders", message(name))
        await sim.drain()
        with pytest.raises(KitUsageError, match="on rabbitmq-quorum and artemis: say which"):
            sim.check.no_loss("orders")
        for profile in ("rabbitmq", "artemis"):
            sim.check.queue("orders", profile=profile)
            assert sim.check.fifo_per_key("orders", profile=profile).judgement is Judgement.PASS
            assert sim.check.in_flight_cap("orders", 3, profile=profile).judgement is Judgement.PASS

    passing(scenario)


def test_what_one_broker_lost_is_not_made_up_for_by_the_other():
    async def scenario(sim):
        sim.start(bridge_between("rabbitmq", "artemis", loses=["b"]), name="bridge", restart=False)
        for name in "abc":
            await sim.queue("rabbitmq").publish("orders", message(name))
        await sim.sleep(5)
        sim.processes()["bridge"].kill()
        await sim.sleep(120)
        sim.broker("artemis").purge("orders")
        await sim.drain()
        sim.check.no_loss("orders", profile="rabbitmq")
        with pytest.raises(CheckFailedError, match="'b'"):
            sim.check.no_loss("orders", profile="artemis")

    passing(scenario)
