"""A queue to try facts on (see ``amqp_facts``), the same on a real broker and on the simulated one."""

import asyncio
import contextlib

import aiormq
from pamqp import commands as spec

EXPIRED = 0.06
CLOSED = (aiormq.exceptions.AMQPError, aiormq.exceptions.ChannelInvalidStateError)


class Bench:
    """A queue, the queue of its dead letters, and what the consumers of its channels were given. ``pause``: seconds of silence
    after which a broker has said all.
    """

    def __init__(self, connection, name, pause):
        self.connection = connection
        self.queue = "fact-" + name
        self.dead = self.queue + "-dead"
        self.seen = []
        self.pause = pause
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
                with contextlib.suppress(*CLOSED):  # meanwhile, for what it has sent
                    await channel.exchange_declare("amq.direct", passive=True)
        seen = -1
        while seen != len(self.seen):
            seen = len(self.seen)
            await asyncio.sleep(self.pause)

    async def publish(self, names, **properties):
        for name in names:
            about = spec.Basic.Properties(delivery_mode=2, **properties)
            await self.admin.basic_publish(name.encode(), routing_key=self.queue, properties=about)
        await self.settle()
        if properties:
            await asyncio.sleep(EXPIRED + self.pause)

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
