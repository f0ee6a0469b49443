"""Each way of the provider around the client's and Pulsar's traps that the API tier can show, in place and taken out.

Those that need the C++ client, its threads or a real broker are in ``tests/live/test_live_pulsar_ablations.py`` and
``test_live_pulsar_processes.py``; docs/pulsar.md has the list.
"""

from __future__ import annotations

import asyncio

import pulsar
import pulsar.asyncio
import pytest
from pulsar_clients import connect
from pulsar_harness import URI, WORK, simulated

from factflow_infra.errors import QueueConnectionError, TopologyMismatchError
from factflow_infra.queue.messages import ErrorHandling, MessageStatus, QueueMessage
from factflow_infra.queue.pulsar import PulsarQueueProvider, transport, wire
from factflow_infra.queue.pulsar.client import PulsarOptions
from factflow_infra.queue.pulsar.topics import Topics
from factflow_infra.queue.pulsar.transport import PulsarTransport
from factflow_infra.queue.settings import QueueSettings
from factflow_infra.queue.settler import Settler
from factflow_infra.queue.settling import Ack
from factflow_infra.queue.transport import Envelope

TOPIC = "persistent://public/default/queue.work"


def now():
    return asyncio.get_running_loop().time()


def provider(**settings):
    return PulsarQueueProvider(QueueSettings(uri=URI, **settings))


async def connected():
    one = PulsarTransport(PulsarOptions(service_url=URI))
    await one.connect(lambda _: None)
    return one


async def consumer(one, deliveries):
    return await one.consume(
        WORK, prefetch=50, concurrency=20, on_delivery=deliveries.append, on_cancelled=lambda _: None
    )


def bodies(deliveries):
    return [one.envelope.message.body for one in deliveries]


# The timer that each nack restarts


async def first_retry():
    """Seconds until the first message is tried again, while others fail every 30 ms for 8 s."""
    begun, seen, again = now(), set(), []

    async def fail(message):
        if message.message_id in seen:
            again.append(now() - begun)
            return MessageStatus.ACK
        seen.add(message.message_id)
        return MessageStatus.RETRY

    async with provider() as queue:
        handling = ErrorHandling(max_retries=None, retry_delay_seconds=0.5)
        await queue.subscribe("work", fail, error_handling=handling)
        for _ in range(270):
            await queue.publish("work", QueueMessage(b"x"))
            await asyncio.sleep(0.03)
        await asyncio.sleep(5)
    return again[0]


def test_a_retry_by_a_copy_waits_for_no_other(monkeypatch):
    """PUL-53: a retry by a nack waits until no other message has been nacked for a while."""

    async def nack(_, item, decision):
        await (item.delivery.ack() if isinstance(decision, Ack) else item.delivery.release())
        return True

    assert simulated(first_retry) < 2
    monkeypatch.setattr(Settler, "try_once", nack)
    assert simulated(first_retry) > 8


# Batches


@pytest.fixture
def batches(monkeypatch):
    """The client's own default."""
    original = pulsar.asyncio.Client.create_producer

    async def create(self, topic, **options):
        return await original(self, topic, **{**options, "batching_enabled": True})

    return lambda: monkeypatch.setattr(pulsar.asyncio.Client, "create_producer", create)


async def given_back():
    """What comes again when the second of three messages is given back and the others are acked."""
    one, deliveries = await connected(), []
    await consumer(one, deliveries)
    await asyncio.gather(*(one.publish(WORK, Envelope(QueueMessage(b"%d" % n))) for n in range(3)))
    await asyncio.sleep(0.5)
    first = list(deliveries)
    deliveries.clear()
    await first[0].ack()
    await first[1].release()
    await first[2].ack()
    await asyncio.sleep(2)
    await one.close()
    return bodies(deliveries)


async def lone_publish():
    """Milliseconds for one message."""
    one = await connected()
    await one.publish(WORK, Envelope(QueueMessage(b"opens the producer")))
    begun = now()
    await one.publish(WORK, Envelope(QueueMessage(b"x")))
    taken = (now() - begun) * 1000
    await one.close()
    return taken


def test_without_batches_a_message_is_given_back_and_waits_alone(batches):
    """PUL-6 and PUL-24."""
    assert simulated(given_back) == [b"1"]
    assert simulated(lone_publish) < 10
    batches()
    assert simulated(given_back) == [b"0", b"1", b"2"]
    assert simulated(lone_publish) >= 10


# Counts that the broker forgets


async def handlings():
    """How often a message that fails is handled, over five subscriptions of a second each."""
    handled = 0

    async def fail(_):
        nonlocal handled
        handled += 1
        return MessageStatus.RETRY

    async with provider() as queue:
        await queue.publish("work", QueueMessage(b"x"))
        handling = ErrorHandling(max_retries=2, retry_delay_seconds=0.1, dead_letter_queue="dead")
        for _ in range(5):
            async with await queue.subscribe("work", fail, error_handling=handling):
                await asyncio.sleep(1)
    return handled


def test_counts_that_travel_with_the_message_bound_its_retries(monkeypatch):
    """PUL-10: the broker's own count is in its memory, and ends with the last consumer."""
    assert simulated(handlings) == 3
    properties_of = wire.properties_of
    counts = {wire.ATTEMPTS, wire.DELIVERIES}
    monkeypatch.setattr(
        wire, "properties_of", lambda one: {k: v for k, v in properties_of(one).items() if k not in counts}
    )
    assert simulated(handlings) > 10


# The client's defaults


async def two_subscribers():
    async with provider() as one, provider() as other:
        for queue in (one, other):
            await queue.subscribe("work", lambda _: asyncio.sleep(0))


def test_consumers_of_a_queue_share_it(monkeypatch):
    """The client makes Exclusive subscriptions unless it is told otherwise."""
    simulated(two_subscribers)
    monkeypatch.setattr(PulsarTransport, "_consumer_type", lambda _: pulsar.ConsumerType.Exclusive)
    with pytest.raises(TopologyMismatchError):
        simulated(two_subscribers)


async def before_the_first_subscriber():
    """What a subscriber gets that others have sent before there was any."""
    other = connect(URI)
    producer = await other.create_producer(TOPIC, batching_enabled=False)
    await producer.send(b"early")
    got = []

    async def handle(message):
        got.append(message.body)

    async with provider() as queue:
        await queue.subscribe("work", handle)
        await asyncio.sleep(5)
    await other.close()
    return got


def test_queues_begin_at_the_first_message(monkeypatch):
    """PUL-1, PUL-46: the client begins at the latest unless it is told otherwise."""
    assert simulated(before_the_first_subscriber) == [b"early"]
    sources = Topics.sources
    monkeypatch.setattr(Topics, "sources", lambda *to: [one._replace(earliest=False) for one in sources(*to)])
    assert simulated(before_the_first_subscriber) == []


async def publish_beside_another_kind():
    async with provider(subscription_type="key_shared") as one, provider() as other:
        await one.subscribe("work", lambda _: asyncio.sleep(0))
        return await other.publish("work", QueueMessage(b"x"))


def test_whoever_only_publishes_may_be_of_another_kind(monkeypatch):
    """PUL-19: the subscription that keeps the message cannot be joined, and need not be."""
    assert simulated(publish_beside_another_kind) is MessageStatus.ACCEPTED
    monkeypatch.setattr(transport, "result_of", lambda _: None)
    with pytest.raises((TopologyMismatchError, QueueConnectionError, pulsar.asyncio.PulsarException)):
        simulated(publish_beside_another_kind)
