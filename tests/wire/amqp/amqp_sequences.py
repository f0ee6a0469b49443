"""Generated sequences of AMQP operations, and all that can be observed of them."""

import asyncio
import random

import aiormq
from pamqp import commands as spec

KINDS = {
    "classic": {},
    "quorum": {"x-queue-type": "quorum"},
    "quorum with limit": {"x-queue-type": "quorum", "x-delivery-limit": 2},
}
OPERATIONS = ("publish", "publish", "publish", "consume", "ack", "nack", "reject", "ack all", "cancel", "close", "get")
LENGTH = 14
CHANNELS = 3
GETS = 3


class Player:
    """One connection, up to three channels with one consumer each, a queue, and the queue of its dead letters."""

    def __init__(self, connection, queue, settle):
        self.connection = connection
        self.queue = queue
        self.seen = []
        self._settle = settle
        self._channels = {}
        self._held = {}
        self._tags = {}
        self._sent = 0

    async def prepare(self, arguments):
        self.admin = await self.connection.channel()
        for name in (self.queue, self.queue + ".dead"):
            await self.admin.queue_delete(name)
        dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": self.queue + ".dead"}
        await self.admin.queue_declare(self.queue, durable=True, arguments={**arguments, **dead})
        await self.admin.queue_declare(self.queue + ".dead", durable=True)

    async def channel(self, number):
        channel = self._channels.get(number)
        if channel is None:
            channel = self._channels[number] = await self.connection.channel(publisher_confirms=False)
            self._held[number] = {}
        return channel

    async def step(self, draw):
        operation, number = draw.choice(OPERATIONS), draw.randrange(CHANNELS)
        if operation == "get":
            # On a channel of its own: a quorum queue takes back what was got and what was consumed on one channel apart
            # from each other, which the simulation does not.
            number = GETS
        self.seen.append((operation, number))
        channel = await self.channel(number)
        held = self._held[number]
        if operation == "publish":
            self._sent += 1
            await self.admin.basic_publish(
                b"%d" % self._sent,
                routing_key=self.queue,
                properties=spec.Basic.Properties(
                    delivery_mode=2, message_id=str(self._sent), headers={"n": self._sent}
                ),
            )
        elif operation == "consume" and number not in self._tags:
            await channel.basic_qos(prefetch_count=draw.randint(1, 3))
            self._tags[number] = f"t{len(self.seen)}"
            await channel.basic_consume(
                self.queue, lambda message: self._got(number, message), consumer_tag=self._tags[number]
            )
        elif operation in ("ack", "nack", "reject") and held:
            tag = draw.choice(sorted(held))
            del held[tag]
            if operation == "ack":
                await channel.basic_ack(tag, wait=False)
            elif operation == "nack":
                await channel.basic_nack(tag, requeue=True, wait=False)
            else:
                await channel.basic_reject(tag, requeue=False, wait=False)
        elif operation == "ack all" and held:
            tag = draw.choice(sorted(held))
            for one in [one for one in held if one <= tag]:
                del held[one]
            await channel.basic_ack(tag, multiple=True, wait=False)
        elif operation == "cancel" and number in self._tags:
            await channel.basic_cancel(self._tags.pop(number))
        elif operation == "close":
            self._tags.pop(number, None)
            del self._channels[number]
            await channel.close()
        elif operation == "get":
            message = await channel.basic_get(self.queue)
            if isinstance(message.delivery, spec.Basic.GetOk):
                await self._got(number, message)
            else:
                self.seen.append("empty")
        await self._settle()

    async def _got(self, number, message):
        delivery = message.delivery
        self._held[number][delivery.delivery_tag] = None
        headers = {key: value for key, value in (message.header.properties.headers or {}).items() if key != "x-death"}
        self.seen.append((number, message.body, delivery.redelivered, sorted(headers.items())))

    def observed(self):
        """Deliveries of one step come in one order for each channel, and in any order between them."""
        lines, step = [], []
        for one in [*self.seen, ("end", 0)]:
            if isinstance(one, tuple) and len(one) == 2:
                lines += [
                    str(item) for item in sorted(step, key=lambda item: item[0] if isinstance(item, tuple) else -1)
                ]
                lines.append(str(one))
                step = []
            else:
                step.append(one)
        return lines

    async def finish(self):
        for channel in self._channels.values():
            await channel.close()
            await self._settle()
        for name in (self.queue, self.queue + ".dead"):
            self.seen.append((name.removeprefix(self.queue) or "left", -1))
            while isinstance((message := await self.admin.basic_get(name, no_ack=True)).delivery, spec.Basic.GetOk):
                headers = message.header.properties.headers or {}
                deaths = [(one["queue"], one["reason"], one["count"]) for one in headers.get("x-death", [])]
                self.seen.append(
                    (0, message.body, message.delivery.redelivered, headers.get("x-delivery-count"), deaths)
                )
            await self.admin.queue_delete(name)


async def play(uri, kind, seed, settle):
    """All that was observed of the sequence ``seed``. ``settle``: waits until the broker has nothing more to say."""
    connection = await aiormq.connect(uri)
    player = Player(connection, "sequence", settle)
    await player.prepare(KINDS[kind])
    draw = random.Random(seed)
    for _ in range(LENGTH):
        await player.step(draw)
    await player.finish()
    await connection.close()
    return player.observed()


async def compare(real, simulated, kind, seed, *, pause=0.02):
    """The two lists of observations, of the real broker first; both on real sockets.

    ``pause``: seconds after each operation in which a broker says what it has to say; a busy machine needs more.
    """
    return (
        await play(real, kind, seed, lambda: asyncio.sleep(pause)),
        await play(simulated, kind, seed, lambda: asyncio.sleep(min(pause, 0.05))),
    )
