"""The Pulsar transport on a real Pulsar: every promise of ``Transport``, and the broker's facts that it relies on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import pytest_asyncio
from pulsar_transports import NAMING, Client, cut_connections, foreign
from transport_clients import PATIENCE, QUIET, queue, topic, unique_topic

from factflow_infra.errors import (
    InvalidMessageError,
    PublishUnconfirmedError,
    QueueConnectionError,
    QueueError,
    SubscriptionClosedError,
    TopologyMismatchError,
)
from factflow_infra.queue.messages import QueueMessage
from factflow_infra.queue.pulsar import publishing, session
from factflow_infra.queue.pulsar.client import PulsarOptions
from factflow_infra.queue.pulsar.transport import PulsarTransport
from factflow_infra.queue.transport import Envelope

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.live, pytest.mark.asyncio]


@pytest_asyncio.fixture
async def client(pulsar_server: Any) -> AsyncIterator[Client]:
    client = await Client(pulsar_server).connect()
    yield client
    await client.transport.close()


class TestRoundTrip:
    """Q7: whatever its characters and bytes."""

    MESSAGES = (
        QueueMessage(b""),
        QueueMessage(bytes(range(256)) * 3, message_id="ü" * 400, content_type="x/" + "y" * 300, correlation_id=""),
        QueueMessage(b"x", message_id="\0\n\u2028\U0001f600", correlation_id="c" * 300, ordering_key="ü\n\0" * 200),
        QueueMessage(b"x", headers={"CC": "nowhere", "x-death": "mine", "X-Ü": "", "n" * 5000: "a"}),
        QueueMessage(b"x", headers={f"h{n}": "ü\0\r\n:" * 100 for n in range(50)}),
        QueueMessage(b"x", timestamp=datetime(2026, 4, 22, 18, 30, 0, 123456, tzinfo=timezone(timedelta(hours=5.5)))),
        QueueMessage(b"x", timestamp=datetime(1, 1, 2, tzinfo=UTC)),
        QueueMessage(b"x", timestamp=datetime(9999, 12, 30, 1, 2, 3, 999999, tzinfo=UTC)),
    )

    async def test_comes_back_as_it_was(self, client: Client) -> None:
        address = queue()
        taking = await client.consume(address)
        for number, message in enumerate(self.MESSAGES):
            envelope = Envelope(message, attempts=number, deliveries=number * 2)
            client.transport.check(address, message, delay=0.0)
            await client.transport.publish(address, envelope)
            delivery = await taking.next()
            assert delivery.envelope == envelope
            assert dict(delivery.envelope.message.headers) == dict(message.headers)
            assert delivery.undecodable is None
            await delivery.ack()

    async def test_the_largest_and_its_retry(self, client: Client) -> None:
        address = queue()
        body = b"x" * (5 * 1024 * 1024 - 129 * 1024)
        message = QueueMessage(body)
        client.transport.check(address, message, delay=0.0)
        await client.transport.publish(address, Envelope(message.changed(headers={"e": "v" * 64_000}), attempts=1))
        assert (await (await client.consume(address)).next()).envelope.message.body == body
        with pytest.raises(InvalidMessageError, match="bytes"):
            client.transport.check(address, QueueMessage(b"x" * (5 * 1024 * 1024)), delay=0.0)
        with pytest.raises(InvalidMessageError, match="larger than the broker takes"):
            await client.transport.publish(address, Envelope(QueueMessage(b"x" * (5 * 1024 * 1024))))
        await client.publish(address, b"and the next")

    async def test_names_and_messages_of_others(self, client: Client, pulsar_server: Any) -> None:
        address = queue(f"exec:1/ü \u2028@%{uuid4().hex}-partition-0")
        await client.publish(address, b"ours")
        async with foreign(pulsar_server) as other:
            producer = await other.create_producer(NAMING.encode(address.destination), batching_enabled=False)
            await producer.send(b"theirs", properties={"a": "ü"}, partition_key="k", event_timestamp=1000)
        taking = await client.consume(address)
        assert (await taking.next()).envelope.message.body == b"ours"
        theirs = (await taking.next()).envelope.message
        assert (theirs.body, dict(theirs.headers), theirs.ordering_key) == (b"theirs", {"a": "ü"}, "k")
        assert theirs.timestamp == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)


class TestDelivering:
    async def test_thousands_in_order(self, client: Client) -> None:
        address = queue()
        bodies = [b"%d" % n for n in range(3000)]
        await asyncio.gather(*(client.publish(address, body) for body in bodies))
        taking = await client.consume(address)
        assert await taking.acked(len(bodies)) == bodies
        await taking.consumer.close()
        await (await client.consume(address)).nothing()

    @pytest.mark.parametrize(
        ("prefetch", "concurrency"), [(1, 1), (2, 1), (2, 2), (7, 3), (10, 10), (100, 1), (40, 25)]
    )
    async def test_prefetch_is_kept_and_concurrency_reached(
        self, client: Client, pulsar_server: Any, prefetch: int, concurrency: int
    ) -> None:
        """PUL-4: what is in hand and what waits in the client are ``prefetch`` together, whatever was settled before."""
        address = queue()
        await client.publish(address, *(b"%d" % number for number in range(prefetch + 60)))
        taking = await client.consume(address, prefetch, concurrency)
        assert len(await taking.acked(37)) == 37
        await asyncio.sleep(QUIET)
        assert concurrency <= taking.queue.qsize() <= prefetch
        name = NAMING.encode(address.destination).removeprefix("persistent://")
        (consumer,) = pulsar_server.stats(name)["subscriptions"]["factflow"]["consumers"]
        assert concurrency <= consumer["unackedMessages"] <= prefetch

    async def test_a_batch_of_another_producer_comes_whole(self, client: Client, pulsar_server: Any) -> None:
        """PUL-5: with ``prefetch=1`` there is no queue, and the rest of the batch would be dropped."""
        address = queue()
        taking = await client.consume(address, prefetch=1)
        async with foreign(pulsar_server) as other:
            producer = await other.create_producer(NAMING.encode(address.destination), batching_max_publish_delay_ms=50)
            await asyncio.gather(*(producer.send(b"%d" % number) for number in range(5)))
        async with asyncio.timeout(PATIENCE):
            assert "batches" in str(await taking.cancelled)
        await taking.consumer.close()
        assert await (await client.consume(address, prefetch=1)).acked(5) == [b"0", b"1", b"2", b"3", b"4"]

    async def test_a_released_message_comes_again_counted(self, client: Client) -> None:
        """PUL-7."""
        address = queue()
        await client.publish(address, b"1")
        taking = await client.consume(address)
        delivery = await taking.next()
        assert (delivery.redelivered, delivery.delivery_count) == (False, 1)
        await delivery.release()
        delivery = await taking.next()
        assert (delivery.redelivered, delivery.delivery_count) == (True, 2)

    async def test_settling_twice_and_too_late(self, client: Client) -> None:
        address = queue()
        await client.publish(address, b"1", b"2")
        taking = await client.consume(address)
        first, second = await taking.next(), await taking.next()
        await first.ack()
        for settle in (first.ack, first.release):
            with pytest.raises(SubscriptionClosedError):
                await settle()
        await taking.consumer.close()
        await taking.consumer.close()
        with pytest.raises(QueueConnectionError):
            await second.ack()
        assert await (await client.consume(address)).acked(1) == [b"2"]

    async def test_a_cancelled_consumer_takes_no_more_and_may_ack(self, client: Client) -> None:
        address = queue()
        await client.publish(address, b"1")
        taking = await client.consume(address)
        held = await taking.next()
        await taking.consumer.cancel()
        await client.publish(address, b"2")
        await taking.nothing()
        await held.ack()
        await taking.consumer.close()
        assert await (await client.consume(address)).acked(1) == [b"2"]
        assert not taking.cancelled.done()

    async def test_acks_before_close_arrive(self, client: Client) -> None:
        """PUL-9."""
        address = queue()
        await asyncio.gather(*(client.publish(address, b"x") for _ in range(500)))
        taking = await client.consume(address, prefetch=500, concurrency=500)
        held = [await taking.next() for _ in range(500)]
        await asyncio.gather(*(delivery.ack() for delivery in held))
        await client.transport.close()
        await client.connect()
        await (await client.consume(address)).nothing()

    async def test_kinds_do_not_mix(self, client: Client, pulsar_server: Any) -> None:
        """PUL-19."""
        address = queue()
        await client.consume(address)
        other = await Client(pulsar_server, key_shared=True).connect()
        await other.publish(address, b"published all the same")
        with pytest.raises(TopologyMismatchError, match="subscription_type"):
            await other.consume(address)
        await other.transport.close()


class TestTopics:
    async def test_each_subscription_gets_a_copy_and_its_own_retries(self, client: Client) -> None:
        name = unique_topic()
        one, other = topic(name, "one"), topic(name, "other")
        unnamed = topic(name, "unnamed-1", durable=False)
        takings = [await client.consume(address) for address in (one, other, unnamed)]
        await client.publish(topic(name), b"1")
        for taking in takings:
            assert await taking.acked(1) == [b"1"]
        await client.publish(one, b"again for one")
        await client.publish(unnamed, b"again for the unnamed")
        assert await takings[0].acked(1) == [b"again for one"]
        assert await takings[2].acked(1) == [b"again for the unnamed"]
        for taking in takings:
            await taking.nothing()

    async def test_a_durable_subscription_keeps_and_an_unnamed_one_leaves_nothing(
        self, client: Client, pulsar_server: Any
    ) -> None:
        name = unique_topic()
        durable = topic(name, "durable")
        await (await client.consume(durable)).consumer.close()
        reading = await client.consume(topic(name, "unnamed-2", durable=False))
        await client.publish(topic(name), b"kept")
        assert await (await client.consume(durable)).acked(1) == [b"kept"]
        await reading.consumer.close()
        kept = pulsar_server.stats(f"public/default/topic.{name}")["subscriptions"]
        assert list(kept) == ["durable"]

    async def test_an_unnamed_subscription_over_a_pause_and_a_lost_connection(self, client: Client) -> None:
        name = unique_topic()
        address = topic(name, "unnamed-3", durable=False)
        taking = await client.consume(address, prefetch=8, concurrency=4)
        await client.publish(topic(name), b"1", b"2", b"3")
        held = [await taking.next() for _ in range(3)]
        await held[0].ack()
        await taking.consumer.close()
        with pytest.raises(QueueConnectionError):
            await held[1].ack()
        await client.publish(topic(name), b"4")
        again = await client.consume(address, prefetch=8, concurrency=4)
        delivery = await again.next()
        assert (delivery.envelope.message.body, delivery.delivery_count) == (b"2", 2)
        assert await again.acked(2) == [b"3", b"4"]
        client.session.lose("cut")
        await client.connect()
        await client.publish(topic(name), b"5")
        last = await client.consume(address, prefetch=1)
        assert await last.acked(2) == [b"2", b"5"]

    async def test_delays_hold_for_all(self, client: Client) -> None:
        name = unique_topic()
        takings = [
            await client.consume(topic(name, "one")),
            await client.consume(topic(name, "unnamed-4", durable=False)),
        ]
        start = time.monotonic()
        await client.publish(topic(name), b"late", delay=1.3)
        for taking in takings:
            assert await taking.acked(1) == [b"late"]
            assert time.monotonic() - start >= 1.29


class TestPublishing:
    async def test_nothing_is_early_though_the_broker_is(self, client: Client) -> None:
        """PUL-3: what comes early is held until it is due."""
        address = queue()
        taking = await client.consume(address)
        start = time.monotonic()
        for delay in (0.3, 0.9):
            await client.publish(address, b"%.1f" % delay, delay=delay)
        await client.publish(address, b"now")
        assert await taking.acked(1) == [b"now"]
        for delay in (0.3, 0.9):
            assert await taking.acked(1) == [b"%.1f" % delay]
            assert time.monotonic() - start >= delay * 0.99

    async def test_nothing_before_the_first_subscriber_is_lost(self, own_pulsar_server: Any) -> None:
        """PUL-1, PUL-2."""
        own_pulsar_server.settings["brokerDeleteInactiveTopicsFrequencySeconds"] = "1"
        own_pulsar_server.start()
        client, address, name = await Client(own_pulsar_server).connect(), queue(), unique_topic()
        await client.publish(address, b"1")
        await client.publish(topic(name, "retries"), b"2")
        await client.transport.close()
        await asyncio.sleep(5)
        await client.connect()
        assert await (await client.consume(address)).acked(1) == [b"1"]
        assert await (await client.consume(topic(name, "retries"))).acked(1) == [b"2"]
        await client.transport.close()

    async def test_callers_wait_instead_of_a_full_producer(self, client: Client) -> None:
        """PUL-17: three times as many as the client would take, in order."""
        address = queue()
        bodies = [b"%d" % number for number in range(3 * publishing.MAX_PENDING)]
        await asyncio.gather(*(client.publish(address, body) for body in bodies))
        assert await (await client.consume(address)).acked(len(bodies)) == bodies

    async def test_producers_are_bounded(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(publishing, "MAX_PRODUCERS", 3)
        addresses = [queue() for _ in range(8)]
        for _ in range(2):
            await asyncio.gather(*(client.publish(address, b"x") for address in addresses))
        for address in addresses:
            await client.publish(address, b"y")
        assert client.transport._live is not None
        assert client.transport._live.publisher.lines <= 3
        for address in addresses:
            assert sorted(await (await client.consume(address)).acked(3)) == [b"x", b"x", b"y"]

    async def test_a_deleted_topic_comes_back(self, client: Client, pulsar_server: Any) -> None:
        address = queue()
        taking = await client.consume(address)
        await client.publish(address, b"1")
        assert await taking.acked(1) == [b"1"]
        name = NAMING.encode(address.destination).removeprefix("persistent://")
        pulsar_server.admin("DELETE", f"persistent/{name}?force=true")
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(QueueError):
                    await client.publish(address, b"2")
                    break
        assert await taking.acked(1) == [b"2"]


class TestConnections:
    async def test_a_cut_connection_comes_back_by_itself_and_loses_nothing(
        self, client: Client, pulsar_server: Any
    ) -> None:
        """The client connects again before anybody notices: what was held stays settleable, and comes only once."""
        address = queue()
        taking = await client.consume(address, prefetch=10)
        await client.publish(address, b"1", b"2", b"3")
        held = [await taking.next() for _ in range(3)]
        assert cut_connections(pulsar_server) >= 1
        await client.publish(address, b"4")
        assert (await taking.next()).envelope.message.body == b"4"
        await taking.nothing()
        for delivery in held:
            await delivery.ack()
        await taking.consumer.close()
        assert not client.lost.done()
        assert not taking.cancelled.done()
        assert await (await client.consume(address)).acked(1) == [b"4"]

    async def test_a_killed_broker_is_a_lost_connection(self, own_pulsar_server: Any) -> None:
        own_pulsar_server.start()
        client, address = await Client(own_pulsar_server, request_timeout=12.0).connect(), queue()
        taking = await client.consume(address)
        await client.publish(address, b"1")
        held = await taking.next()
        await asyncio.to_thread(own_pulsar_server.kill)
        sending = asyncio.ensure_future(client.publish(address, b"2"))
        async with asyncio.timeout(PATIENCE):
            assert isinstance(await client.lost, QueueConnectionError)
            with pytest.raises(PublishUnconfirmedError):
                await sending
        with pytest.raises(QueueConnectionError):
            await held.ack()
        with pytest.raises(QueueConnectionError):
            await client.publish(address, b"3")
        start = time.monotonic()
        with pytest.raises(QueueConnectionError):
            await client.connect()
        assert time.monotonic() - start < PATIENCE
        await asyncio.to_thread(own_pulsar_server.start)
        client = await Client(own_pulsar_server).connect()
        again = await client.consume(address)
        assert (await again.acked(1))[0] == b"1"
        await client.transport.close()

    async def test_a_frozen_broker_is_noticed_by_its_silence_and_closing_is_bounded(
        self, own_pulsar_server: Any
    ) -> None:
        """PUL-12, PUL-15."""
        own_pulsar_server.start()
        client, address = await Client(own_pulsar_server, heartbeat=2.0).connect(), queue()
        taking = await client.consume(address)
        await client.publish(address, b"1")
        await taking.next()
        own_pulsar_server.freeze()
        async with asyncio.timeout(PATIENCE):
            assert "2.0 s" in str(await client.lost)
        own_pulsar_server.thaw()
        await client.connect()
        await client.consume(address)
        own_pulsar_server.freeze()
        start = time.monotonic()
        await client.transport.close()
        assert time.monotonic() - start < 3 * session.CLOSE_TIMEOUT_SECONDS + 1
        own_pulsar_server.thaw()

    async def test_a_refused_connection_and_the_second_of_two_hosts(self, pulsar_server: Any) -> None:
        """PUL-13."""
        transport = PulsarTransport(PulsarOptions(service_url="pulsar://127.0.0.1:1", request_timeout=1.0))
        with pytest.raises(QueueConnectionError, match=r"127\.0\.0\.1:1"):
            await transport.connect(lambda _: None)
        both = PulsarOptions(service_url=f"pulsar://127.0.0.1:1,127.0.0.1:{pulsar_server.port}")
        transport = PulsarTransport(both)
        async with asyncio.timeout(PATIENCE):
            await transport.connect(lambda _: None)
            await transport.publish(queue(), Envelope(QueueMessage(b"x")))
        await transport.close()
