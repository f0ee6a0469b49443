"""The Artemis transport on a real Artemis: what of ``Transport`` the contract suite does not reach, and outages."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from transport_clients import PATIENCE, TransportClient, queue, topic, unique_topic

from factflow_infra.errors import (
    InvalidMessageError,
    PublishRefusedError,
    PublishUnconfirmedError,
    QueueAuthenticationError,
    QueueConnectionError,
    QueueError,
    SubscriptionClosedError,
)
from factflow_infra.queue.artemis.session import ArtemisOptions
from factflow_infra.queue.artemis.transport import ArtemisTransport
from factflow_infra.queue.messages import QueueMessage
from factflow_infra.queue.transport import Address, Envelope

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.live, pytest.mark.asyncio]


class Client(TransportClient):
    def __init__(self, server: Any, **options: Any) -> None:
        given = {"hosts": (("127.0.0.1", server.port),), "user": server.user, "password": server.password, **options}
        super().__init__(ArtemisTransport(ArtemisOptions(**given)))


@pytest_asyncio.fixture
async def client(artemis_server: Any) -> AsyncIterator[Client]:
    client = await Client(artemis_server).connect()
    yield client
    await client.transport.close()


class TestRoundTrip:
    """Q7: whatever its characters and bytes."""

    MESSAGES = (
        QueueMessage(b""),
        QueueMessage(bytes(range(256)) * 3, message_id="ü" * 400, content_type="x/" + "y" * 300, correlation_id=""),
        QueueMessage(b"\0", message_id="\0\n\u2028\U0001f600", correlation_id="c:\r\\" * 100, ordering_key="ü\n" * 200),
        QueueMessage(
            b"x", headers={"destination": "nowhere", "JMSType": "x", "AMQ_SCHEDULED_DELAY": "9", "X-Ü": "", "a:b": ":"}
        ),
        QueueMessage(
            b"x", headers={"receipt": "1", "_AMQ_GROUP_ID": "g", "priority": "9", "expires": "1", "type": "t"}
        ),
        QueueMessage(b"x", headers={f"h{n}": "ü\0\r\n:" * 50 for n in range(50)}),
        QueueMessage(b"x", headers={"spaces": "  a ", "tab": "\t", "empty": "", "n" * 1000: "n"}),
        QueueMessage(b"x", timestamp=datetime(2026, 4, 22, 18, 30, 0, 123456, tzinfo=timezone(timedelta(hours=5.5)))),
        QueueMessage(b"x", timestamp=datetime(1, 1, 2, tzinfo=UTC)),
    )

    @pytest.mark.parametrize("delay", [0.0, 0.05])
    async def test_comes_back_as_it_was(self, client: Client, delay: float) -> None:
        address = queue()
        taking = await client.consume(address)
        for number, message in enumerate(self.MESSAGES):
            envelope = Envelope(message, attempts=number, deliveries=number * 2)
            client.transport.check(address, message, delay=delay)
            await client.transport.publish(address, envelope, delay=delay)
            delivery = await taking.next()
            assert delivery.envelope == envelope
            assert dict(delivery.envelope.message.headers) == dict(message.headers)
            assert (delivery.undecodable, delivery.redelivered, delivery.delivery_count) == (None, False, None)
            await delivery.ack()

    async def test_large_bodies(self, client: Client) -> None:
        address = queue()
        taking = await client.consume(address, prefetch=1)
        for size in (65_535, 102_399, 102_400, 102_401, 1_000_003):
            body = (bytes(range(256)) * (size // 256 + 1))[:size]
            await client.publish(address, body)
            assert await taking.acked(1) == [body]

    async def test_headers_up_to_the_limit_are_carried_beside_a_large_body(self, client: Client) -> None:
        address = queue()
        large = QueueMessage(b"x" * 200_000, headers={f"h{n}": "v" * 3_980 for n in range(10)})
        client.transport.check(address, large, delay=0.0)
        await client.transport.publish(address, Envelope(large))
        delivery = await (await client.consume(address)).next()
        assert delivery.envelope.message == large
        with pytest.raises(InvalidMessageError, match="characters"):
            client.transport.check(address, QueueMessage(b"x", headers={"h": "v" * 41_000}), delay=0.0)


class TestDelivering:
    async def test_thousands_in_order(self, client: Client) -> None:
        address = queue()
        bodies = [b"%d" % n for n in range(2000)]
        await asyncio.gather(*(client.publish(address, body) for body in bodies))
        assert await (await client.consume(address)).acked(len(bodies)) == bodies
        await client.transport.close()
        await client.connect()
        assert await (await client.consume(address)).quiet() == 0

    @pytest.mark.parametrize(("prefetch", "size"), [(1, 0), (2, 0), (3, 10), (10, 0), (10, 2000), (100, 100)])
    async def test_prefetch_is_never_exceeded(self, client: Client, prefetch: int, size: int) -> None:
        address = queue()
        await client.publish(address, *[bytes(size)] * (prefetch + 5))
        taking = await client.consume(address, prefetch=prefetch)
        assert 1 <= await taking.quiet() <= prefetch
        await (await taking.next()).ack()
        assert await taking.quiet() <= prefetch

    @pytest.mark.parametrize(("prefetch", "concurrency"), [(4, 4), (10, 5), (100, 12)])
    async def test_large_messages_leave_no_handler_without_work(
        self, client: Client, prefetch: int, concurrency: int
    ) -> None:
        address = queue()
        bodies = [bytes([n]) * 20_000 for n in range(30)]
        await client.publish(address, *bodies)
        taking = await client.consume(address, prefetch=prefetch, concurrency=concurrency)
        assert concurrency <= await taking.quiet() <= prefetch
        assert await taking.acked(30) == bodies

    async def test_a_lost_connection_flags_all_that_this_provider_held(self, client: Client) -> None:
        """Artemis flags the oldest of them only (ART-3)."""
        address = queue()
        await client.publish(address, b"1", b"2", b"3")
        taking = await client.consume(address)
        held = [await taking.next() for _ in range(3)]
        taking.consumer.session.abort()
        async with asyncio.timeout(PATIENCE):
            assert isinstance(await taking.cancelled, QueueConnectionError)
        with pytest.raises(QueueConnectionError):
            await held[0].ack()
        assert not client.lost.done()
        await asyncio.sleep(0.3)
        again = await client.consume(address)
        # Rarely, the oldest of them is left behind (ART-4).
        came = [await again.next() for _ in range(await again.quiet())]
        assert [delivery.envelope.message.body for delivery in came][-2:] == [b"2", b"3"]
        assert all(delivery.redelivered for delivery in came)

    async def test_release_gives_back_alone(self, client: Client) -> None:
        address = queue()
        await client.publish(address, b"1", b"2")
        taking = await client.consume(address)
        first, second = await taking.next(), await taking.next()
        await first.release()
        again = await taking.next()
        assert (again.envelope, again.redelivered) == (first.envelope, False)
        await second.ack()
        await again.ack()
        await taking.consumer.close()
        assert await (await client.consume(address)).quiet() == 0

    async def test_a_second_ack_is_refused_here_and_harms_nothing(self, client: Client) -> None:
        address = queue()
        await client.publish(address, b"1", b"2")
        taking = await client.consume(address)
        first = await taking.next()
        await first.ack()
        for settle in (first.ack, first.release):
            with pytest.raises(SubscriptionClosedError):
                await settle()
        await (await taking.next()).ack()
        await client.publish(address, b"3")
        assert await taking.acked(1) == [b"3"]

    async def test_cancelled_consumer_takes_no_more_and_may_ack(self, client: Client) -> None:
        address = queue()
        await client.publish(address, b"1", b"2", b"3")
        taking = await client.consume(address)
        first, second, _ = [await taking.next() for _ in range(3)]
        await taking.consumer.cancel()
        await client.publish(address, b"4")
        await second.release()
        await first.ack()
        await taking.consumer.close()
        await taking.consumer.close()
        assert taking.queue.empty()
        back = await client.consume(address)
        assert await back.acked(3) == [b"2", b"3", b"4"]
        assert not taking.cancelled.done()

    async def test_acks_before_close_arrive(self, client: Client) -> None:
        address = queue()
        await asyncio.gather(*(client.publish(address, b"x") for _ in range(1000)))
        taking = await client.consume(address, prefetch=1000)
        await taking.acked(1000)
        await client.transport.close()
        await client.connect()
        assert await (await client.consume(address)).quiet() == 0

    async def test_a_consumer_that_the_broker_ends_is_told_alone(self, client: Client) -> None:
        """An unknown ack is answered with ERROR, and its connection is closed (ART-6): only that of its consumer."""
        address = queue()
        await client.publish(address, b"1")
        taking, other = await client.consume(address), await client.consume(queue())
        held = await taking.next()
        held._ack_id = "9,9"
        await held.ack()
        async with asyncio.timeout(PATIENCE):
            assert "AMQ3390" in str(await taking.cancelled)
        assert await (await client.consume(address)).acked(1) == [b"1"]
        assert not client.lost.done()
        assert not other.cancelled.done()


class TestTopics:
    async def test_copies_for_groups_and_members_compete(self, client: Client) -> None:
        name = unique_topic()
        group = [await client.consume(topic(name, "group"), prefetch=1000) for _ in range(2)]
        single = await client.consume(topic(name, "single", durable=False))
        bodies = [b"%d" % n for n in range(20)]
        await client.publish(topic(name), *bodies)
        assert await single.acked(20) == bodies
        counts = [await member.quiet() for member in group]
        assert sum(counts) == 20
        assert min(counts) > 0

    @pytest.mark.parametrize("durable", [True, False])
    @pytest.mark.parametrize("delay", [0.0, 0.05])
    async def test_a_retry_reaches_one_subscription_alone(self, client: Client, durable: bool, delay: float) -> None:
        """Also right after a publish to the topic, which makes a fully qualified name reach all (ART-13).

        In which order they come is the broker's affair.
        """
        name = unique_topic()
        mine, other = topic(name, "mine", durable=durable), topic(name, "other")
        taking, elsewhere = await client.consume(mine), await client.consume(other)
        await client.publish(topic(name), b"all")
        await client.publish(mine, b"again", delay=delay)
        assert sorted(await taking.acked(2)) == [b"again", b"all"]
        assert await elsewhere.acked(1) == [b"all"]
        assert await elsewhere.quiet() == 0

    async def test_a_delayed_publish_reaches_all(self, client: Client) -> None:
        name = unique_topic()
        takings = [await client.consume(topic(name, "a")), await client.consume(topic(name, "b", durable=False))]
        await client.publish(topic(name), b"later", delay=0.3)
        assert [await taking.acked(1) for taking in takings] == [[b"later"], [b"later"]]

    async def test_named_outlives_its_members_unnamed_does_not(self, client: Client) -> None:
        name = unique_topic()
        named, unnamed = topic(name, "n"), topic(name, "u", durable=False)
        await client.consume(named)
        await client.consume(unnamed)
        await client.transport.close()
        await client.connect()
        await client.publish(topic(name), b"x")
        assert await (await client.consume(named)).acked(1) == [b"x"]
        taking = await client.consume(unnamed)
        await client.publish(topic(name), b"y")
        assert await taking.acked(1) == [b"y"]

    async def test_a_queue_and_a_topic_of_one_name_are_two(self, client: Client) -> None:
        name = unique_topic()
        taking, member = await client.consume(queue(name)), await client.consume(topic(name, "s"))
        await client.publish(queue(name), b"queue")
        await client.publish(topic(name), b"topic")
        assert (await taking.acked(1), await member.acked(1)) == ([b"queue"], [b"topic"])
        assert (await taking.quiet(), await member.quiet()) == (0, 0)


class TestConnecting:
    @pytest.mark.parametrize(
        ("options", "error", "words"),
        [
            ({"password": "s3cret"}, QueueAuthenticationError, "login of user 'artemis'"),
            ({"user": "nobody", "password": "s3cret"}, QueueAuthenticationError, "login of user 'nobody'"),
            ({"user": None, "password": None}, QueueAuthenticationError, "login of user None"),
            ({"hosts": (("127.0.0.1", 1),)}, QueueConnectionError, "127.0.0.1:1"),
            ({"hosts": (("host.invalid", 61613),)}, QueueConnectionError, "host.invalid:61613"),
        ],
    )
    async def test_refusals_are_told_apart(self, artemis_server: Any, options: Any, error: Any, words: str) -> None:
        client = Client(artemis_server, **options)
        with pytest.raises(error, match=words) as raised:
            await client.connect()
        assert "s3cret" not in repr(raised.value) + str(raised.value) + repr(client.transport._options)
        await client.transport.close()

    async def test_a_mute_server_is_given_up(self, artemis_server: Any) -> None:
        held = []
        mute = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
        hosts = (("127.0.0.1", mute.sockets[0].getsockname()[1]),)
        with pytest.raises(QueueConnectionError, match="in time"):
            await Client(artemis_server, hosts=hosts, connect_timeout=0.3).connect()
        for writer in held:
            writer.close()
        mute.close()

    async def test_the_second_host_serves(self, artemis_server: Any) -> None:
        hosts = (("127.0.0.1", 1), ("127.0.0.1", artemis_server.port))
        client = await Client(artemis_server, hosts=hosts).connect()
        address = queue()
        await client.publish(address, b"x")
        assert await (await client.consume(address)).acked(1) == [b"x"]
        await client.transport.close()

    async def test_close_is_idempotent_and_says_nothing(self, artemis_server: Any) -> None:
        client = await Client(artemis_server).connect()
        taking = await client.consume(queue())
        await client.transport.close()
        await client.transport.close()
        assert not client.lost.done()
        assert not taking.cancelled.done()
        with pytest.raises(QueueConnectionError):
            await client.publish(queue(), b"x")

    async def test_whoever_is_idle_stays_connected_with_and_without_heart_beats(self, own_artemis_server: Any) -> None:
        own_artemis_server.options = ";connectionTtl=2000"
        own_artemis_server.start()
        for heartbeat in (1, 0):
            client = await Client(own_artemis_server, heartbeat=heartbeat).connect()
            taking = await client.consume(queue())
            await asyncio.sleep(5)
            assert not client.lost.done()
            assert not taking.cancelled.done()
            await client.transport.close()


class TestRefusals:
    async def test_a_full_address_refuses(self, own_artemis_server: Any) -> None:
        own_artemis_server.addresses = """
        <address-setting match="/queue/full">
          <max-size-bytes>100000</max-size-bytes><address-full-policy>FAIL</address-full-policy>
        </address-setting>"""
        own_artemis_server.start()
        client = await Client(own_artemis_server).connect()
        with pytest.raises(PublishRefusedError) as raised:
            await client.publish(queue("full"), *[bytes(10_000)] * 50)
        assert raised.value.retryable
        await client.publish(queue(), b"others go on")
        assert not client.lost.done()
        await client.transport.close()

    async def test_no_permission(self, own_artemis_server: Any) -> None:
        own_artemis_server.addresses = ""
        own_artemis_server.prepare()
        own_artemis_server.start()
        path = own_artemis_server.folder / "instance" / "etc" / "broker.xml"
        text = path.read_text()
        own_artemis_server.stop()
        own_artemis_server.prepare = lambda: path.write_text(
            text.replace(
                '<security-settings><security-setting match="#">',
                '<security-settings><security-setting match="/queue/secret"></security-setting><security-setting match="#">',
            )
        )
        own_artemis_server.start()
        client = await Client(own_artemis_server).connect()
        with pytest.raises(QueueError) as raised:
            await client.publish(queue("secret"), b"x")
        assert isinstance(raised.value, (QueueAuthenticationError, PublishRefusedError)), repr(raised.value)
        with pytest.raises(QueueError) as raised:
            await client.consume(queue("secret"))
        await client.transport.close()


class TestOutages:
    async def test_kill_keeps_messages_delays_and_durable_subscriptions(self, own_artemis_server: Any) -> None:
        own_artemis_server.start()
        client = await Client(own_artemis_server).connect()
        address, name = queue(), unique_topic()
        await (await client.consume(topic(name, "s"))).consumer.close()
        await client.publish(address, b"now")
        await client.publish(address, *[b"later"] * 100, delay=4.0)
        await client.publish(topic(name), b"topic", delay=4.0)
        await asyncio.to_thread(own_artemis_server.kill)
        async with asyncio.timeout(PATIENCE):
            assert isinstance(await client.lost, QueueConnectionError)
        with pytest.raises(QueueConnectionError):
            await client.connect()
        await asyncio.to_thread(own_artemis_server.start)
        await client.connect()
        bodies = await (await client.consume(address)).acked(101)
        assert sorted(bodies) == sorted([b"now", *[b"later"] * 100])
        assert await (await client.consume(topic(name, "s"))).acked(1) == [b"topic"]
        await client.transport.close()

    async def test_a_frozen_broker_is_found_out_and_nobody_hangs(self, own_artemis_server: Any) -> None:
        own_artemis_server.start()
        client = await Client(own_artemis_server, heartbeat=1).connect()
        address = queue()
        await client.publish(address, *[b"x"] * 50)
        taking = await client.consume(address)
        held = [await taking.next() for _ in range(10)]
        own_artemis_server.freeze()
        try:
            calls = await stuck(client, address, held[1:])
            async with asyncio.timeout(PATIENCE):
                await client.lost
                await ended(calls)
            with pytest.raises(QueueConnectionError):
                await held[0].ack()
            async with asyncio.timeout(PATIENCE):
                await client.transport.close()
        finally:
            own_artemis_server.thaw()

    async def test_closing_towards_a_frozen_broker_ends(self, own_artemis_server: Any) -> None:
        own_artemis_server.start()
        client = await Client(own_artemis_server, heartbeat=0).connect()
        address = queue()
        await client.publish(address, *[b"x"] * 50)
        taking = await client.consume(address)
        held = [await taking.next() for _ in range(10)]
        own_artemis_server.freeze()
        try:
            calls = await stuck(client, address, held)
            async with asyncio.timeout(PATIENCE):
                await client.transport.close()
                await ended(calls)
        finally:
            own_artemis_server.thaw()


async def stuck(client: Client, address: Address, held: list[Any]) -> list[asyncio.Task[None]]:
    """Publishes that fill every buffer towards a frozen broker, and acks."""
    calls = [asyncio.create_task(client.publish(address, b"y" * 10_000_000)) for _ in range(3)]
    await asyncio.sleep(0.2)  # the first is being written
    calls += [asyncio.create_task(client.publish(address, b"y")) for _ in range(50)]
    calls += [asyncio.create_task(delivery.ack()) for delivery in held]
    await asyncio.sleep(0)
    return calls


async def ended(calls: list[asyncio.Task[None]]) -> None:
    """All have ended; what was not done says so truly. (An ack may have been written.)"""
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} <= {PublishUnconfirmedError, QueueConnectionError, type(None)}
    assert type(outcomes[0]) is PublishUnconfirmedError
