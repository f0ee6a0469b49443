"""Each way of the Artemis provider around stompman's and Artemis' traps, taken out: the simulation shows what is lost then.

With it in, the same search, with the same examples, finds nothing. What stompman's own ``Client`` would do is in
``tests/queue_artemis/test_stompman_pitfalls.py``.
"""

import asyncio
from dataclasses import replace

import pytest
from stomp_harness import StompHarness
from stompman import NackFrame

from factflow_infra.errors import QueueError
from factflow_infra.protocols import ErrorHandling, MessageStatus, QueueMessage
from factflow_infra.queue.artemis import consuming, publishing, transport
from factflow_infra.queue.artemis.consuming import ArtemisConsumer, ArtemisDelivery
from factflow_infra.queue.artemis.heartbeats import Heartbeats
from factflow_infra.queue.artemis.session import Session
from factflow_infra.queue.artemis.topology import MULTICAST, Route, route_of
from factflow_infra_testing.contracts.queue import QUEUE_BEHAVIOURS
from factflow_infra_testing.search.faults import Faults
from factflow_infra_testing.search.search import search

EXAMPLES = 40
HANDLING = ErrorHandling(max_retries=2, retry_delay_seconds=0.5, dead_letter_queue="dead")


def found(scenario, faults, examples=EXAMPLES):
    """What a search on the wire finds, or ``None``."""

    async def on_the_wire(sim):
        sim.tier = "wire"
        await scenario(sim)

    return search(on_the_wire, faults=faults, max_examples=examples, seed=0).finding


def numbered(count):
    return [QueueMessage(b"%d" % n, message_id=f"m{n}") for n in range(count)]


def worker(handle, queue="orders", **how):
    async def run(process):
        provider = process.queue("artemis", heartbeat=10)
        await provider.subscribe(queue, handle, error_handling=HANDLING, **how)
        try:
            await asyncio.Event().wait()
        finally:
            await provider.stop(timeout=1)

    return run


async def accept(_):
    await asyncio.sleep(0.01)


def consumed(*, by=accept):
    async def scenario(sim):
        sim.start(worker(by), name="worker")
        await sim.queue("artemis").publish_batch("orders", numbered(3))
        await sim.drain()
        sim.check.no_loss("orders")

    return scenario


async def produced(sim):
    """A producer whose accepted messages must be there."""
    accepted = []

    async def produce(process):
        provider = process.queue("artemis", heartbeat=10)
        for message in numbered(4):
            while True:
                try:
                    await provider.publish("orders", message)
                    break
                except QueueError:
                    await asyncio.sleep(0.1)
            accepted.append(message.message_id)
        await provider.stop()

    handled = []

    async def handle(message):
        handled.append(message.message_id)

    sim.start(produce, name="producer")
    await sim.sleep(60)
    await sim.drain()
    await sim.queue("artemis").subscribe("orders", handle)
    await sim.drain()
    missing = [one for one in accepted if one not in handled]
    assert not missing, f"accepted and gone: {missing}"


def test_a_send_without_a_receipt_is_lost(monkeypatch):
    faults = Faults.only("publish-lost", "publish-refused")
    assert found(produced, faults) is None

    async def only_written(self, frame):
        await self._write(frame)

    monkeypatch.setattr(publishing, "publish", publishing.publish)
    monkeypatch.setattr(Session, "answered", only_written)
    monkeypatch.setattr(Session, "subscribe", _subscribe_and_hope)
    finding = found(produced, faults)
    assert finding is not None
    assert "accepted and gone" in str(finding.failure)
    assert len(finding.plan) == 1


async def _subscribe_and_hope(self, frame, on_message, what):
    del what
    self._subscriptions[frame.headers["id"]] = on_message
    await self._write(frame)


def test_a_message_that_is_not_persistent_is_lost_with_the_broker(monkeypatch):
    faults = Faults.only("broker-restart")
    assert found(produced, faults) is None
    sent = publishing.send_frame

    def transient(*arguments):
        frame = sent(*arguments)
        del frame.headers["persistent"]
        return frame

    monkeypatch.setattr(publishing, "send_frame", transient)
    finding = found(produced, faults)
    assert finding is not None
    assert "accepted and gone" in str(finding.failure)


def test_a_nack_is_an_ack(monkeypatch):
    """ART-1. Found without any fault: a handler that ends cancelled once."""

    def cancelled_once():
        calls = []

        async def handle(message):
            calls.append(message.message_id)
            if len(calls) == 1:
                raise asyncio.CancelledError

        return handle

    async def scenario(sim):
        await consumed(by=cancelled_once())(sim)

    # Without faults the runs differ in ids and delays only, so a few show as much as all.
    assert found(scenario, Faults.none(), examples=4) is None

    async def nack(self):
        self._settle()
        await self._consumer.session.write(NackFrame(headers={"id": self._ack_id, "subscription": self.subscription}))

    monkeypatch.setattr(ArtemisDelivery, "release", nack)
    finding = found(scenario, Faults.none())
    assert finding is not None
    assert finding.plan == ()


def test_a_half_open_connection_is_never_missed_without_heart_beats(monkeypatch):
    async def scenario(sim):
        provider = sim.queue("artemis", heartbeat=10)
        got = []

        async def handle(message):
            got.append(message.message_id)

        await provider.subscribe("orders", handle)
        network = asyncio.get_running_loop().network
        for end in network.connections(None):
            network.silence(end)
        await sim.sleep(120)
        other = sim.queue("artemis")
        await other.publish("orders", numbered(1)[0])
        await sim.sleep(120)
        assert got == ["m0"], "waits for ever on a connection that has nobody at its other end"

    assert found(scenario, Faults.none()) is None
    monkeypatch.setattr(Heartbeats, "_look", lambda _: None)
    finding = found(scenario, Faults.none())
    assert finding is not None
    assert "waits for ever" in str(finding.failure)


def test_an_ack_sent_on_the_next_connection_ends_that_one(monkeypatch):
    """ART-6: its message is unknown there, and all that is held comes again: for ever, as each handler does it."""

    async def scenario(sim):
        lost = []
        provider = sim.queue("artemis", exposed=True)
        handled = []

        async def handle(message):
            handled.append(message.message_id)
            if len(handled) == 1:
                for consumer in provider.provider._transport._consumers:
                    consumer.session.abort()
                await asyncio.sleep(5)

        await provider.subscribe("orders", handle, error_handling=HANDLING)
        await provider.publish("orders", numbered(1)[0])
        end = Session.end

        def counted(self, reason, **how):
            if reason is not None and not self.lost:
                lost.append(str(reason))
            end(self, reason, **how)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Session, "end", counted)
            await sim.drain()
        await provider.stop()
        assert not [reason for reason in lost if "AMQ3390" in reason], "the broker ended a connection over an ack"

    assert found(scenario, Faults.none()) is None
    last = []
    started = ArtemisConsumer.start

    async def start(self):
        last.append(self)
        await started(self)

    async def ack_anywhere(self):
        await last[-1].session.write(
            consuming.AckFrame(headers={"id": self._ack_id, "subscription": self.subscription})
        )

    monkeypatch.setattr(ArtemisConsumer, "start", start)
    monkeypatch.setattr(ArtemisDelivery, "ack", ack_anywhere)
    monkeypatch.setattr("factflow_infra.queue.subscription.HandlerSubscription._handle", _acks_whatever_became_of_it)
    finding = found(scenario, Faults.none())
    assert finding is not None
    assert "over an ack" in str(finding.failure)


async def _acks_whatever_became_of_it(self, item):
    await self._handler(item.delivery.envelope.message)
    await item.delivery.ack()
    return True


def test_a_connection_that_ends_without_goodbye_leaves_messages_behind(monkeypatch):
    """ART-4: after UNSUBSCRIBE and DISCONNECT nothing is left behind; a closed socket can leave what it held."""
    faults = Faults.only("messages-stranded")

    async def scenario(sim):
        provider = sim.queue("artemis", exposed=True)

        async def never(_):
            await asyncio.Event().wait()

        await provider.publish_batch("orders", numbered(3))
        for _ in range(8):
            subscription = await provider.subscribe("orders", never, prefetch=3)
            await sim.sleep(1)
            await subscription.close(timeout=1)
        assert sim.broker("artemis").broker.stranded == 0, "left behind until the broker restarts"

    assert found(scenario, faults, 30) is None

    async def just_close(self):
        self._on_lost = None
        self.end(None)

    monkeypatch.setattr(Session, "close", just_close)
    finding = found(scenario, faults, 30)
    assert finding is not None
    assert "left behind" in str(finding.failure)


def test_a_retry_to_a_durable_subscription_with_its_topics_type_reaches_all(monkeypatch):
    """ART-13."""

    async def scenario(sim):
        provider = sim.queue("artemis")
        got = []

        async def fails_once(message):
            return MessageStatus.RETRY if message.delivery_count == 1 else None

        async def other(message):
            got.append(message.message_id)

        await provider.subscribe("/topic/news", fails_once, subscription="desk", error_handling=HANDLING)
        await provider.subscribe("/topic/news", other, subscription="archive")
        await provider.publish("/topic/news", numbered(1)[0])
        await sim.drain()
        await provider.publish("/topic/news", QueueMessage(b"x", message_id="next"))
        await sim.drain()
        await provider.stop()
        assert got == ["m0", "next"], got

    assert found(scenario, Faults.none()) is None

    def typed(address):
        route = route_of(address)
        return Route(route.destination, route.routing_type or MULTICAST)

    monkeypatch.setattr(transport, "route_of", typed)
    finding = found(scenario, Faults.none())
    assert finding is not None


def test_a_queue_without_its_type_drops_what_comes_before_its_consumer(monkeypatch):
    """ART-10."""

    async def scenario(sim):
        provider = sim.queue("artemis")
        await provider.publish("orders", numbered(1)[0])
        got = []

        async def handle(message):
            got.append(message.message_id)

        await provider.subscribe("orders", handle)
        await sim.drain()
        assert got == ["m0"], "accepted and gone"

    assert found(scenario, Faults.none()) is None
    monkeypatch.setattr(transport, "route_of", lambda address: Route(route_of(address).destination, None))
    finding = found(scenario, Faults.none())
    assert finding is not None
    assert "accepted and gone" in str(finding.failure)


@pytest.mark.parametrize(
    ("behaviour", "window"),
    [
        ("q6-prefetch-leaves-the-rest-to-others", {"bytes_": 1_000_000}),
        ("q8-stop-lets-running-handlers-finish", {"bytes_": 1, "slots": 0}),
    ],
)
def test_a_window_of_other_bytes_breaks_prefetch_or_concurrency(monkeypatch, behaviour, window):
    harness, row = StompHarness(), QUEUE_BEHAVIOURS[behaviour]
    harness.run(row.check)
    planned = consuming.window_for
    monkeypatch.setattr(consuming, "window_for", lambda *arguments: replace(planned(*arguments), **window))
    with pytest.raises(AssertionError):
        harness.run(row.check)


def test_without_slots_large_messages_leave_handlers_without_work(monkeypatch):
    async def scenario(sim):
        provider = sim.queue("artemis")
        at_once = most = 0

        async def handle(_):
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(5)
            at_once -= 1

        await provider.publish_batch("orders", [QueueMessage(b"x" * 20_000) for _ in range(6)])
        await provider.subscribe("orders", handle, concurrency=4)
        await sim.drain()
        assert most == 4, f"only {most} of 4 handlers had work"

    assert found(scenario, Faults.none()) is None
    monkeypatch.setattr(ArtemisConsumer, "_widen", lambda _: None)
    finding = found(scenario, Faults.none())
    assert finding is not None
    assert "only 1 of 4" in str(finding.failure)


def test_without_a_memory_of_what_was_held_only_the_oldest_is_flagged(monkeypatch):
    """ART-3."""

    async def flags(env):
        queue, provider = env.name(), await env.provider()
        gate, flagged = asyncio.Event(), {}

        async def handle(message):
            await gate.wait()
            flagged[message.message_id] = message.redelivered

        await provider.publish_batch(queue, numbered(3))
        await provider.subscribe(queue, handle)
        await env.settle(1)
        await env.sever(provider)
        gate.set()
        await env.settle(60)
        assert flagged == {"m0": True, "m1": True, "m2": True}

    StompHarness().run(flags)
    monkeypatch.setattr(ArtemisConsumer, "remember", lambda _: None)
    with pytest.raises(AssertionError, match="'m1': False"):
        StompHarness().run(flags)
