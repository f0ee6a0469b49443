"""What a real Pulsar and its client do, as ``docs/facts.md`` (PUL-1 to PUL-24) says: the bare client, no provider."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pulsar
import pulsar.asyncio
import pytest
import pytest_asyncio
from pulsar import ConsumerType, InitialPosition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.live, pytest.mark.asyncio]

QUIET = 1.0
PATIENCE = 20.0
LOGGER = pulsar.FileLogger(pulsar.LoggerLevel.Error, os.devnull)


def topic() -> str:
    return f"persistent://public/default/f-{uuid4().hex[:10]}"


class Bare:
    """The bare client, and what is often asked of it."""

    def __init__(self, server: Any, **options: Any) -> None:
        self.client = pulsar.asyncio.Client(server.uri, logger=LOGGER, operation_timeout_seconds=15, **options)
        self.consumers: list[Any] = []
        self.receiving: list[asyncio.Task[Any]] = []

    async def subscribe(self, name: str, subscription: str = "s", *, size: int = 100, **options: Any) -> Any:
        options = {"consumer_type": ConsumerType.Shared, "initial_position": InitialPosition.Earliest, **options}
        consumer = await self.client.subscribe(
            name, subscription, receiver_queue_size=size, negative_ack_redelivery_delay_ms=100, **options
        )
        self.consumers.append(consumer)
        return consumer

    async def publish(self, name: str, *bodies: bytes, batch: bool = False, **options: Any) -> None:
        producer = await self.client.create_producer(name, batching_enabled=batch, batching_max_publish_delay_ms=50)
        await asyncio.gather(*(producer.send(body, **options) for body in bodies))
        await producer.close()

    async def take(self, consumer: Any, wait: float = QUIET) -> Any:
        """The next message, or ``None``; the receive goes on then, and swallows what comes."""
        task = asyncio.ensure_future(consumer.receive())
        self.receiving.append(task)
        done, _ = await asyncio.wait([task], timeout=wait)
        return task.result() if done else None

    async def all(self, consumer: Any, *, ack: bool = True, wait: float = QUIET) -> list[tuple[bytes, int]]:
        """What comes until nothing comes any more: bodies and redelivery counts."""
        taken = []
        while (message := await self.take(consumer, wait)) is not None:
            taken.append((message.data(), message.redelivery_count()))
            if ack:
                await consumer.acknowledge(message)
        return taken

    async def close(self) -> None:
        """The consumers first, which answers what they receive (PUL-28), and without ``shutdown`` (PUL-15); all in bounded time."""
        closing = [asyncio.ensure_future(consumer.close()) for consumer in self.consumers]
        for jobs in (closing, self.receiving, [asyncio.ensure_future(self.client.close())]):
            if jobs:
                await asyncio.wait(jobs, timeout=6)
        for task in self.receiving:
            task.cancel()
        await asyncio.gather(*self.receiving, return_exceptions=True)


@pytest_asyncio.fixture
async def bare(pulsar_server: Any) -> AsyncIterator[Bare]:
    bare = Bare(pulsar_server)
    yield bare
    await bare.close()


class TestKeeping:
    async def test_a_topic_without_subscription_goes_with_its_messages(self, own_pulsar_server: Any) -> None:
        """PUL-1, PUL-2."""
        own_pulsar_server.settings["brokerDeleteInactiveTopicsFrequencySeconds"] = "1"
        own_pulsar_server.start()
        bare, without, subscribed = Bare(own_pulsar_server), topic(), topic()
        await (await bare.subscribe(subscribed, size=0)).close()
        for name in (without, subscribed):
            await bare.publish(name, b"1")
        await asyncio.sleep(5)
        assert await bare.all(await bare.subscribe(without)) == []
        assert await bare.all(await bare.subscribe(subscribed)) == [(b"1", 0)]
        await bare.close()

    async def test_a_consumer_without_queue_takes_nothing_that_is_not_received(self, bare: Bare) -> None:
        """PUL-2: it may come and go beside others."""
        name = topic()
        await bare.publish(name, b"1", b"2")
        await bare.subscribe(name, size=0)
        assert await bare.all(await bare.subscribe(name)) == [(b"1", 0), (b"2", 0)]

    async def test_earliest_shows_what_others_have_acked(self, bare: Bare) -> None:
        """PUL-1: a subscription deleted and made again begins before what it has acked."""
        name = topic()
        consumer = await bare.subscribe(name)
        await bare.publish(name, b"1")
        assert await bare.all(consumer) == [(b"1", 0)]
        assert await bare.all(await bare.subscribe(name, "other")) == [(b"1", 0)]


class TestDelays:
    @pytest.mark.parametrize("kind", [ConsumerType.Shared, ConsumerType.KeyShared])
    async def test_come_early_by_up_to_a_second(self, bare: Bare, kind: Any) -> None:
        """PUL-3."""
        name, start = topic(), time.monotonic()
        consumer = await bare.subscribe(name, consumer_type=kind)
        for delay in (0.8, 3.2):
            await bare.publish(name, b"%.1f" % delay, deliver_after=timedelta(seconds=delay))
        first = await bare.take(consumer, 0.7)
        assert first is not None
        assert first.data() == b"0.8"
        assert await bare.take(consumer, 1.0) is None
        (receiving,) = [task for task in bare.receiving if not task.done()]
        assert (await asyncio.wait_for(receiving, PATIENCE)).data() == b"3.2"
        assert 2.1 <= time.monotonic() - start <= 4.4

    @pytest.mark.parametrize("kind", [ConsumerType.Exclusive, ConsumerType.Failover])
    async def test_do_not_count_elsewhere(self, bare: Bare, kind: Any) -> None:
        """PUL-3: at once (a failover consumer is active after a second)."""
        name = topic()
        consumer = await bare.subscribe(name, consumer_type=kind)
        reader = await bare.client.create_reader(name, pulsar.MessageId.earliest)
        await bare.publish(name, b"x", deliver_after=timedelta(seconds=30))
        assert await bare.all(consumer, wait=3.0) == [(b"x", 0)]
        async with asyncio.timeout(PATIENCE):
            assert (await reader.read_next()).data() == b"x"


class TestPermits:
    async def test_what_waits_in_the_client_is_nobody_elses(self, bare: Bare) -> None:
        """PUL-4: the queue, and what was received: with a queue of two and two received, four are held."""
        name = topic()
        slow = await bare.subscribe(name, size=2)
        await bare.publish(name, *(b"%d" % number for number in range(8)))
        assert [(await bare.take(slow)).data() for _ in range(2)] == [b"0", b"1"]
        await asyncio.sleep(0.2)
        assert len(await bare.all(await bare.subscribe(name))) == 4

    async def test_without_queue_each_receive_is_one_permit(self, bare: Bare) -> None:
        """PUL-4: several at once are answered in order, and hold no more."""
        name = topic()
        slow = await bare.subscribe(name, size=0)
        receives = [asyncio.ensure_future(slow.receive()) for _ in range(3)]
        await bare.publish(name, *(b"%d" % number for number in range(5)))
        assert [message.data() for message in await asyncio.gather(*receives)] == [b"0", b"1", b"2"]
        assert await bare.all(await bare.subscribe(name)) == [(b"3", 0), (b"4", 0)]

    async def test_without_queue_the_rest_of_a_batch_is_dropped_until_the_consumer_closes(self, bare: Bare) -> None:
        """PUL-5: and with a queue of one it is not."""
        name = topic()
        none, one = await bare.subscribe(name, "none", size=0), await bare.subscribe(name, "one", size=1)
        await bare.publish(name, b"1", b"2", b"3", batch=True)
        assert await bare.all(none) == [(b"1", 0)]
        await none.close()
        again = await bare.subscribe(name, "none")
        assert [body for body, _ in await bare.all(again)] == [b"1", b"2", b"3"]
        assert await bare.all(one) == [(b"1", 0), (b"2", 0), (b"3", 0)]

    async def test_a_reader_loses_the_permit_of_the_message_that_it_begins_after(self, bare: Bare) -> None:
        """PUL-26."""
        name = topic()
        await bare.publish(name, b"1", b"2")
        first = await bare.client.create_reader(name, pulsar.MessageId.earliest)
        begin = (await first.read_next()).message_id()
        for size, wanted in ((1, None), (2, b"2")):
            reader = await bare.client.create_reader(name, begin, receiver_queue_size=size)
            reading = asyncio.ensure_future(reader.read_next())
            bare.receiving.append(reading)
            done, _ = await asyncio.wait([reading], timeout=QUIET)
            assert (reading.result().data() if done else None) == wanted


class TestReturning:
    async def test_nack_comes_again_counted_and_no_sooner_than_100_ms(self, bare: Bare) -> None:
        """PUL-7: to the one who nacked too, ahead of what was never delivered."""
        name = topic()
        consumer = await bare.subscribe(name, size=1)
        await bare.publish(name, b"1", b"2", b"3", b"4", b"5")
        first = await bare.take(consumer)
        start = time.monotonic()
        await consumer.negative_acknowledge(first)
        await asyncio.sleep(0.5)
        taken = await bare.all(consumer)
        assert sorted(taken) == [(b"1", 1), (b"2", 0), (b"3", 0), (b"4", 0), (b"5", 0)]
        assert taken.index((b"1", 1)) <= 2
        assert time.monotonic() - start >= 0.1

    async def test_each_nack_puts_off_those_before_it(self, bare: Bare) -> None:
        """PUL-53: with a delay of 300 ms and a nack every 20 ms the first comes again when these have ended."""
        name = topic()
        options = {"consumer_type": ConsumerType.Shared, "initial_position": InitialPosition.Earliest}
        consumer = await bare.client.subscribe(name, "s", negative_ack_redelivery_delay_ms=300, **options)
        await bare.publish(name, *(b"%d" % number for number in range(70)))
        messages = [await bare.take(consumer) for _ in range(70)]
        again = asyncio.ensure_future(bare.take(consumer, PATIENCE))
        longest, last = 0.0, time.monotonic()
        for message in messages:
            await consumer.negative_acknowledge(message)
            await asyncio.sleep(0.02)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        early = again.done()
        assert (await again).redelivery_count() == 1
        assert longest > 0.09 or not early, "1.4 s are over, and nothing has come again"

    async def test_nack_of_one_is_nack_of_its_batch(self, bare: Bare) -> None:
        """PUL-6: what was acked of it comes again too."""
        name = topic()
        consumer = await bare.subscribe(name)
        await bare.publish(name, b"1", b"2", b"3", batch=True)
        messages = [await bare.take(consumer) for _ in range(3)]
        await consumer.acknowledge(messages[0])
        await consumer.acknowledge(messages[2])
        await asyncio.sleep(0.3)
        await consumer.negative_acknowledge(messages[1])
        assert await bare.all(consumer) == [(b"1", 1), (b"2", 1), (b"3", 1)]

    async def test_a_closed_consumer_returns_all_and_its_acks_arrive_before(self, bare: Bare) -> None:
        """PUL-9: the ack is written up to 100 ms later, and at the latest when its consumer closes."""
        name = topic()
        consumer, other = await bare.subscribe(name), await bare.subscribe(name, size=0)
        await bare.publish(name, b"1", b"2", b"3")
        first = await bare.take(consumer)
        await consumer.acknowledge(first)
        await consumer.close()
        taken = await bare.all(other)
        assert [body for body, _ in taken] == [b"2", b"3"]

    async def test_a_redelivery_count_ends_with_the_last_consumer(self, bare: Bare) -> None:
        """PUL-10: a nack counts, a closed consumer does not; and the count is gone once the last has left."""
        name = topic()
        consumer, other = await bare.subscribe(name), await bare.subscribe(name, size=0)
        await bare.publish(name, b"1")
        await consumer.negative_acknowledge(await bare.take(consumer))
        assert (await bare.take(consumer)).redelivery_count() == 1
        await consumer.close()
        assert (await bare.take(other)).redelivery_count() == 1
        await other.close()
        assert await bare.all(await bare.subscribe(name)) == [(b"1", 0)]

    async def test_a_cancelled_receive_swallows_a_message(self, bare: Bare) -> None:
        """PUL-8."""
        name = topic()
        consumer = await bare.subscribe(name)
        receive = asyncio.ensure_future(consumer.receive())
        await asyncio.sleep(0.1)
        receive.cancel()
        await bare.publish(name, b"1", b"2")
        assert await bare.all(consumer) == [(b"2", 0)]

    async def test_the_order_of_keys_is_kept_by_key_shared(self, bare: Bare) -> None:
        """PUL-19: and the kinds cannot be mixed on one subscription."""
        name = topic()
        consumers = [await bare.subscribe(name, consumer_type=ConsumerType.KeyShared) for _ in range(2)]
        with pytest.raises(pulsar.asyncio.PulsarException, match="ConsumerBusy"):
            await bare.subscribe(name)
        for number in range(10):
            for key in "abcd":
                await bare.publish(name, b"%s%d" % (key.encode(), number), partition_key=key)
        taken = [[body for body, _ in await bare.all(consumer)] for consumer in consumers]
        for key in b"abcd":
            of_key = [[body for body in bodies if body[0] == key] for bodies in taken]
            assert sorted(map(len, of_key)) == [0, 10]
            assert all(bodies == sorted(bodies) for bodies in of_key)


class TestPublishing:
    async def test_a_full_producer_refuses(self, bare: Bare) -> None:
        """PUL-17."""
        producer = await bare.client.create_producer(topic(), batching_enabled=False, max_pending_messages=5)
        sent = await asyncio.gather(*(producer.send(b"x") for _ in range(50)), return_exceptions=True)
        assert {str(error) for error in sent if isinstance(error, Exception)} == {"27 ProducerQueueIsFull"}

    async def test_five_mib_are_too_big(self, bare: Bare) -> None:
        """PUL-18: the limit holds for the body; the client itself refuses."""
        producer = await bare.client.create_producer(topic(), batching_enabled=False)
        await producer.send(b"x" * (5 * 1024 * 1024 - 1024))
        with pytest.raises(pulsar.asyncio.PulsarException, match="MessageTooBig"):
            await producer.send(b"x" * (5 * 1024 * 1024))

    async def test_properties_hold_any_text_and_forget_their_order(self, bare: Bare) -> None:
        """PUL-20."""
        name, properties = topic(), {"z": "", "ü\0\n": "\0\u2028\U0001f600", "": "x", "a" * 5000: "b" * 50_000}
        consumer = await bare.subscribe(name, "s / ü\x01:@%")
        await bare.publish(name, b"", properties=properties, partition_key="k\0ü", event_timestamp=5)
        message = await bare.take(consumer)
        assert message.properties() == properties
        assert (message.data(), message.partition_key(), message.event_timestamp()) == (b"", "k\0ü", 5)

    async def test_batches_wait_for_company(self, bare: Bare) -> None:
        """PUL-24: one after the other, each waits for the batch's 10 ms."""
        name, seconds = topic(), {}
        for batch in (True, False):
            producer = await bare.client.create_producer(name, batching_enabled=batch)
            await producer.send(b"x")
            start = time.monotonic()
            for _ in range(30):
                await producer.send(b"x")
            seconds[batch] = time.monotonic() - start
        assert seconds[True] >= 0.3
        assert seconds[False] < seconds[True]

    async def test_a_batch_of_one_is_a_batch(self, bare: Bare) -> None:
        """PUL-54: the last message of a topic has a place in its batch."""
        name = topic()
        consumer = await bare.subscribe(name)
        for batch, place in ((True, 0), (False, -1)):
            await bare.publish(name, b"x", batch=batch)
            assert (await consumer.get_last_message_id()).batch_index() == place


class TestConnections:
    async def test_a_killed_broker_is_noticed_and_a_frozen_one_is_not(self, own_pulsar_server: Any) -> None:
        """PUL-11, PUL-12, PUL-15."""
        own_pulsar_server.start()
        bare, name = Bare(own_pulsar_server), topic()
        producer = await bare.client.create_producer(name, batching_enabled=False, send_timeout_millis=2000)
        consumer = await bare.subscribe(name)
        await bare.publish(name, b"1")
        before = await bare.take(consumer)
        assert before.redelivery_count() == 0
        await asyncio.to_thread(own_pulsar_server.kill)
        await asyncio.sleep(0.5)
        assert not producer.is_connected()
        assert not consumer._consumer.is_connected()
        with pytest.raises(pulsar.asyncio.PulsarException, match="Timeout"):
            await producer.send(b"lost")
        await asyncio.to_thread(own_pulsar_server.start)
        deadline = time.monotonic() + PATIENCE
        for _ in iter(lambda: producer.is_connected() and consumer._consumer.is_connected(), True):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        again = await bare.take(consumer, 5)
        assert (again.data(), again.redelivery_count()) == (b"1", 0)
        own_pulsar_server.freeze()
        sending = asyncio.ensure_future(producer.send(b"frozen"))
        done, _ = await asyncio.wait([sending], timeout=1)
        assert not done
        assert producer.is_connected()
        start = time.monotonic()
        await asyncio.to_thread(bare.client.shutdown)
        assert time.monotonic() - start < 2
        done, _ = await asyncio.wait([sending], timeout=2)
        assert not done, "shutdown leaves sends without an answer"
        sending.cancel()
        own_pulsar_server.thaw()

    async def test_a_refused_connection_is_tried_until_the_operation_times_out(self) -> None:
        """PUL-13."""
        client = pulsar.asyncio.Client("pulsar://127.0.0.1:1", logger=LOGGER, operation_timeout_seconds=1)
        start = time.monotonic()
        with pytest.raises(pulsar.asyncio.PulsarException, match="Timeout"):
            await client.get_topic_partitions(topic())
        assert time.monotonic() - start >= 0.9
        await client.close()


def run(server: Any, *lines: str) -> subprocess.CompletedProcess[str]:
    """A program of the bare client, in a process of its own."""
    program = f"""
        import asyncio, os, sys, time, pulsar, pulsar.asyncio
        name = {topic()!r}
        logger = pulsar.FileLogger(pulsar.LoggerLevel.Error, os.devnull)
        async def subscribed():
            global client, consumer
            client = pulsar.asyncio.Client({server.uri!r}, logger=logger)
            consumer = await client.subscribe(name, "s")
            return asyncio.ensure_future(consumer.receive())
        def publish():
            other = pulsar.Client({server.uri!r})
            other.create_producer(name).send(b"x")
            time.sleep(1)
            other.close()
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program) + "\n".join(lines)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class TestProcesses:
    async def test_a_reader_keeps_its_client(self, pulsar_server: Any) -> None:
        """PUL-25: its thread and its descriptors stay, and those of a consumer's do not."""
        ended = run(
            pulsar_server,
            "import gc",
            "async def cycle(reads):",
            f"    client = pulsar.asyncio.Client({pulsar_server.uri!r}, logger=logger)",
            "    if reads:",
            "        await client.create_reader(name, pulsar.MessageId.latest)",
            "    else:",
            "        await client.subscribe(name, 's')",
            "    await client.close()",
            "async def main():",
            "    for reads in (False, True):",
            "        for _ in range(3):",
            "            await cycle(reads)",
            "        gc.collect()",
            "        await asyncio.sleep(0.2)",
            "        print(len(os.listdir('/proc/self/task')), flush=True)",
            "    os._exit(0)",
            "asyncio.run(main())",
        )
        assert ended.stdout.split()[-2:] == ["1", "4"], ended.stderr

    async def test_a_callback_into_a_closed_loop_ends_the_process(self, pulsar_server: Any) -> None:
        """PUL-14: and not where the client was closed before."""
        ended = run(pulsar_server, "asyncio.run(subscribed())", "publish()")
        assert ended.returncode == -6, ended.stderr
        assert "Event loop is closed" in ended.stderr
        closing = ("async def main():", "    await subscribed()", "    await client.close()", "asyncio.run(main())")
        ended = run(pulsar_server, *closing, "publish()", "print('alive')")
        assert (ended.returncode, ended.stdout.strip()[-5:]) == (0, "alive"), ended.stderr

    async def test_a_consumer_freed_with_a_receive_under_way_ends_the_process(self, pulsar_server: Any) -> None:
        """PUL-28."""
        ended = run(
            pulsar_server,
            "import gc",
            "async def main():",
            "    global consumer",
            "    receiving = await subscribed()",
            "    await asyncio.sleep(0.2)",
            "    receiving.cancel()",
            "    await asyncio.wait([receiving])",
            "    del receiving, consumer",
            "    gc.collect()",
            "    await asyncio.sleep(1)",
            "asyncio.run(main())",
        )
        assert ended.returncode == -6, ended.stderr
        assert "bad_weak_ptr" in ended.stderr

    async def test_a_forked_child_gets_no_answers(self, pulsar_server: Any) -> None:
        """PUL-23."""
        ended = run(
            pulsar_server,
            "async def ask():",
            "    asking = asyncio.ensure_future(client.get_topic_partitions(name))",
            "    done, _ = await asyncio.wait([asking], timeout=3)",
            "    os._exit(len(done))",
            "async def main():",
            "    await subscribed()",
            "    await client.get_topic_partitions(name)",
            "asyncio.run(main())",
            "if (child := os.fork()) == 0:",
            "    asyncio.run(ask())",
            "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)",
            "os._exit(0)",
        )
        assert ended.stdout.splitlines()[-1:] == ["0"], ended.stderr
