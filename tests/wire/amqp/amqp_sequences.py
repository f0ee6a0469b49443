"""Generated sequences of AMQP operations on one queue and what is around it, and all that can be observed of them.

The operations are rows of the tables in ``amqp_messages`` (what a queue gets and gives) and ``amqp_topology`` (what is declared and bound).
"""

import asyncio
import contextlib
import random

import aiormq
import amqp_messages
import amqp_topology
from amqp_messages import CONFIRMING, told_properties
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
MESSAGES = {name: row for name, row in amqp_messages.OPERATIONS.items() if name not in amqp_messages.FURTHER}
FURTHER = {name: amqp_messages.OPERATIONS[name] for name in amqp_messages.FURTHER}
GROUPS = (FURTHER, amqp_topology.OPERATIONS)
"""A sequence draws from the common operations on messages, and from each of these groups or not."""
OPENING = (*("exchange",) * 3, *("queue",) * 2, *("bind",) * 4, "bind exchange", "bind exchange")
"""What a sequence with queues and exchanges beside the queue begins with, so that there is something to be routed through."""
LENGTH = 20
CHANNELS = 3
REST = 3
PROBE = -1
LONGEST_TEXT = 230
REFUSALS = (aiormq.exceptions.AMQPError, aiormq.exceptions.ChannelInvalidStateError)


class Player:
    """One connection, up to three channels with two consumers each, one channel that publishes with confirms, the queue, the queue of
    its dead letters, and a few queues and exchanges beside them.
    """

    def __init__(self, uri, connection, queue, arguments, pause):
        self.uri = uri
        self.connection = connection
        self.queue = queue
        self.arguments = arguments
        self.seen = []
        self.held = {}
        self.tags = {}
        self.sent = 0
        self.wait = 0.0
        """Seconds until what this step has sent has expired, if it can."""
        self.declared = {}
        """By its name, how each queue and exchange beside the queue was last declared."""
        self.bound = []
        self._pause = pause
        self._channels = {}

    @property
    def quorum(self):
        return "x-queue-type" in self.arguments

    def name(self, slot):
        """The name of what stands in a slot; the queue's own is empty."""
        return f"{self.queue}.{slot}" if slot else self.queue

    # --- what is there ------------------------------------------------------------------------------------------------

    async def prepare(self):
        self.admin = await self.connection.channel(publisher_confirms=False)
        await self._remove()
        await self.declare_main()
        await self.admin.queue_declare(self.name("dead"), durable=True)

    async def declare_main(self):
        dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": self.name("dead")}
        await self.admin.queue_declare(self.queue, durable=True, arguments={**self.arguments, **dead})
        await self.admin.queue_bind(self.queue, "amq.topic", self.queue + ".#")

    async def _remove(self):
        for slot in ("", "dead", *amqp_topology.QUEUES):
            await self.admin.queue_delete(self.name(slot))
        for slot in amqp_topology.EXCHANGES:
            await self.admin.exchange_delete(self.name(slot))

    async def channel(self, number):
        channel = self._channels.get(number)
        if channel is None:
            confirms = number == CONFIRMING
            channel = self._channels[number] = await self.connection.channel(
                publisher_confirms=confirms, on_return_raises=False
            )
            channel.on_consumer_cancel_callbacks.add(lambda frame: self._cancelled(number, frame))
            self.held[number], self.tags[number] = {}, []
        return channel

    def forget(self, number):
        """The channel is closed: nothing is left of it."""
        del self._channels[number]
        self.tags[number] = []

    # --- steps --------------------------------------------------------------------------------------------------------

    async def settle(self):
        """Wait until the broker has worked off what it was sent, and has nothing more to say."""
        for channel in (*self._channels.values(), self.admin):
            with contextlib.suppress(*REFUSALS):
                await channel.exchange_declare("amq.direct", passive=True)
        seen = -1
        while seen != len(self.seen):
            seen = len(self.seen)
            await asyncio.sleep(self._pause)

    async def step(self, operations, draw, operation=None):
        if operation is None:
            (operation,) = draw.choices(list(operations), [weight for weight, _ in operations.values()])
        number = draw.randrange(CHANNELS)
        self.seen.append((operation, number))
        self.wait = 0.0
        await self.channel(number)
        with contextlib.suppress(*REFUSALS):  # the channel is closed, which is observed below
            await operations[operation][1](self, number, draw)
        await self.settle()
        for closed, channel in [*self._channels.items()]:
            if channel.is_closed:
                self.seen.append((closed, "closed", self.told(channel.closing.exception())))
                self.forget(closed)
        if self.wait:
            await asyncio.sleep(self.wait + self._pause)
        if amqp_topology.OPERATIONS.keys() & operations.keys():
            await self.probe()
        else:
            await self._count(self.admin, "")

    async def _count(self, channel, slot):
        counted = await channel.queue_declare(self.name(slot), passive=True)
        self.seen.append((PROBE, slot, "ready and consumers", counted.message_count, counted.consumer_count))

    async def probe(self):
        """See what is there, and how much is in it."""
        probe = self.admin
        for slot in ("", "dead", *amqp_topology.QUEUES, *amqp_topology.EXCHANGES):
            if probe.is_closed:
                probe = await self.connection.channel()
            try:
                if slot in amqp_topology.EXCHANGES:
                    await probe.exchange_declare(self.name(slot), passive=True)
                else:
                    await self._count(probe, slot)
            except aiormq.exceptions.AMQPError as error:
                self.seen.append((PROBE, slot, self.told(error)))
                self.admin = probe = await self.connection.channel(publisher_confirms=False)

    @staticmethod
    def told(error):
        """An error, up to where the broker may have cut it off, which depends on the name of the virtual host."""
        return f"{type(error).__name__}: {error}".replace("vhost 'sequences'", "vhost '/'")[:LONGEST_TEXT]

    def answered(self, number, answer):
        """Note the answer to a method, or the method that brought a message."""
        answer = getattr(answer, "delivery", answer)
        self.seen.append((number, answer.name, sorted((key, value) for key, value in answer if key != "consumer_tag")))

    async def got(self, number, message, *, acked):
        delivery = message.delivery
        if not acked:
            self.held[number][delivery.delivery_tag] = None
        told = (delivery.delivery_tag, delivery.redelivered, delivery.exchange, delivery.routing_key)
        self.seen.append((number, message.body, *told, told_properties(message)))

    def _cancelled(self, number, frame):
        if isinstance(frame, spec.Basic.Cancel):
            self.seen.append((number, "cancelled", frame.consumer_tag))
            self.tags[number] = [tag for tag in self.tags[number] if tag != frame.consumer_tag]

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
        for slot in ("", "dead", *amqp_topology.QUEUES):
            self.seen.append((slot or "left", -1))
            rest = await self.connection.channel()
            with contextlib.suppress(aiormq.exceptions.ChannelNotFoundEntity):
                await rest.basic_consume(
                    self.name(slot),
                    lambda message: self.got(REST, message, acked=True),
                    consumer_tag="rest",
                    no_ack=True,
                )
                await self.settle()
                await rest.close()
        await self._remove()


async def play(uri, kind, seed, pause):
    """All that was observed of the sequence ``seed``. ``pause``: seconds of silence after which all is said."""
    connection = await aiormq.connect(uri)
    name = "sequence-" + kind.replace(" ", "-").replace(",", "")
    player = Player(uri, connection, name, KINDS[kind], pause)
    await player.prepare()
    draw = random.Random(seed)
    operations = dict(MESSAGES)
    for group in GROUPS:
        if draw.random() < 0.5:
            operations.update(group)
    for operation in OPENING:
        if operation in operations:
            await player.step(operations, draw, operation)
    for _ in range(LENGTH):
        await player.step(operations, draw)
    await player.finish()
    await connection.close()
    return player.observed()


async def compare(real, simulated, kind, seed, *, pause=0.02):
    """The two lists of observations, of the real broker first; both on real sockets.

    ``pause``: seconds after each operation in which a broker says what it has to say; a busy machine needs more.
    """
    return await asyncio.gather(play(real, kind, seed, pause), play(simulated, kind, seed, min(pause, 0.05)))
