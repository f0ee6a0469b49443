"""Each part of Pulsar's client that a program may use, and what the profile says of it: the real client on the wire tier, and
its stand-in on the API tier, by the same tests. The real client has timers of its own, so its half runs with ``--live`` only.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pulsar
import pulsar.asyncio
import pytest
from pulsar_clients import LIMIT, SHARED, TIERS, TOPIC, connect, nothing, run_loop, take, texts, until, url_of

from factflow_infra_testing.broker import SimulatedBroker
from factflow_infra_testing.wire.pulsar.frontend import PulsarFrontEnd
from factflow_infra_testing.wire.serving import WireServer

KINDS = pulsar.ConsumerType


@pytest.fixture(params=["api", pytest.param("wire", marks=pytest.mark.live)])
def run(request):
    return TIERS[request.param]


def test_what_is_sent_comes_back_as_it_was(run):
    async def main(bench):
        producer = await bench.producer()
        consumer = await bench.consumer()
        sent = await producer.send(
            b"\x00\xff", properties={"key": "wört"}, partition_key="a", ordering_key="o", event_timestamp=7
        )
        (message,) = await take(consumer, 1)
        assert (message.data(), message.properties()) == (b"\x00\xff", {"key": "wört"})
        assert (message.partition_key(), message.ordering_key(), message.event_timestamp()) == ("a", "o", 7)
        assert (message.topic_name(), message.redelivery_count()) == (TOPIC, 0)
        got = message.message_id()
        assert (got.ledger_id(), got.entry_id()) == (sent.ledger_id(), sent.entry_id())
        assert bench.depth() == 1
        await consumer.acknowledge(message)
        await until(lambda: bench.depth() == 0)

    run(main)


def test_a_batch_is_one_entry_and_comes_again_as_a_whole(run):
    async def main(bench):
        producer = await bench.producer(batching_enabled=True, batching_max_publish_delay_ms=50)
        ids = await asyncio.gather(*(producer.send(b"%d" % n) for n in range(3)))
        assert len({(one.ledger_id(), one.entry_id()) for one in ids}) == 1
        consumer = await bench.consumer()
        messages = await take(consumer, 3)
        assert texts(messages) == "0 1 2"
        await consumer.acknowledge(messages[0])
        await consumer.negative_acknowledge(messages[1])
        assert texts(await take(consumer, 3)) == "0r1 1r1 2r1"
        for message in messages:
            await consumer.acknowledge(message)
        await until(lambda: bench.depth() == 0)

    run(main)


@pytest.mark.parametrize(
    ("kind", "again"),
    [(KINDS.Exclusive, "0 1 2 3"), (KINDS.Failover, "0 1 2 3"), (KINDS.Shared, "2r1"), (KINDS.KeyShared, "2r1")],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_nack_brings_back_one_message_or_all_that_are_unacked(run, kind, again):
    async def main(bench):
        producer, consumer = await bench.producer(), await bench.consumer(kind=kind)
        for n in range(4):
            await producer.send(b"%d" % n)
        messages = await take(consumer, 4)
        await consumer.negative_acknowledge(messages[2])
        assert texts(await take(consumer, len(again.split()))) == again

    run(main)


def test_an_exclusive_subscription_has_one_consumer_and_no_type_mixes_with_another(run):
    async def main(bench):
        await bench.consumer(kind=KINDS.Exclusive)
        for kind in (KINDS.Exclusive, KINDS.Shared):
            with pytest.raises(pulsar.asyncio.PulsarException) as caught:
                await bench.consumer(kind=kind)
            assert caught.value.error() == pulsar.Result.ConsumerBusy

    run(main)


def test_a_failover_subscription_goes_on_with_the_next(run):
    async def main(bench):
        producer = await bench.producer()
        first, second = [await bench.consumer(kind=KINDS.Failover, consumer_name=name) for name in "ab"]
        await producer.send(b"0")
        assert texts(await take(first, 1)) == "0"
        await first.close()
        await producer.send(b"1")
        assert texts(await take(second, 2)) == "0 1"

    run(main)


def test_shared_consumers_take_turns_and_key_shared_ones_keep_their_keys(run):
    async def main(bench):
        producer = await bench.producer()
        shared = [await bench.consumer() for _ in range(2)]
        sticky = [await bench.consumer("keys", KINDS.KeyShared) for _ in range(2)]
        for n in range(8):
            await producer.send(b"%d" % n, ordering_key=f"k{n % 4}")
        assert [texts(await take(one, 4)) for one in shared] == ["0 2 4 6", "1 3 5 7"]

        seen = {}

        async def collect(index, consumer):
            while True:
                message = await consumer.receive()
                seen.setdefault(message.ordering_key(), []).append((index, message.data()))

        tasks = [asyncio.create_task(collect(*item)) for item in enumerate(sticky)]
        await until(lambda: sum(map(len, seen.values())) == 8)
        for task in tasks:
            task.cancel()
        for n in range(4):
            assert [data for _, data in seen[f"k{n}"]] == [b"%d" % n, b"%d" % (n + 4)]
            assert len({index for index, _ in seen[f"k{n}"]}) == 1

    run(main)


def test_what_a_closed_consumer_held_goes_to_the_other_and_counts_begin_anew_with_the_last(run):
    async def main(bench):
        producer = await bench.producer()
        first = await bench.consumer()
        for n in range(3):
            await producer.send(b"%d" % n)
        await take(first, 3)
        second = await bench.consumer()
        await first.close()
        messages = await take(second, 3)
        assert texts(messages) == "0 1 2", "that does not count"
        await second.negative_acknowledge(messages[0])
        assert texts(await take(second, 1)) == "0r1"
        await second.close()
        third = await bench.consumer()
        assert texts(await take(third, 3)) == "0 1 2"

    run(main)


def test_permits_bound_what_a_consumer_is_sent(run):
    async def main(bench):
        producer = await bench.producer()
        await bench.consumer(receiver_queue_size=4)
        for n in range(10):
            await producer.send(b"%d" % n)
        queue = bench.broker.broker.queues[f"{TOPIC}#s"]
        assert (queue.unacked, len(queue)) == (4, 6)

    run(main)


def test_a_receive_that_begins_while_its_consumer_connects_again_asks_for_one_message(run):
    """Found by the soak: the stand-in asked twice, and dropped what nobody was waiting for."""

    async def main(bench):
        producer = await bench.producer()
        consumer = await bench.consumer(receiver_queue_size=0)
        receiving = [asyncio.ensure_future(consumer.receive())]
        bench.broker.restart()
        bench.broker.up_at = 0.0
        for _ in range(400):
            receiving.append(asyncio.ensure_future(consumer.receive()))
            await asyncio.sleep(0.001)
        for n in range(500):
            await producer.send(b"%d" % n)
        assert texts(await asyncio.wait_for(asyncio.gather(*receiving), LIMIT)).split()[::200] == ["0", "200", "400"]
        queue = bench.broker.broker.queues[f"{TOPIC}#s"]
        assert (queue.unacked, len(queue)) == (401, 99)

    run(main)


def test_cumulative_acks_and_seeking(run):
    async def main(bench):
        producer = await bench.producer()
        consumer = await bench.consumer(kind=KINDS.Exclusive)
        for n in range(5):
            await producer.send(b"%d" % n)
        messages = await take(consumer, 5)
        await consumer.acknowledge_cumulative(messages[2])
        await until(lambda: bench.depth() == 2)
        last = await consumer.get_last_message_id()
        assert last.entry_id() == 4
        await consumer.seek(pulsar.MessageId.wrap(messages[1].message_id()))
        assert texts(await take(consumer, 3)) == "2 3 4", "behind the message that was sought"
        await consumer.seek(pulsar.MessageId(-1, -1, -1, -1))
        assert texts(await take(consumer, 5)) == "0 1 2 3 4"

    run(main)


def test_a_delay_holds_back_on_shared_only(run):
    async def main(bench):
        producer = await bench.producer()
        shared, alone = await bench.consumer(), await bench.consumer("alone", KINDS.Exclusive)
        begun = asyncio.get_running_loop().time()
        await producer.send(b"late", deliver_after=timedelta(seconds=1.4))
        await producer.send(b"soon")
        assert texts(await take(alone, 2)) == "late soon"
        assert texts(await take(shared, 2)) == "soon late"
        assert asyncio.get_running_loop().time() - begun >= 0.39

    run(main)


def test_latest_begins_behind_what_is_there_and_earliest_with_what_others_have_done(run):
    async def main(bench):
        producer = await bench.producer()
        first = await bench.consumer("first")
        await producer.send(b"0")
        await first.acknowledge((await take(first, 1))[0])
        late = await bench.consumer("late", initial_position=pulsar.InitialPosition.Latest)
        await producer.send(b"1")
        assert texts(await take(late, 1)) == "1"
        assert texts(await take(await bench.consumer("early"), 2)) == "0 1"

    run(main)


def test_unsubscribing_forgets_the_subscription_and_is_refused_while_another_shares_it(run):
    async def main(bench):
        producer = await bench.producer()
        first, second = await bench.consumer(), await bench.consumer()
        with pytest.raises(pulsar.asyncio.PulsarException) as caught:
            await first.unsubscribe()
        assert caught.value.error() == pulsar.Result.BrokerMetadataError
        await second.close()
        await first.unsubscribe()
        await producer.send(b"0")
        assert bench.depth() == 0
        assert f"{TOPIC}#s" not in bench.broker.broker.queues

    run(main)


def test_a_reader_leaves_nothing_behind(run):
    async def main(bench):
        producer = await bench.producer()
        await producer.send(b"0")
        reader = await bench.client.create_reader(TOPIC, pulsar.MessageId.earliest)
        assert (await asyncio.wait_for(reader.read_next(), LIMIT)).data() == b"0"
        await reader.close()
        assert not bench.broker.broker.queues

    run(main)


def test_a_dropped_connection_is_made_again_and_what_was_unconfirmed_is_sent_again(run):
    async def main(bench):
        producer, consumer = await bench.producer(), await bench.consumer()
        await producer.send(b"0")
        await take(consumer, 1)
        bench.broker.restart()
        bench.broker.up_at = 0.0
        await asyncio.wait_for(producer.send(b"1"), LIMIT)
        assert texts(await take(consumer, 2)) == "0 1", "what was unacked comes again; counts are forgotten"

    run(main)


def test_the_name_of_a_producer_is_taken_while_it_is_connected(run):
    async def main(bench):
        producer = await bench.producer(producer_name="one")
        assert producer.producer_name() == "one"
        with pytest.raises(pulsar.asyncio.PulsarException) as caught:
            await bench.producer(producer_name="one")
        assert caught.value.error() == pulsar.Result.ProducerBusy
        await producer.close()
        again = await bench.producer(producer_name="one")
        await again.send(b"0", sequence_id=41)
        assert again.last_sequence_id() == 41

    run(main)


def test_a_namespace_that_is_not_there_is_refused(run):
    async def main(bench):
        with pytest.raises(pulsar.asyncio.PulsarException) as caught:
            await bench.producer("persistent://public/elsewhere/q")
        assert caught.value.error() == pulsar.Result.TopicNotFound

    run(main)


@pytest.mark.live
def test_a_token_is_asked_for():
    async def main():
        front_end = PulsarFrontEnd(SimulatedBroker("pulsar"), token="secret")
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(lambda: front_end.connection(exposed=True), "127.0.0.1", 0)
        async with WireServer(front_end.server, listening) as server:
            client = connect(url_of(server), authentication=pulsar.AuthenticationToken("secret"))
            producer = await client.create_producer(TOPIC)
            assert producer.is_connected()
            await client.close()
            wrong = pulsar.AuthenticationToken("wrong")
            client = connect(url_of(server), authentication=wrong, operation_timeout_seconds=1)
            with pytest.raises(pulsar.asyncio.PulsarException):  # the client tries again until it times out
                await client.create_producer(TOPIC)
            await client.close()

    run_loop(main())


def test_nothing_comes_twice_that_was_acked_before_the_connection_was_lost(run):
    async def main(bench):
        producer, consumer = await bench.producer(), await bench.consumer()
        await producer.send(b"0")
        await consumer.acknowledge((await take(consumer, 1))[0])
        await until(lambda: bench.depth() == 0)  # the client sends acks in groups, every 100 ms
        bench.broker.restart()
        bench.broker.up_at = 0.0
        assert await nothing(consumer, 0.5)

    run(main)


def test_two_clients_compete_and_one_that_dies_gives_back(run):
    async def main(bench):
        other = connect(bench.url)
        producer = await bench.producer()
        theirs = await other.subscribe(TOPIC, "s", SHARED)
        for n in range(3):
            await producer.send(b"%d" % n)
        await take(theirs, 3)
        mine = await bench.consumer()
        other.shutdown()
        assert texts(await take(mine, 3)) == "0 1 2"

    run(main)
