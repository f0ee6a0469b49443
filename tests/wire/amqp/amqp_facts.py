"""What RabbitMQ's queues were seen to do (RMQ-42 to RMQ-49 in ``docs/facts.md``): run on the simulated broker and on the real one."""

import asyncio

import aiormq
from pamqp import commands as spec

QUORUM = {"x-queue-type": "quorum"}
SINGLE = {"x-single-active-consumer": True}
EXPIRED = 0.06


class Bench:
    """A queue, the queue of its dead letters, and what the consumers of its channels were given. ``pause``: seconds of silence
    after which a broker has said all.
    """

    def __init__(self, connection, name, pause):
        self.connection = connection
        self.queue = "fact-" + name
        self.dead = self.queue + "-dead"
        self.seen = []
        self._pause = pause
        self._channels = []

    async def begin(self, arguments):
        self.admin = await self.channel()
        for name in (self.queue, self.dead):
            await self.admin.queue_delete(name)
        dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": self.dead}
        await self.admin.queue_declare(self.queue, durable=True, arguments={**arguments, **dead})
        await self.admin.queue_declare(self.dead, durable=True)

    async def channel(self):
        channel = await self.connection.channel(publisher_confirms=False)
        self._channels.append(channel)
        return channel

    async def settle(self):
        for channel in self._channels:
            if not channel.is_closed:
                await channel.exchange_declare("amq.direct", passive=True)
        seen = -1
        while seen != len(self.seen):
            seen = len(self.seen)
            await asyncio.sleep(self._pause)

    async def publish(self, names, **properties):
        for name in names:
            about = spec.Basic.Properties(delivery_mode=2, **properties)
            await self.admin.basic_publish(name.encode(), routing_key=self.queue, properties=about)
        await self.settle()
        if properties:
            await asyncio.sleep(EXPIRED + self._pause)

    async def consume(self, channel, tag, limit=0, **how):
        """The deliveries to a new consumer; each is seen as its tag and the body."""
        got = []

        async def take(message):
            got.append(message.delivery.delivery_tag)
            self.seen.append(tag + message.body.decode())

        await channel.basic_qos(prefetch_count=limit)
        await channel.basic_consume(self.queue, take, consumer_tag=tag, **how)
        await self.settle()
        return got

    async def count(self):
        return (await self.admin.queue_declare(self.queue, passive=True)).consumer_count

    async def left(self, queue=None):
        """What is ready in a queue, in order; it is gone then."""
        found = []
        while isinstance(
            (one := await self.admin.basic_get(queue or self.queue, no_ack=True)).delivery, spec.Basic.GetOk
        ):
            found.append(one.body.decode())
        return " ".join(found)


async def refused(call):
    try:
        await call
    except aiormq.exceptions.AMQPError as error:
        return str(error).partition(" ")[0]
    return "allowed"


async def exclusive_consumer(bench):
    first, second = await bench.channel(), await bench.channel()
    await bench.consume(first, "a", exclusive=True)
    return await refused(bench.consume(second, "b"))


async def exclusive_consumer_where_one_is_active(bench):
    return await refused(bench.consume(await bench.channel(), "a", exclusive=True))


async def consumers_counted(bench):
    channel = await bench.channel()
    await bench.publish("123")
    await bench.consume(channel, "a", 1)
    await channel.basic_cancel("a")
    counts = [await bench.count()]
    await channel.basic_get(bench.queue)
    return [*counts, await bench.count()]


async def those_who_stand_by_counted(bench):
    for tag in "ab":
        await bench.consume(await bench.channel(), tag)
    return await bench.count()


async def what_two_consumers_of_a_channel_held(bench):
    channel = await bench.channel()
    for tag in "ba":
        await bench.consume(channel, tag, 2)
    await bench.publish("12345")
    held = list(bench.seen)
    await channel.close()
    await bench.settle()
    return held, await bench.left()


async def too_many_come_back(bench):
    channel, other = await bench.channel(), await bench.channel()
    await bench.publish("12")
    got = await bench.consume(channel, "a", 2)
    await bench.publish("345")
    await bench.consume(other, "b", 1)
    await channel.basic_cancel("a")
    await channel.basic_nack(got[-1], multiple=True, wait=False)
    await bench.settle()
    return bench.seen, await bench.left(), await bench.left(bench.dead)


async def too_many_come_back_and_one_expires(bench):
    channel = await bench.channel()
    await bench.consume(channel, "a", 2)
    await bench.publish("1", expiration="1")
    await bench.publish("2345")
    await channel.close()
    await bench.settle()
    return await bench.left(), await bench.left(bench.dead)


async def the_next_single_active_consumer(bench, *, no_ack=False):
    first, second = await bench.channel(), await bench.channel()
    second.on_consumer_cancel_callbacks.add(lambda frame: bench.seen.append(f"{frame.consumer_tag} ended"))
    await bench.consume(first, "a", 1)
    await bench.consume(second, "b", 1, no_ack=no_ack)
    await bench.publish("12")
    await first.basic_cancel("a")
    await bench.settle()
    await bench.publish("3")
    return list(bench.seen)


async def a_single_active_consumer_forbids(bench):
    channel = await bench.channel()
    found = [await refused(channel.basic_get(bench.queue))]
    channel = await bench.channel()
    await channel.basic_qos(prefetch_count=1, global_=True)
    consume = spec.Basic.Consume(queue=bench.queue, consumer_tag="t")
    return [*found, await refused(channel.rpc(consume))]


async def turns_of_one_that_acks_nothing(bench):
    first, second, third = [await bench.channel() for _ in range(3)]
    got = await bench.consume(third, "a", 5)
    await bench.publish("12345")
    await third.basic_cancel("a")
    await bench.consume(first, "b", 1, no_ack=True)
    await bench.consume(second, "c", 9)
    await third.basic_nack(got[-1], multiple=True, wait=False)  # in one go, so that both are there for all
    await bench.settle()
    await bench.publish("6")
    await bench.publish("7")
    return sorted(bench.seen[5:], key=lambda one: one[0])


async def counted_behind_a_get(bench, *, no_ack=False):
    await bench.publish("1")
    await bench.publish("2", expiration="1")
    one = await bench.admin.basic_get(bench.queue, no_ack=no_ack)
    await bench.settle()
    return one.delivery.message_count, await bench.left()


FACTS = {
    "RMQ-42 classic": (exclusive_consumer, {}, "ACCESS_REFUSED"),
    "RMQ-42 quorum": (exclusive_consumer, QUORUM, "allowed"),
    "RMQ-42 single active consumer": (exclusive_consumer_where_one_is_active, SINGLE, "ACCESS_REFUSED"),
    "RMQ-43 classic": (consumers_counted, {}, [0, 0]),
    "RMQ-43 quorum": (consumers_counted, QUORUM, [1, 2]),
    "RMQ-43 classic, single active consumer": (those_who_stand_by_counted, SINGLE, 2),
    "RMQ-43 quorum, single active consumer": (those_who_stand_by_counted, {**QUORUM, **SINGLE}, 1),
    "RMQ-44 classic": (what_two_consumers_of_a_channel_held, {}, (["b1", "a2", "b3", "a4"], "1 2 3 4 5")),
    "RMQ-44 quorum": (what_two_consumers_of_a_channel_held, QUORUM, (["b1", "a2", "b3", "a4"], "2 4 1 3 5")),
    "RMQ-45 classic": (too_many_come_back, {"x-max-length": 3}, (["a1", "a2", "b3"], "2 4 5", "1")),
    "RMQ-45 quorum": (too_many_come_back, {**QUORUM, "x-max-length": 3}, (["a1", "a2", "b3"], "5 1 2", "4")),
    "RMQ-45 classic, expiring": (too_many_come_back_and_one_expires, {"x-max-length": 3}, ("3 4 5", "1 2")),
    "RMQ-45 quorum, expiring": (too_many_come_back_and_one_expires, {**QUORUM, "x-max-length": 3}, ("3 4 5", "2 1")),
    "RMQ-46 classic": (a_single_active_consumer_forbids, SINGLE, ["allowed", "allowed"]),
    "RMQ-46 quorum": (a_single_active_consumer_forbids, {**QUORUM, **SINGLE}, ["RESOURCE_LOCKED", "NOT_IMPLEMENTED"]),
    "RMQ-47 classic, acking": (the_next_single_active_consumer, SINGLE, ["a1", "b ended"]),
    "RMQ-47 classic": (lambda bench: the_next_single_active_consumer(bench, no_ack=True), SINGLE, ["a1", "b3"]),
    "RMQ-47 quorum": (the_next_single_active_consumer, {**QUORUM, **SINGLE}, ["a1", "b2"]),
    "RMQ-48 classic": (turns_of_one_that_acks_nothing, {}, ["b1", "b3", "b5", "b7", "c2", "c4", "c6"]),
    "RMQ-48 quorum": (turns_of_one_that_acks_nothing, QUORUM, ["b1", "b7", "c2", "c3", "c4", "c5", "c6"]),
    "RMQ-49 classic": (counted_behind_a_get, {}, (0, "")),
    "RMQ-49 quorum": (counted_behind_a_get, QUORUM, (1, "")),
    "RMQ-49 quorum, acked": (lambda bench: counted_behind_a_get(bench, no_ack=True), QUORUM, (0, "")),
}
"""By its number: what is done, the arguments of the queue, and what is seen then."""


async def observe(uri, name, pause):
    """What is seen of the fact ``name`` on the broker at ``uri``."""
    scenario, arguments, _ = FACTS[name]
    connection = await aiormq.connect(uri)
    bench = Bench(connection, name.replace(" ", "-").replace(",", ""), pause)
    await bench.begin(arguments)
    found = await scenario(bench)
    if not connection.is_closed:
        for queue in (bench.queue, bench.dead):
            await bench.admin.queue_delete(queue)
        await connection.close()
    return found
