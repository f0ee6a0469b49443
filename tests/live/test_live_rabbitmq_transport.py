"""The RabbitMQ transport on a real RabbitMQ: every promise of ``Transport``, and the broker's facts that it relies on."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aio_pika
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
    TopologyMismatchError,
)
from factflow_infra.queue.messages import QueueMessage
from factflow_infra.queue.rabbitmq.session import RabbitMqOptions
from factflow_infra.queue.rabbitmq.transport import RabbitMqTransport
from factflow_infra.queue.transport import Address, Envelope

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.live, pytest.mark.asyncio]


class Client(TransportClient):
    def __init__(self, server: Any, **options: Any) -> None:
        hosts = options.pop("hosts", (("127.0.0.1", server.port),))
        super().__init__(RabbitMqTransport(RabbitMqOptions(hosts=hosts, **options)))

    def cut(self) -> None:
        """Abort the socket, as a lost network would."""
        self.transport._live.session.abort()


@contextlib.asynccontextmanager
async def foreign(server: Any) -> AsyncIterator[Any]:
    """A channel of plain aio-pika."""
    connection = await aio_pika.connect(server.uri)
    async with connection:
        yield await connection.channel(on_return_raises=True)


@pytest.fixture(params=["quorum", "classic"])
def queue_type(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest_asyncio.fixture
async def client(rabbitmq_server: Any, queue_type: str) -> AsyncIterator[Client]:
    client = await Client(rabbitmq_server, queue_type=queue_type).connect()
    yield client
    await client.transport.close()


class TestRoundTrip:
    """Q7: whatever its characters and bytes."""

    MESSAGES = (
        QueueMessage(b""),
        QueueMessage(bytes(range(256)) * 3, message_id="ü" * 400, content_type="x/" + "y" * 300, correlation_id=""),
        QueueMessage(b"x", message_id="\0\n\u2028\U0001f600", correlation_id="c" * 300, ordering_key="ü\n" * 200),
        QueueMessage(
            b"x", headers={"CC": "nowhere", "BCC": "x", "x-death": "mine", "X-Ü": "", "n" * 128: "a", "n" * 129: "b"}
        ),
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

    async def test_a_delay_leaves_no_trace(self, client: Client) -> None:
        address = queue()
        message = QueueMessage(b"late", headers={"x-death": "mine"})
        await client.transport.publish(address, Envelope(message, 1), delay=0.05)
        delivery = await (await client.consume(address)).next()
        assert delivery.envelope == Envelope(message, 1)
        assert dict(delivery.envelope.message.headers) == {"x-death": "mine"}

    async def test_bodies_over_many_frames(self, client: Client) -> None:
        address = queue()
        taking = await client.consume(address, prefetch=1)
        for size in (131_063, 131_064, 131_065, 131_072, 262_128, 5_000_000):
            body = (b"0123456789abcdef" * (size // 16 + 1))[:size]
            await client.publish(address, body)
            assert await taking.acked(1) == [body]

    async def test_headers_up_to_the_limit_are_carried_and_beyond_refused(self, client: Client) -> None:
        address = queue()
        large = QueueMessage(b"x", headers={f"h{n}": "v" * 9_500 for n in range(10)})
        client.transport.check(address, large, delay=0.0)
        await client.transport.publish(address, Envelope(large))
        delivery = await (await client.consume(address)).next()
        assert delivery.envelope.message == large
        with pytest.raises(InvalidMessageError, match="bytes"):
            client.transport.check(address, QueueMessage(b"x", headers={"h": "v" * 98_304}), delay=0.0)


class TestDelivering:
    async def test_thousands_in_order(self, client: Client) -> None:
        address = queue()
        bodies = [b"%d" % n for n in range(3000)]
        await asyncio.gather(*(client.publish(address, body) for body in bodies))
        assert await (await client.consume(address)).acked(len(bodies)) == bodies
        await client.transport.close()
        await client.connect()
        await emptied(client, address)

    async def test_release_and_lost_connection_count(self, client: Client, queue_type: str) -> None:
        address = queue()
        await client.publish(address, b"x")
        counts = [1, 2, 3] if queue_type == "quorum" else [None, None, None]
        taking = await client.consume(address)
        delivery = await taking.next()
        assert (delivery.redelivered, delivery.delivery_count) == (False, counts[0])
        await delivery.release()
        delivery = await taking.next()
        assert (delivery.redelivered, delivery.delivery_count) == (True, counts[1])
        client.cut()
        async with asyncio.timeout(PATIENCE):
            assert isinstance(await client.lost, QueueConnectionError)
        with pytest.raises(QueueConnectionError):
            await delivery.ack()
        await client.connect()
        delivery = await (await client.consume(address)).next()
        assert (delivery.redelivered, delivery.delivery_count) == (True, counts[2])
        await delivery.ack()

    async def test_prefetch_is_kept(self, client: Client) -> None:
        address = queue()
        await client.publish(address, *[b"x"] * 10)
        taking = await client.consume(address, prefetch=3)
        held = [await taking.next() for _ in range(3)]
        await client.publish(address, b"an answer later than any delivery")
        assert taking.queue.empty()
        await held[0].ack()
        await taking.next()

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
        await client.publish(address, b"1")
        taking = await client.consume(address)
        held = await taking.next()
        await taking.consumer.cancel()
        await taking.consumer.cancel()
        await client.publish(address, b"2")
        await held.ack()
        await taking.consumer.close()
        assert taking.queue.empty()
        assert await (await client.consume(address)).acked(1) == [b"2"]
        assert not taking.cancelled.done()

    async def test_what_a_cancelled_consumer_gives_back_goes_to_the_head_in_its_order(self, client: Client) -> None:
        # RMQ-41: rejected one by one it would stand behind 4 and 5 in a quorum queue.
        address = queue()
        await client.publish(address, b"1", b"2", b"3", b"4", b"5")
        taking = await client.consume(address, prefetch=3)
        held = [await taking.next() for _ in range(3)]
        cancelling = asyncio.ensure_future(taking.consumer.cancel())
        await asyncio.sleep(0)
        await held[2].release()  # as one that arrives while the cancel is under way
        await cancelling
        await held[0].release()
        await held[1].release()
        await taking.consumer.close()
        assert await (await client.consume(address)).acked(5) == [b"1", b"2", b"3", b"4", b"5"]

    async def test_beside_one_that_is_handled_what_is_given_back_is_free_at_once(
        self, client: Client, queue_type: str
    ) -> None:
        address = queue()
        await client.publish(address, b"1", b"2", b"3", b"4", b"5")
        taking = await client.consume(address, prefetch=3)
        held = [await taking.next() for _ in range(3)]
        await taking.consumer.cancel()
        await held[2].release()
        await held[1].release()
        left = [b"2", b"3", b"4", b"5"] if queue_type == "classic" else [b"4", b"5", b"2", b"3"]  # RMQ-4
        assert await (await client.consume(address)).acked(4) == left
        await held[0].ack()
        await taking.consumer.close()

    async def test_closed_consumer_gives_back(self, client: Client) -> None:
        address = queue()
        await client.publish(address, b"1", b"2", b"3")
        taking = await client.consume(address)
        held = [await taking.next() for _ in range(3)]
        await held[1].ack()
        await taking.consumer.close()
        await taking.consumer.close()
        with pytest.raises(QueueConnectionError):
            await held[0].ack()
        assert sorted(await (await client.consume(address)).acked(2)) == [b"1", b"3"]

    async def test_acks_before_close_arrive(self, client: Client) -> None:
        address = queue()
        await asyncio.gather(*(client.publish(address, b"x") for _ in range(4000)))
        taking = await client.consume(address, prefetch=4000)
        held = [await taking.next() for _ in range(4000)]
        await asyncio.gather(*(delivery.ack() for delivery in held))
        await client.transport.close()
        await client.connect()
        await emptied(client, address)

    async def test_deleted_queue_ends_its_consumer_and_comes_back(self, client: Client, rabbitmq_server: Any) -> None:
        address = queue()
        taking = await client.consume(address)
        other = await client.consume(queue())
        async with foreign(rabbitmq_server) as channel:
            await channel.queue_delete(address.destination.name)
        async with asyncio.timeout(PATIENCE):
            assert isinstance(await taking.cancelled, QueueConnectionError)
        await taking.consumer.close()
        again = await client.consume(address)
        await client.publish(address, b"x")
        assert await again.acked(1) == [b"x"]
        assert not other.cancelled.done()
        assert not client.lost.done()

    async def test_closed_channel_ends_its_consumer(self, client: Client) -> None:
        address = queue()
        await client.publish(address, b"1")
        taking = await client.consume(address)
        held = await taking.next()
        held._tag = 99  # the broker closes the channel of an unknown tag, as it does after its consumer timeout
        await held.ack()
        async with asyncio.timeout(PATIENCE):
            assert "unknown delivery tag" in str(await taking.cancelled)
        assert await (await client.consume(address)).acked(1) == [b"1"]
        assert not client.lost.done()


class TestPublishing:
    async def test_a_deleted_queue_is_declared_again(self, client: Client, rabbitmq_server: Any) -> None:
        address = queue()
        await client.publish(address, b"gone")
        async with foreign(rabbitmq_server) as channel:
            await channel.queue_delete(address.destination.name)
        await asyncio.gather(*(client.publish(address, b"%d" % n) for n in range(50)))
        assert len(await (await client.consume(address)).acked(50)) == 50

    async def test_a_deleted_exchange_is_declared_again(self, client: Client, rabbitmq_server: Any) -> None:
        name = unique_topic()
        await client.publish(topic(name), b"dropped")
        async with foreign(rabbitmq_server) as channel:
            await channel.exchange_delete(name)
        await client.publish(topic(name), b"dropped too")
        taking = await client.consume(topic(name, "s"))
        await client.publish(topic(name), b"kept")
        assert await taking.acked(1) == [b"kept"]

    async def test_one_id_in_flight_twice(self, client: Client, rabbitmq_server: Any) -> None:
        """Both copies are returned as unroutable: the client would take one of them for confirmed."""
        address = queue()
        await client.publish(address, b"gone")
        async with foreign(rabbitmq_server) as channel:
            await channel.queue_delete(address.destination.name)
        same = Envelope(QueueMessage(b"x", message_id="same"))
        await asyncio.gather(*(client.transport.publish(address, same) for _ in range(20)))
        taking = await client.consume(address)
        for _ in range(20):
            delivery = await taking.next()
            assert delivery.envelope == same
            await delivery.ack()

    async def test_refused_by_a_full_queue(self, client: Client, rabbitmq_server: Any) -> None:
        name = queue().destination.name
        async with foreign(rabbitmq_server) as channel:
            arguments = {"x-queue-type": "classic", "x-max-length": 1, "x-overflow": "reject-publish"}
            await channel.declare_queue(name, durable=True, arguments=arguments)
            exchange = unique_topic()
            await channel.declare_exchange(exchange, "fanout", durable=True)
            await (await channel.get_queue(name)).bind(exchange, "")
        await client.publish(topic(exchange), b"1")
        with pytest.raises(PublishRefusedError) as refused:
            await client.publish(topic(exchange), b"2")
        assert refused.value.retryable

    async def test_other_properties_are_named(self, client: Client, rabbitmq_server: Any, queue_type: str) -> None:
        address = queue()
        async with foreign(rabbitmq_server) as channel:
            await channel.declare_queue(
                address.destination.name, durable=True, arguments={"x-queue-type": queue_type, "x-max-length": 5}
            )
        for attempt in (client.publish(address, b"x"), client.consume(address)):
            with pytest.raises(TopologyMismatchError, match=f"queue '{address.destination.name}'.*x-max-length"):
                await attempt
        await client.publish(queue(), b"the channel that failed is replaced")

    async def test_too_large_for_this_broker(self, own_rabbitmq_server: Any) -> None:
        own_rabbitmq_server.configure("max_message_size = 10000")
        own_rabbitmq_server.start()
        client = await Client(own_rabbitmq_server).connect()
        with pytest.raises(InvalidMessageError, match="10001"):
            await client.publish(queue(), b"x" * 10_001)
        await client.publish(queue(), b"x" * 10_000)
        await client.transport.close()

    async def test_nothing_confirmed_is_lost_when_the_connection_is_cut(self, client: Client) -> None:
        address = queue()
        confirmed: set[bytes] = set()
        outcomes: list[type[Exception]] = []

        async def publish(body: bytes) -> None:
            try:
                await client.publish(address, body)
            except QueueError as error:
                outcomes.append(type(error))
            else:
                confirmed.add(body)
                if len(confirmed) == 100:
                    client.cut()

        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(publish(b"%d" % n) for n in range(2000)))
        assert len(confirmed) >= 100
        assert set(outcomes) <= {PublishUnconfirmedError, QueueConnectionError}  # both retryable
        await client.connect()
        taking = await client.consume(address)
        bodies: set[bytes] = set()
        async with asyncio.timeout(PATIENCE):
            while not confirmed <= bodies:
                bodies |= set(await taking.acked(1))
        assert len(bodies) <= len(confirmed) + outcomes.count(PublishUnconfirmedError)

    async def test_cancelled_while_publishing(self, client: Client) -> None:
        address = queue()
        task = asyncio.create_task(client.publish(address, b"x" * 1_000_000))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await client.publish(address, b"next")


class TestDelays:
    async def test_not_before_and_not_much_after(self, client: Client) -> None:
        address = queue()
        taking = await client.consume(address)
        loop = asyncio.get_running_loop()
        start = loop.time()
        await asyncio.gather(*(client.publish(address, b"%d" % ms, delay=ms / 1000) for ms in (2000, 40, 1000, 500)))
        assert await taking.acked(4) == [b"40", b"500", b"1000", b"2000"]
        assert 2.0 <= loop.time() - start < 4.0

    async def test_to_a_whole_topic(self, client: Client) -> None:
        name = unique_topic()
        await client.publish(topic(name), b"nobody there", delay=0.05)
        await emptied(client, queue(f"{name}-.delayed-.delay.50"), encoded=True)
        first, second = await client.consume(topic(name, "a")), await client.consume(topic(name, "b", durable=False))
        await client.publish(topic(name), b"both", delay=0.5)
        assert await first.acked(1) == [b"both"]
        assert await second.acked(1) == [b"both"]

    @pytest.mark.parametrize("durable", [True, False])
    async def test_to_one_subscription_alone(self, client: Client, durable: bool) -> None:
        name = unique_topic()
        mine, other = topic(name, "mine", durable=durable), topic(name, "other")
        taking, elsewhere = await client.consume(mine), await client.consume(other)
        await client.publish(mine, b"again", delay=0.05)
        assert await taking.acked(1) == [b"again"]
        assert elsewhere.queue.empty()

    async def test_waits_for_a_target_that_is_gone(self, client: Client, rabbitmq_server: Any) -> None:
        """At-least-once dead-lettering keeps what it cannot deliver; another publish declares the target again."""
        address = queue()
        await client.publish(address, b"later", delay=1.0)
        async with foreign(rabbitmq_server) as channel:
            await channel.queue_delete(address.destination.name)
            waiting = f"{address.destination.name}-.delay.1000"
            state = await channel.declare_queue(waiting, passive=True)
            assert state.declaration_result.message_count == 1


class TestTopics:
    async def test_copies_for_groups_and_members_compete(self, client: Client) -> None:
        name = unique_topic()
        group = [await client.consume(topic(name, "group")) for _ in range(2)]
        single = await client.consume(topic(name, "single", durable=False))
        bodies = [b"%d" % n for n in range(20)]
        await client.publish(topic(name), *bodies)
        assert await single.acked(20) == bodies
        async with asyncio.timeout(PATIENCE):
            while sum(member.queue.qsize() for member in group) < 20:  # noqa: ASYNC110 - either queue may grow
                await asyncio.sleep(0.01)
        assert all(member.queue.qsize() == 10 for member in group)

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


class TestForeignMessages:
    async def test_plain_producers_are_read(self, client: Client, rabbitmq_server: Any) -> None:
        address = queue()
        taking = await client.consume(address)
        moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        async with foreign(rabbitmq_server) as channel:
            exchange = channel.default_exchange
            name = address.destination.name
            await exchange.publish(aio_pika.Message(b"bare"), name)
            headers = {"n": 7, "f": 0.5, "b": True, "none": None, "t": moment, "l": [1, {"a": "ü"}], "x-mine": "kept"}
            headers["raw"] = bytearray(b"\xff")
            await exchange.publish(
                aio_pika.Message(
                    b"rich", headers=headers, timestamp=moment, reply_to="r", type="T", message_id="m", app_id="app"
                ),
                name,
            )
        bare = await taking.next()
        assert bare.undecodable is None
        await bare.release()
        again = await taking.next()
        rich = await taking.next() if again.envelope.message.body == b"bare" else again
        again = again if again is not rich else await taking.next()
        assert again.envelope.message.message_id == bare.envelope.message.message_id
        assert rich.undecodable is None
        message = rich.envelope.message
        assert (message.message_id, message.timestamp) == ("m", moment)
        assert dict(message.headers) == {
            "n": "7",
            "f": "0.5",
            "b": "true",
            "none": "",
            "t": "2026-01-02T03:04:05+00:00",
            "l": '[1, {"a": "ü"}]',
            "raw": "/w==",
            "x-mine": "kept",
            "amqp-reply-to": "r",
            "amqp-type": "T",
            "amqp-app-id": "app",
        }

    async def test_what_the_client_cannot_read_costs_one_connection(self, client: Client, rabbitmq_server: Any) -> None:
        """A message id that is not UTF-8 ends the connection; from then on such messages are undecodable."""
        address = queue()
        await client.publish(address, b"before")
        async with foreign(rabbitmq_server) as channel:
            await publish_raw_id(channel, address.destination.name, b"poison", b"\xff\xfe")
        await client.publish(address, b"after")
        taking = await client.consume(address)
        async with asyncio.timeout(PATIENCE):
            await client.lost
        await client.connect()
        taking = await client.consume(address)
        deliveries = [await taking.next() for _ in range(3)]
        by_body = {delivery.envelope.message.body: delivery for delivery in deliveries}
        assert by_body[b"before"].undecodable is None
        assert by_body[b"after"].undecodable is None
        assert "not valid AMQP" in by_body[b"poison"].undecodable
        for delivery in deliveries:
            await delivery.ack()
        await client.publish(address, b"still there")
        assert await taking.acked(1) == [b"still there"]
        assert not client.lost.done()


class TestConnecting:
    @pytest.mark.parametrize(
        ("options", "error", "words"),
        [
            ({"password": "s3cret"}, QueueAuthenticationError, "login of user 'guest'"),
            ({"user": "nobody", "password": "s3cret"}, QueueAuthenticationError, "login of user 'nobody'"),
            ({"vhost": "absent"}, QueueAuthenticationError, "virtual host 'absent'.*not found"),
            ({"hosts": (("127.0.0.1", 1),)}, QueueConnectionError, "127.0.0.1:1"),
            ({"hosts": (("host.invalid", 5672),)}, QueueConnectionError, "host.invalid:5672"),
            ({"tls": True}, QueueConnectionError, "SSL"),
        ],
    )
    async def test_refusals_are_told_apart(self, rabbitmq_server: Any, options: Any, error: Any, words: str) -> None:
        client = Client(rabbitmq_server, **options)
        with pytest.raises(error, match=words) as raised:
            await client.connect()
        assert "s3cret" not in repr(raised.value) + str(raised.value) + repr(client.transport._options)
        await client.transport.close()

    async def test_no_permission(self, rabbitmq_server: Any) -> None:
        user = f"user{uuid4().hex[:6]}"
        rabbitmq_server.control("add_user", user, "pass word:@/")
        client = Client(rabbitmq_server, user=user, password="pass word:@/")
        with pytest.raises(QueueAuthenticationError, match="virtual host '/'"):
            await client.connect()
        rabbitmq_server.control("set_permissions", user, "", "", "")
        await client.connect()
        with pytest.raises(QueueAuthenticationError, match="no permission for queue"):
            await client.publish(queue(), b"x")
        rabbitmq_server.control("set_permissions", user, ".*", "", ".*")
        with pytest.raises(QueueAuthenticationError, match="no permission"):
            await client.publish(queue(), b"x")
        await client.transport.close()

    async def test_a_vhost_with_odd_characters(self, rabbitmq_server: Any) -> None:
        rabbitmq_server.control("add_vhost", "a/b c%")
        rabbitmq_server.control("set_permissions", "-p", "a/b c%", "guest", ".*", ".*", ".*")
        client = await Client(rabbitmq_server, vhost="a/b c%").connect()
        await client.publish(queue(), b"x")
        await client.transport.close()

    async def test_the_second_host_serves(self, rabbitmq_server: Any) -> None:
        hosts = (("127.0.0.1", 1), ("127.0.0.1", rabbitmq_server.port))
        client = await Client(rabbitmq_server, hosts=hosts).connect()
        await client.publish(queue(), b"x")
        await client.transport.close()

    async def test_a_mute_server_is_given_up(self, rabbitmq_server: Any) -> None:
        held = []
        mute = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
        hosts = (("127.0.0.1", mute.sockets[0].getsockname()[1]),)
        with pytest.raises(QueueConnectionError, match="in time"):
            await Client(rabbitmq_server, hosts=hosts, connect_timeout=0.3).connect()
        for writer in held:
            writer.close()
        mute.close()

    async def test_the_name_is_seen_and_a_kick_is_noticed(self, rabbitmq_server: Any) -> None:
        name = f"service-{uuid4().hex[:6]}"
        client = await Client(rabbitmq_server, connection_name=name).connect()
        taking = await client.consume(queue())
        for line in rabbitmq_server.control("list_connections", "pid", "client_properties").splitlines():
            if name in line:
                rabbitmq_server.control("close_connection", line.split()[0], "test")
        async with asyncio.timeout(PATIENCE):
            assert "CONNECTION_FORCED" in str(await client.lost)
        assert not taking.cancelled.done()
        with pytest.raises(QueueConnectionError):
            await client.publish(queue(), b"x")
        await taking.consumer.cancel()
        await taking.consumer.close()
        await client.transport.close()

    async def test_close_is_idempotent_and_says_nothing(self, rabbitmq_server: Any) -> None:
        client = await Client(rabbitmq_server).connect()
        taking = await client.consume(queue())
        await client.transport.close()
        await client.transport.close()
        assert not client.lost.done()
        assert not taking.cancelled.done()
        with pytest.raises(QueueConnectionError):
            await client.publish(queue(), b"x")


class TestOutages:
    async def test_restart_keeps_messages_and_delays(self, own_rabbitmq_server: Any, queue_type: str) -> None:
        # What expires while its target is still starting is tried again after three minutes, by default.
        own_rabbitmq_server.configure(advanced="[{rabbit, [{dead_letter_worker_publisher_confirm_timeout, 1000}]}].")
        own_rabbitmq_server.start()
        client = await Client(own_rabbitmq_server, queue_type=queue_type).connect()
        address, name = queue(), unique_topic()
        await client.consume(topic(name, "s"))
        await client.publish(address, b"now")
        await client.publish(address, b"later", delay=3.0)
        await client.publish(topic(name), b"topic", delay=3.0)
        # A killed RabbitMQ does not start quorum queues again that were declared just before: their registration is
        # written down only now and then. Nothing tells when.
        await asyncio.sleep(2.0)
        await client.publish(address, *[b"later"] * 99, delay=3.0)
        await asyncio.to_thread(own_rabbitmq_server.kill)
        async with asyncio.timeout(PATIENCE):
            assert isinstance(await client.lost, QueueConnectionError)
        with pytest.raises(QueueConnectionError):
            await client.connect()
        await asyncio.to_thread(own_rabbitmq_server.start)
        await client.connect()
        bodies = await (await client.consume(address)).acked(101)
        assert sorted(bodies) == sorted([b"now", *[b"later"] * 100])
        assert await (await client.consume(topic(name, "s"))).acked(1) == [b"topic"]
        await client.transport.close()

    async def test_a_frozen_broker_is_found_out_and_nobody_hangs(self, own_rabbitmq_server: Any) -> None:
        own_rabbitmq_server.start()
        client = await Client(own_rabbitmq_server, heartbeat=1).connect()
        address = queue()
        await client.publish(address, *[b"x"] * 50)
        taking = await client.consume(address)
        held = [await taking.next() for _ in range(50)]
        own_rabbitmq_server.freeze()
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
            own_rabbitmq_server.thaw()

    async def test_closing_towards_a_frozen_broker_ends(self, own_rabbitmq_server: Any) -> None:
        own_rabbitmq_server.start()
        client = await Client(own_rabbitmq_server, heartbeat=0).connect()
        address = queue()
        await client.publish(address, *[b"x"] * 50)
        taking = await client.consume(address)
        held = [await taking.next() for _ in range(50)]
        own_rabbitmq_server.freeze()
        try:
            calls = await stuck(client, address, held)
            async with asyncio.timeout(PATIENCE):
                await client.transport.close()
                await ended(calls)
        finally:
            own_rabbitmq_server.thaw()


async def stuck(client: Client, address: Address, held: list[Any]) -> list[asyncio.Task[None]]:
    """Publishes that fill every buffer towards a frozen broker, and acks behind them in the client's write queue."""
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


async def depth(client: Client, address: Address, *, encoded: bool = False) -> int:
    """Messages ready in a queue; quorum queues say so with a delay."""
    live = client.transport._live
    assert live is not None
    channel = await live.session.channel(confirms=False)
    name = address.destination.name if encoded else live.topology.source(address)[0].name
    declared = await channel.queue_declare(name, passive=True)
    await channel.close()
    return declared.message_count or 0


async def emptied(client: Client, address: Address, *, encoded: bool = False) -> None:
    """Return once the queue is empty."""
    async with asyncio.timeout(PATIENCE):
        while await depth(client, address, encoded=encoded):  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.05)


async def publish_raw_id(channel: Any, name: str, body: bytes, message_id: bytes) -> None:
    """Publish with a message id of these bytes, which no client would write."""
    underlay = await channel.get_underlay_channel()

    class RawProperties(aio_pika.abc.aiormq.spec.Basic.Properties):
        def marshal(self) -> bytes:
            return (128).to_bytes(2, "big") + bytes([len(message_id)]) + message_id

    await underlay.basic_publish(body, routing_key=name, properties=RawProperties(message_id="x"))
