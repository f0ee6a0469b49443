"""What becomes of the Pulsar transport without each of its ways around the client: one taken out, one promise broken."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from pulsar_transports import NAMING, Client, cut_connections, foreign
from transport_clients import QUIET, queue, topic, unique_topic

from factflow_infra.errors import QueueConnectionError
from factflow_infra.queue.pulsar import consuming, ephemeral, publishing, session
from factflow_infra.queue.pulsar.transport import PulsarTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.live, pytest.mark.asyncio]


@pytest_asyncio.fixture
async def client(pulsar_server: Any) -> AsyncIterator[Client]:
    client = await Client(pulsar_server).connect()
    yield client
    await client.transport.close()


async def test_a_receive_that_is_given_up_costs_a_message(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """PUL-8: Q2. The way around: one long-lived receive."""

    async def impatient(self: Any) -> None:
        while not self._owner.ended:
            receiving = asyncio.ensure_future(self.handle.receive())
            done, _ = await asyncio.wait([receiving], timeout=0.2)
            if done:
                self._take(receiving.result())
            receiving.cancel()

    monkeypatch.setattr(consuming._Receiver, "_receive", impatient)
    address = queue()
    taking = await client.consume(address)
    await asyncio.sleep(0.9)
    await client.publish(address, *(b"%d" % number for number in range(10)))
    await asyncio.sleep(QUIET)
    assert taking.queue.qsize() < 10


async def test_a_queue_as_large_as_prefetch_holds_too_much(
    client: Client, pulsar_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PUL-4: Q6. The way around: room, and a queue of what is left."""
    monkeypatch.setattr(consuming, "divide", lambda prefetch, *_, **__: (prefetch, prefetch))
    address = queue()
    await client.publish(address, *(b"%d" % number for number in range(50)))
    await client.consume(address, prefetch=10)
    await asyncio.sleep(QUIET)
    name = NAMING.encode(address.destination).removeprefix("persistent://")
    (consumer,) = pulsar_server.stats(name)["subscriptions"]["factflow"]["consumers"]
    assert consumer["unackedMessages"] > 10


async def test_the_rest_of_a_batch_is_not_seen(
    client: Client, pulsar_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PUL-5: Q2. The way around: another consumer, with a queue."""
    monkeypatch.setattr(consuming._Receiver, "_queued", True, raising=False)
    monkeypatch.setattr(consuming.PulsarConsumer, "batched", lambda _: None)
    address = queue()
    taking = await client.consume(address, prefetch=1)
    async with foreign(pulsar_server) as other:
        producer = await other.create_producer(NAMING.encode(address.destination), batching_max_publish_delay_ms=50)
        await asyncio.gather(*(producer.send(b"%d" % number) for number in range(5)))
    await taking.nothing()


async def test_what_is_in_hand_comes_twice_after_a_cut(
    client: Client, pulsar_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way around: a place in the topic that is held already."""

    class Forgetful(dict[Any, None]):
        def __contains__(self, _: object) -> bool:
            return False

    original = consuming._Receiver.__init__

    def forgetful(self: Any, *values: Any, **named: Any) -> None:
        original(self, *values, **named)
        self._held = Forgetful()

    monkeypatch.setattr(consuming._Receiver, "__init__", forgetful)
    address = queue()
    taking = await client.consume(address, prefetch=10)
    await client.publish(address, b"1")
    await taking.next()
    assert cut_connections(pulsar_server) >= 1
    assert (await taking.next()).envelope.message.body == b"1"


async def test_delayed_messages_come_early(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """PUL-3. The way around: holding them until they are due."""
    monkeypatch.setattr(consuming, "MAX_EARLY_SECONDS", 0.0)
    address, start = queue(), time.monotonic()
    taking = await client.consume(address)
    await client.publish(address, b"x", delay=0.9)
    await taking.next()
    assert time.monotonic() - start < 0.8


async def test_a_full_producer_refuses(client: Client) -> None:
    """PUL-17: Q1, as an error that a caller cannot do anything about. The way around: a turn for each."""
    address = queue()
    await client.publish(address, b"first")
    assert client.transport._live is not None
    (line,) = client.transport._live.lines.values()
    line.room = 10_000_000
    sending = (client.publish(address, b"x") for _ in range(10 * publishing.MAX_PENDING))
    sent = await asyncio.gather(*sending, return_exceptions=True)
    assert any(isinstance(one, QueueConnectionError) and "ProducerQueueIsFull" in str(one) for one in sent)
    line.room = publishing.MAX_PENDING


async def test_what_is_published_before_the_first_subscriber_is_lost(
    own_pulsar_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PUL-1: Q2. The way around: the subscription first."""

    async def keep(*_: Any) -> None:
        pass

    monkeypatch.setattr(PulsarTransport, "_keep", keep)
    own_pulsar_server.settings["brokerDeleteInactiveTopicsFrequencySeconds"] = "1"
    own_pulsar_server.start()
    client, address = await Client(own_pulsar_server).connect(), queue()
    await client.publish(address, b"1")
    await client.transport.close()
    await asyncio.sleep(5)
    await client.connect()
    await (await client.consume(address)).nothing()
    await client.transport.close()


async def test_a_reader_with_a_queue_of_one_reads_nothing_more(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """PUL-26. The way around: a queue of two."""
    monkeypatch.setattr(ephemeral, "LEAST_QUEUE", 1)
    name = unique_topic()
    address = topic(name, "unnamed-1", durable=False)
    taking = await client.consume(address, prefetch=1)
    await client.publish(topic(name), b"1")
    assert await taking.acked(1) == [b"1"]
    await taking.consumer.close()
    await client.publish(topic(name), b"2")
    await (await client.consume(address, prefetch=1)).nothing()


async def test_a_frozen_broker_is_not_noticed(own_pulsar_server: Any) -> None:
    """PUL-12: Q9. The way around: a ping."""
    own_pulsar_server.start()
    client = await Client(own_pulsar_server, heartbeat=0.0, request_timeout=8.0).connect()
    await client.consume(queue())
    own_pulsar_server.freeze()
    await asyncio.sleep(4)
    assert not client.lost.done()
    own_pulsar_server.thaw()
    await client.transport.close()


@pytest.mark.parametrize("bounded", [True, False])
async def test_closing_beside_a_frozen_broker(
    own_pulsar_server: Any, monkeypatch: pytest.MonkeyPatch, *, bounded: bool
) -> None:
    """PUL-15: without a bound the client waits for its own, ``operation_timeout``."""
    own_pulsar_server.start()
    client = await Client(own_pulsar_server, request_timeout=30.0).connect()
    await client.consume(queue())
    await client.publish(queue(), b"x")
    if not bounded:
        monkeypatch.setattr(session, "CLOSE_TIMEOUT_SECONDS", 100.0)
        monkeypatch.setattr(consuming, "CLOSE_TIMEOUT_SECONDS", 100.0)
    own_pulsar_server.freeze()
    start = time.monotonic()
    await client.transport.close()
    took = time.monotonic() - start
    own_pulsar_server.thaw()
    assert took < 20 if bounded else took > 25
