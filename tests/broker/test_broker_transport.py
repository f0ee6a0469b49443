"""The model tier's transport: what a client sees of the simulated broker in virtual time, with and without faults."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from factflow_infra.errors import (
    PublishRefusedError,
    PublishUnconfirmedError,
    QueueConnectionError,
    UnroutableError,
)
from factflow_infra.queue.messages import QueueMessage
from factflow_infra.queue.transport import Address, Destination, DestinationKind, Envelope
from factflow_infra_testing.broker.entries import Message
from factflow_infra_testing.broker.faults import BROKER_FAULTS, faults_of
from factflow_infra_testing.broker.lanes import LATENCY
from factflow_infra_testing.broker.profiles import profile_named
from factflow_infra_testing.broker.server import SimulatedBroker
from factflow_infra_testing.broker.transport import SimulatedTransport
from factflow_infra_testing.search.decisions import Fault, PlannedDecisions
from factflow_infra_testing.simulation.loop import DeterministicLoop
from factflow_infra_testing.simulation.owners import OWNER, Owner

ORDERS = Address(Destination(DestinationKind.QUEUE, "orders", "orders"))
NEWS = Destination(DestinationKind.TOPIC, "news", "/topic/news")
HEARTBEAT = 60.0


class Client:
    """A transport, and what happened to it."""

    def __init__(self, broker, name="worker", *, exposed=True):
        self.transport = SimulatedTransport(broker, name, exposed=exposed)
        self.loop = broker.loop
        self.lost = []
        self.got = []
        self.deliveries = []
        self.cancelled = []

    async def connect(self):
        await self.transport.connect(lambda error: self.lost.append((round(self.loop.time(), 3), error)))
        return self

    async def publish(self, *names, to=ORDERS, delay=0.0):
        for name in names:
            await self.transport.publish(to, Envelope(QueueMessage(b"", message_id=name)), delay=delay)

    async def consume(self, address=ORDERS, prefetch=10):
        return await self.transport.consume(
            address,
            prefetch=prefetch,
            concurrency=1,
            on_delivery=self.on_delivery,
            on_cancelled=self.cancelled.append,
        )

    def on_delivery(self, delivery):
        self.deliveries.append(delivery)
        self.got.append(delivery.envelope.message.message_id + ("R" if delivery.redelivered else ""))


def run(scenario, *faults, profile="rabbitmq-classic"):
    """Run ``scenario(broker, laboratory)`` in virtual time; every fault of the plan must have happened."""
    loop = DeterministicLoop()
    decisions = PlannedDecisions(faults)

    async def main():
        broker = SimulatedBroker(profile, decisions)
        return await scenario(broker, await Client(broker, "test", exposed=False).connect())

    try:
        result = loop.run_until_complete(main())
    finally:
        loop.close()
    assert sorted(decisions.deviations) == sorted(faults)
    assert loop.unhandled == []
    return result


def test_a_publish_is_confirmed_and_delivered_after_constant_times():
    async def scenario(broker, lab):
        worker = await Client(broker).connect()
        await worker.consume()
        began = broker.loop.time()
        await lab.publish("1")
        assert broker.loop.time() - began == pytest.approx(2 * LATENCY)
        assert worker.got == ["1"]
        await worker.deliveries[0].ack()
        assert not broker.idle()
        await asyncio.sleep(0.01)
        assert broker.idle()
        assert broker.broker.depth("orders") == 0

    run(scenario)


def test_what_is_sent_in_one_instant_costs_one_event_each_way():
    async def scenario(broker, lab):
        worker = await Client(broker).connect()
        await worker.consume(prefetch=100)
        await asyncio.gather(*(lab.publish(str(n)) for n in range(50)))
        await asyncio.sleep(0)
        before = broker.loop.steps
        for delivery in worker.deliveries:
            await delivery.ack()
        await asyncio.sleep(0.01)
        assert broker.broker.depth("orders") == 0
        assert worker.got == [str(n) for n in range(50)]
        return broker.loop.steps - before

    assert run(scenario) < 10


def test_a_topic_copies_to_every_subscription_and_drops_without_any():
    async def scenario(broker, lab):
        await lab.publish("0", to=Address(NEWS))
        named = Address(NEWS, "audit")
        unnamed = Address(NEWS, "unnamed-1", durable=False)
        first, second = await Client(broker, "first").connect(), await Client(broker, "second").connect()
        await first.consume(named)
        await second.consume(unnamed)
        await lab.publish("1", to=Address(NEWS))
        await asyncio.sleep(0.01)
        assert (first.got, second.got) == (["1"], ["1"])
        await first.transport.close()
        await second.transport.close()
        await lab.publish("2", to=Address(NEWS))
        assert list(broker.broker.queues) == ["/topic/news#audit"]
        assert [message.key for message in broker.broker.ready("/topic/news#audit")] == ["1", "2"]
        with pytest.raises(UnroutableError, match="'/topic/news#'"):
            await lab.publish("3", to=unnamed)
        await lab.publish("4", to=named)
        assert broker.broker.depth("/topic/news#audit") == 3

    run(scenario)


def test_a_delayed_message_joins_the_tail_when_due():
    async def scenario(broker, lab):
        worker = await Client(broker).connect()
        await worker.consume()
        await lab.publish("late", delay=10.0)
        await lab.publish("1", "2")
        assert broker.pending() == [
            "orders: 2 messages unacked by worker ('1', '2'), and there is a live consumer",
            "orders: message 'late' waits for its delay until 10.002 s",
        ]
        await asyncio.sleep(11)
        assert worker.got == ["1", "2", "late"]

    run(scenario)


def test_cancelled_consumers_get_no_more_and_closed_ones_give_back():
    async def scenario(broker, lab):
        worker = await Client(broker).connect()
        consumer = await worker.consume(prefetch=2)
        await lab.publish("1", "2", "3")
        await consumer.cancel()
        await worker.deliveries[0].ack()
        await asyncio.sleep(0.01)
        assert (worker.got, broker.broker.unacked("orders")) == (["1", "2"], 1)
        await consumer.close()
        await consumer.close()
        assert [entry.message.key for entry in broker.broker.queue("orders")] == ["2", "3"]
        other = await Client(broker).connect()
        await other.consume()
        await asyncio.sleep(0.01)
        assert other.got == ["2R", "3"]
        await other.deliveries[0].release()
        await asyncio.sleep(0.01)
        assert other.got == ["2R", "3", "2R"]

    run(scenario)


def test_an_abandoned_consume_locks_nothing():
    async def scenario(broker, lab):
        worker = await Client(broker).connect()
        await lab.publish("1")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(worker.consume(), LATENCY)
        await asyncio.sleep(0.01)
        assert broker.broker.unacked("orders") == 0
        assert worker.got == []

    run(scenario)


def test_a_refused_consume_and_a_deleted_queue():
    async def scenario(broker, lab):
        mine = Address(NEWS, "x", durable=False)
        await lab.consume(mine)
        worker = await Client(broker).connect()
        with pytest.raises(QueueConnectionError, match="RESOURCE_LOCKED"):
            await worker.consume(mine)
        await worker.consume()
        broker.broker.delete_queue("orders")
        broker.flush()
        await asyncio.sleep(0.01)
        assert len(worker.cancelled) == 1
        assert worker.lost == []

    run(scenario)


def test_a_message_that_no_provider_wrote_is_undecodable():
    async def scenario(broker, _lab):
        worker = await Client(broker).connect()
        broker.enqueue("orders", Message("poison", b"\xff"))
        await worker.consume()
        await asyncio.sleep(0.01)
        assert worker.got == ["poison"]
        assert worker.deliveries[0].undecodable == "it was not written by a provider"
        assert worker.deliveries[0].envelope.message.body == b"\xff"

    run(scenario)


def test_publish_refused():
    async def scenario(broker, _lab):
        worker = await Client(broker).connect()
        with pytest.raises(PublishRefusedError, match="'1' for 'orders'"):
            await worker.publish("1")
        await worker.publish("2")
        assert [message.key for message in broker.broker.ready("orders")] == ["2"]
        assert worker.lost == []

    run(scenario, Fault("publish-refused", "orders", 1))


@pytest.mark.parametrize(("kind", "taken"), [("publish-lost", []), ("confirm-lost", ["1"])])
def test_publish_lost_and_confirm_lost_look_the_same_from_outside(kind, taken):
    async def scenario(broker, _lab):
        worker = await Client(broker).connect()
        with pytest.raises(PublishUnconfirmedError, match="'1'"):
            await worker.publish("1")
        assert len(worker.lost) == 1
        with pytest.raises(QueueConnectionError):
            await worker.publish("2")
        await worker.connect()
        await worker.publish("3")
        assert [message.key for message in broker.broker.ready("orders")] == [*taken, "3"]

    run(scenario, Fault(kind, "orders", 1))


def test_confirm_delayed_leaves_the_message_there_and_the_line_open():
    async def scenario(broker, _lab):
        worker = await Client(broker).connect()
        slow = asyncio.ensure_future(worker.publish("1"))
        await asyncio.sleep(0)
        await worker.publish("2")
        assert not slow.done()
        assert broker.broker.depth("orders") == 2
        assert not broker.idle()
        await slow
        assert broker.loop.time() == pytest.approx(45.0, abs=0.01)

    run(scenario, Fault("confirm-delayed", "orders", 1, 3))


def test_ack_lost_brings_the_message_again_with_all_that_was_held():
    async def scenario(broker, lab):
        worker = await Client(broker).connect()
        await worker.consume()
        await lab.publish("1", "2", "3")
        await asyncio.sleep(0.01)
        await worker.deliveries[0].ack()
        await worker.deliveries[1].ack()
        await asyncio.sleep(0.01)
        assert len(worker.lost) == 1
        with pytest.raises(QueueConnectionError):
            await worker.deliveries[2].ack()
        await worker.connect()
        await worker.consume()
        await asyncio.sleep(0.01)
        assert worker.got == ["1", "2", "3", "2R", "3R"]

    run(scenario, Fault("ack-lost", "orders", 2))


def test_delivery_delayed_keeps_the_order():
    async def scenario(broker, lab):
        worker = await Client(broker).connect()
        await worker.consume()
        await lab.publish("1", "2", "3")
        await asyncio.sleep(0.9)
        assert worker.got == ["1"]
        await asyncio.sleep(0.2)
        assert worker.got == ["1", "2", "3"]

    run(scenario, Fault("delivery-delayed", "orders", 2, 2))


@pytest.mark.parametrize(("choice", "seen"), [(1, ["1"]), (2, ["1", "2"])])
def test_reset_before_or_after_a_delivery(choice, seen):
    async def scenario(broker, lab):
        worker = await Client(broker).connect()
        await worker.consume()
        await asyncio.gather(*(lab.publish(name) for name in "123"))
        await asyncio.sleep(0.01)
        assert worker.got == seen
        assert len(worker.lost) == 1
        assert [entry.redelivered for entry in broker.broker.queue("orders")] == [True, True, True]
        assert lab.lost == []

    run(scenario, Fault("reset", "orders", 2, choice))


@pytest.mark.parametrize(
    ("fault", "seen", "broker_notices", "client_notices"),
    [
        (Fault("half-open", "orders", 1, 1), [], HEARTBEAT, 1.5 * HEARTBEAT),
        (Fault("half-open", "orders", 1, 2), [], 1.5 * HEARTBEAT, HEARTBEAT),
        (Fault("consumer-paused", "orders", 1), ["1"], HEARTBEAT, 1.5 * HEARTBEAT),
    ],
)
def test_a_silent_connection_is_noticed_at_each_end_in_its_own_time(fault, seen, broker_notices, client_notices):
    async def scenario(broker, lab):
        worker, other = await Client(broker).connect(), await Client(broker, "other", exposed=False).connect()
        await worker.consume()
        await lab.publish("1")
        await other.consume()
        await asyncio.sleep(1)
        assert worker.got == seen
        pending = asyncio.ensure_future(worker.publish("2"))
        for delivery in worker.deliveries:
            await delivery.ack()  # into the void, and the client cannot know
        assert not broker.idle()
        await asyncio.sleep(broker_notices - 2)
        assert other.got == []
        await asyncio.sleep(2)
        assert other.got == ["1R"]
        with pytest.raises(PublishUnconfirmedError):
            await pending
        assert [when for when, _ in worker.lost] == [pytest.approx(client_notices, abs=0.01)]
        assert broker.broker.ready("orders") == []

    run(scenario, fault)


@pytest.mark.parametrize(
    ("choice", "profile", "expected"),
    [
        (1, "rabbitmq-classic", ["1R", "2"]),
        (2, "rabbitmq-classic", ["1R", "2R"]),
        (1, "rabbitmq-quorum", ["1R", "2"]),
        (2, "rabbitmq-quorum", ["1R", "2"]),
    ],
)
def test_broker_restart_loses_connections_and_keeps_messages(choice, profile, expected):
    async def scenario(broker, lab):
        await lab.publish("1", "2")
        worker = await Client(broker).connect()
        await worker.consume(prefetch=1)
        await asyncio.sleep(0.01)
        assert len(worker.lost) == 1
        with pytest.raises(QueueConnectionError, match="not running"):
            await worker.connect()
        publish = asyncio.ensure_future(lab.publish("3"))
        await asyncio.sleep(broker.downtime)
        await publish
        assert lab.lost == []
        worker.got.clear()
        await worker.connect()
        await worker.consume()
        await asyncio.sleep(0.01)
        assert worker.got == [*expected, "3"]

    run(scenario, Fault("broker-restart", "orders", 1, choice), profile=profile)


def test_broker_restart_at_a_publish_leaves_it_unconfirmed_and_taken():
    async def scenario(broker, _lab):
        worker = await Client(broker).connect()
        with pytest.raises(PublishUnconfirmedError):
            await worker.publish("1")
        assert broker.broker.depth("orders") == 1

    run(scenario, Fault("broker-restart", "orders", 1))


def test_a_restart_by_the_test_loses_its_own_connections_too():
    async def scenario(broker, lab):
        broker.restart()
        await asyncio.sleep(0.01)
        assert len(lab.lost) == 1

    run(scenario)


def test_duplicate_is_the_producers_second_copy():
    async def scenario(broker, lab):
        worker = await Client(broker).connect()
        await worker.consume()
        await lab.publish("1", "2")
        await asyncio.sleep(0.01)
        assert sorted(worker.got) == ["1", "1", "2"]

    run(scenario, Fault("duplicate", "orders", 1))


def test_a_kill_lets_arrive_what_was_sent():
    async def scenario(broker, lab):
        loop = broker.loop
        await lab.publish("1", "2")
        owner = Owner("worker")
        worker = Client(broker)

        async def process():
            await worker.connect()
            await worker.consume()
            await asyncio.sleep(0.01)
            await worker.deliveries[0].ack()
            sent.set()
            await worker.publish("3")

        sent = asyncio.Event()
        context = contextvars.copy_context()
        context.run(OWNER.set, owner)
        task = loop.create_task(process(), context=context)
        await sent.wait()
        assert broker.broker.unacked("orders") == 2, "the ack and the publish are on their way"
        loop.kill(owner)
        broker.drop_client("worker")
        await asyncio.sleep(0.01)
        assert not task.done()
        assert broker.idle()
        assert [(e.message.key, e.redelivered) for e in broker.broker.queue("orders")] == [("2", True), ("3", True)]

    run(scenario)


def test_a_broker_that_a_process_was_the_first_to_use_outlives_it():
    loop = DeterministicLoop()
    owner, found = Owner("worker"), []

    async def process():
        broker = SimulatedBroker()
        found.append(broker)
        worker = await Client(broker).connect()
        await worker.publish("1", delay=5.0)
        await worker.consume()
        await loop.create_future()

    async def main():
        context = contextvars.copy_context()
        context.run(OWNER.set, owner)
        loop.create_task(process(), context=context)
        await asyncio.sleep(1)
        loop.kill(owner)
        broker = found[0]
        broker.drop_client("worker")
        lab = await Client(broker, "test", exposed=False).connect()
        await lab.consume()
        await asyncio.sleep(10)
        assert lab.got == ["1"]

    loop.run_until_complete(main())
    loop.close()


@pytest.mark.parametrize("silent", [False, True])
def test_the_broker_notices_a_dead_client_at_once_or_after_its_heartbeat(silent):
    async def scenario(broker, lab):
        worker = await Client(broker).connect()
        await worker.consume()
        await lab.publish("1")
        await asyncio.sleep(0.01)
        broker.drop_client("worker", silent=silent)
        await asyncio.sleep(HEARTBEAT - 1)
        assert broker.broker.unacked("orders") == int(silent)
        assert broker.idle() is not silent
        await asyncio.sleep(2)
        assert broker.broker.unacked("orders") == 0
        assert worker.lost == []

    run(scenario)


def test_a_client_that_stands_still_past_its_heartbeat_is_given_up():
    async def scenario(broker, lab):
        worker = await Client(broker).connect()
        await worker.consume()
        await lab.publish("1")
        await asyncio.sleep(0.01)
        broker.stall_client("worker", HEARTBEAT - 1)
        broker.stall_client("worker", HEARTBEAT + 20)
        await asyncio.sleep(HEARTBEAT + 1)
        assert (broker.broker.unacked("orders"), worker.lost) == (0, [])
        await asyncio.sleep(30)
        assert [when for when, _ in worker.lost] == [pytest.approx(HEARTBEAT + 20, abs=0.1)]

    run(scenario)


def test_close_is_bounded_while_the_line_is_silent():
    async def scenario(broker, lab):
        worker = await Client(broker).connect()
        await worker.consume()
        await lab.publish("1")
        await asyncio.sleep(0.01)
        began = broker.loop.time()
        await worker.transport.close()
        await worker.transport.close()
        assert broker.loop.time() - began == pytest.approx(5.0)
        assert worker.lost == []
        await asyncio.sleep(2 * HEARTBEAT)
        assert broker.broker.unacked("orders") == 0
        assert broker.idle()

    run(scenario, Fault("half-open", "orders", 1))


def test_no_fault_meets_the_tests_own_clients():
    async def scenario(_broker, lab):
        await lab.consume()
        await lab.publish("1", "2")
        for delivery in lab.deliveries:
            await delivery.ack()
        await asyncio.sleep(0.01)
        assert lab.got == ["1", "2"]
        assert lab.lost == []

    loop = DeterministicLoop()

    async def main(decisions):
        broker = SimulatedBroker("rabbitmq", decisions)
        await scenario(broker, await Client(broker, "test", exposed=False).connect())

    decisions = PlannedDecisions(Fault(kind, "orders", 1) for kind in BROKER_FAULTS)
    loop.run_until_complete(main(decisions))
    loop.close()
    assert decisions.deviations == []


def test_events_tell_what_the_broker_did():
    async def scenario(broker, lab):
        events = []
        broker.observe(events.append)
        worker = await Client(broker).connect()
        await worker.consume()
        await lab.publish("1")
        await asyncio.sleep(0.01)
        await worker.deliveries[0].ack()
        await asyncio.sleep(0.01)
        await worker.connect()
        await worker.consume()
        await asyncio.sleep(0.01)
        await worker.deliveries[1].ack()
        await asyncio.sleep(0.01)
        told = [(e.kind, e.queue, e.key, e.client, e.redelivered, e.count, e.reason) for e in events]
        assert told == [
            ("accepted", "orders", "1", "test", False, None, ""),
            ("delivered", "orders", "1", "worker", False, 1, ""),
            ("fault", "orders", "1", "worker", False, None, "ack-lost"),
            ("requeued", "orders", "1", "worker", True, None, ""),
            ("delivered", "orders", "1", "worker", True, 2, ""),
            ("acked", "orders", "1", "worker", True, None, ""),
        ]
        assert len({event.entry for event in events if event.entry}) == 1

    run(scenario, Fault("ack-lost", "orders", 1), profile="rabbitmq-quorum")


def test_the_table_of_faults():
    kinds = [*BROKER_FAULTS]
    assert faults_of(profile_named("artemis")) == tuple(kinds)
    kinds.remove("messages-stranded")
    assert faults_of(profile_named("rabbitmq")) == tuple(kinds)
    for name, kind in BROKER_FAULTS.items():
        assert kind.kind == name
        assert kind.meaning
