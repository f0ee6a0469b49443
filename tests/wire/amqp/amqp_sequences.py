"""Generated sequences of AMQP operations on one queue, and all that can be observed of them."""

import asyncio
import random

import aiormq
from pamqp import commands as spec

QUORUM = {"x-queue-type": "quorum"}
KINDS = {
    "classic": {},
    "quorum": QUORUM,
    "quorum with limit": {**QUORUM, "x-delivery-limit": 2},
    "classic, expiring": {"x-message-ttl": 1},
    "quorum, expiring": {**QUORUM, "x-message-ttl": 1},
    "classic, three at most": {"x-max-length": 3},
    "quorum, three at most": {**QUORUM, "x-max-length": 3},
    "classic, single active consumer": {"x-single-active-consumer": True},
    "quorum, single active consumer": {**QUORUM, "x-single-active-consumer": True},
    "quorum with limit, single active consumer": {**QUORUM, "x-delivery-limit": 1, "x-single-active-consumer": True},
}
OPERATIONS = (
    *("publish",) * 6,
    *("consume",) * 3,
    *("ack",) * 3,
    *("nack",) * 3,
    *("publish, to expire", "reject", "ack all", "nack all", "cancel", "close", "get", "get, acked"),
    *(
        "consume, acked",
        "consume, exclusive",
        "recover",
        "purge",
        "nack, for good",
        "nack all, for good",
        "publish, by topic",
    ),
)
LENGTH = 20
CHANNELS = 3
REST = 3
EXPIRED = 0.06
"""Seconds after which a message with a millisecond to live has gone, if it can go."""


class Player:
    """One connection, up to three channels with one consumer each, a queue, and the queue of its dead letters."""

    def __init__(self, connection, queue, pause):
        self.connection = connection
        self.queue = queue
        self.seen = []
        self._pause = pause
        self._channels = {}
        self._held = {}
        self._tags = {}
        self._sent = 0

    async def prepare(self, arguments):
        self.admin = await self.connection.channel()
        for name in (self.queue, self.queue + ".dead"):
            await self.admin.queue_delete(name)
        dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": self.queue + ".dead"}
        self._expires = "x-message-ttl" in arguments
        await self.admin.queue_declare(self.queue, durable=True, arguments={**arguments, **dead})
        await self.admin.queue_declare(self.queue + ".dead", durable=True)
        await self.admin.queue_bind(self.queue, "amq.topic", self.queue + ".#")

    async def channel(self, number):
        channel = self._channels.get(number)
        if channel is None:
            channel = self._channels[number] = await self.connection.channel(publisher_confirms=False)
            channel.on_consumer_cancel_callbacks.add(lambda frame: self._cancelled(number, frame))
            self._held[number] = {}
        return channel

    async def settle(self):
        """Wait until the broker has worked off what it was sent, and has nothing more to say."""
        for channel in (*self._channels.values(), self.admin):
            if not channel.is_closed:
                await channel.exchange_declare("amq.direct", passive=True)
        seen = -1
        while seen != len(self.seen):
            seen = len(self.seen)
            await asyncio.sleep(self._pause)

    async def step(self, draw):
        operation, number = draw.choice(OPERATIONS), draw.randrange(CHANNELS)
        self.seen.append((operation, number))
        channel = await self.channel(number)
        try:
            await self._do(operation, number, channel, draw)
        except aiormq.exceptions.AMQPError as error:  # the channel is closed: nothing is left of it
            self.seen.append((number, str(error).replace("vhost 'sequences'", "vhost '/'")))
            self._tags.pop(number, None)
            self._channels.pop(number, None)
        await self.settle()
        if operation.startswith("publish") and (self._expires or operation == "publish, to expire"):
            await asyncio.sleep(EXPIRED + self._pause)
        counted = await self.admin.queue_declare(self.queue, passive=True)
        self.seen.append((-1, "ready and consumers", counted.message_count, counted.consumer_count))

    async def _do(self, operation, number, channel, draw):
        held = self._held[number]
        name, _, how = operation.partition(", ")
        if name == "publish":
            await self._publish(how)
        elif name == "consume" and number not in self._tags:
            await self._consume(number, channel, how, draw.randint(1, 3))
        elif name in ("ack", "nack", "reject") and held:
            tag = draw.choice(sorted(held))
            del held[tag]
            if name == "ack":
                await channel.basic_ack(tag, wait=False)
            elif name == "nack":
                await channel.basic_nack(tag, requeue=not how, wait=False)
            else:
                await channel.basic_reject(tag, requeue=False, wait=False)
        elif name in ("ack all", "nack all") and held:
            tag = draw.choice(sorted(held))
            for one in [one for one in held if one <= tag]:
                del held[one]
            if name == "ack all":
                await channel.basic_ack(tag, multiple=True, wait=False)
            else:
                await channel.basic_nack(tag, multiple=True, requeue=not how, wait=False)
        elif name == "recover":
            held.clear()
            await channel.rpc(spec.Basic.Recover(requeue=True))
        elif name == "cancel" and number in self._tags:
            await channel.basic_cancel(self._tags.pop(number))
        elif name == "close":
            self._tags.pop(number, None)
            del self._channels[number]
            await channel.close()
        elif name == "purge":
            self.seen.append((-1, "purged", (await self.admin.queue_purge(self.queue)).message_count))
        elif name == "get":
            message = await channel.basic_get(self.queue, no_ack=bool(how))
            if isinstance(message.delivery, spec.Basic.GetOk):
                self.seen.append((-1, "left", message.delivery.message_count))
                await self._got(number, message, acked=bool(how))
            else:
                self.seen.append((-1, "empty"))

    async def _publish(self, how):
        self._sent += 1
        properties = spec.Basic.Properties(
            delivery_mode=2,
            message_id=str(self._sent),
            headers={"n": self._sent},
            expiration="1" if how == "to expire" else None,
        )
        exchange, key = ("amq.topic", self.queue + ".a.b") if how == "by topic" else ("", self.queue)
        await self.admin.basic_publish(b"%d" % self._sent, exchange=exchange, routing_key=key, properties=properties)

    async def _consume(self, number, channel, how, prefetch):
        await channel.basic_qos(prefetch_count=prefetch)
        tag = f"t{len(self.seen)}"
        await channel.basic_consume(
            self.queue,
            lambda message: self._got(number, message, acked=how == "acked"),
            consumer_tag=tag,
            no_ack=how == "acked",
            exclusive=how == "exclusive",
        )
        self._tags[number] = tag

    async def _got(self, number, message, *, acked):
        delivery = message.delivery
        if not acked:
            self._held[number][delivery.delivery_tag] = None
        told = (delivery.delivery_tag, delivery.redelivered, delivery.exchange, delivery.routing_key)
        self.seen.append((number, message.body, *told, told_properties(message)))

    def _cancelled(self, number, frame):
        if isinstance(frame, spec.Basic.Cancel):
            self.seen.append((number, "cancelled", frame.consumer_tag))

    def observed(self):
        """Deliveries of one step come in one order for each channel, and in any order between them."""
        lines, step = [], []
        for one in [*self.seen, ("end", 0)]:
            if isinstance(one[0], str):
                lines += [str(item) for item in sorted(step, key=lambda item: item[0])]
                lines.append(str(one))
                step = []
            else:
                step.append(one)
        return lines

    async def finish(self):
        for channel in [*self._channels.values()]:
            await channel.close()
            await self.settle()
        for name in (self.queue, self.queue + ".dead"):
            self.seen.append((name.removeprefix(self.queue) or "left", -1))
            rest = await self.connection.channel()
            await rest.basic_consume(
                name, lambda message: self._got(REST, message, acked=True), consumer_tag="rest", no_ack=True
            )
            await self.settle()
            await rest.close()
            await self.admin.queue_delete(name)


def told_properties(message):
    """All properties of a message that say something, without the moments of its deaths."""
    properties = dict(message.header.properties)
    headers = dict(properties.pop("headers") or {})
    deaths = [
        sorted((key, value) for key, value in death.items() if key != "time") for death in headers.pop("x-death", [])
    ]
    return (
        sorted((key, value) for key, value in properties.items() if value is not None),
        sorted(headers.items()),
        deaths,
    )


async def play(uri, kind, seed, pause):
    """All that was observed of the sequence ``seed``. ``pause``: seconds of silence after which all is said."""
    connection = await aiormq.connect(uri)
    player = Player(connection, "sequence-" + kind.replace(" ", "-").replace(",", ""), pause)
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
    return await asyncio.gather(play(real, kind, seed, pause), play(simulated, kind, seed, min(pause, 0.05)))
