"""Operations of generated sequences on queues, exchanges and bindings, and what is published through them: rows as in ``amqp_messages``.

The queues and exchanges stand in slots, so that an operation meets what others have declared, otherwise or not at all.
"""

import asyncio
import contextlib

import aiormq
from amqp_messages import CONFIRMING, EXPIRED, about, consume_from, get_from, next_number, told_properties
from pamqp import commands as spec

QUEUES = ("one", "two")
EXCHANGES = ("x1", "x2", "x3")
KINDS = ("direct", "topic", "fanout", "headers", "headers")
KEYS = ("a", "a.b", "b.#", "*.b", "#", "")
VALUES = (1, 300, 1.0, True, "1", "b", None, [1], {"a": 1})
MATCHES = ("all", "any", "all-with-x", "any-with-x", "some", None)
FIELDS = ("h", "i", "x-h")
QUORUM = {"x-queue-type": "quorum"}


def often(draw, share):
    return draw.random() < share


def table(draw, *, matches):
    """Headers of a message, or the arguments of a binding, which may say how headers match."""
    values = VALUES if often(draw, 0.3) else (1, "b")
    found = {field: draw.choice(values) for field in FIELDS if often(draw, 0.5)}
    mode = draw.choice(MATCHES) if matches else None
    return found if mode is None else {**found, "x-match": mode}


def slot_of_exchange(player, draw):
    return player.name(draw.choice(EXCHANGES))


def declare(method, slots, options_of):
    """A declaration with new properties, or those that the queue or exchange has."""

    async def call(player, number, draw):
        name, options = player.name(draw.choice(slots)), options_of(player, draw)
        if often(draw, 0.4):
            options = player.declared.get(name, options)
        player.answered(number, await getattr(await player.channel(number), method)(name, **options))
        player.declared[name] = options

    return call


# --- exchanges ----------------------------------------------------------------------------------------------------------


def exchange_options(player, draw):
    alternate = {"alternate-exchange": slot_of_exchange(player, draw)} if often(draw, 0.3) else None
    return {
        "exchange_type": draw.choice(KINDS),
        "durable": often(draw, 0.8),
        "auto_delete": often(draw, 0.2),
        "internal": often(draw, 0.15),
        "arguments": alternate,
    }


declare_exchange = declare("exchange_declare", EXCHANGES, exchange_options)


async def look_for_exchange(player, number, draw):
    name = slot_of_exchange(player, draw)
    player.answered(number, await (await player.channel(number)).exchange_declare(name, passive=True))


async def delete_exchange(player, number, draw):
    name, unused = slot_of_exchange(player, draw), often(draw, 0.6)
    player.answered(number, await (await player.channel(number)).exchange_delete(name, if_unused=unused))


# --- bindings -----------------------------------------------------------------------------------------------------------


def binding(player, draw, *, to_queue):
    """What is bound, from where, by which key and arguments."""
    target = player.name(draw.choice(("", *QUEUES))) if to_queue else slot_of_exchange(player, draw)
    return target, slot_of_exchange(player, draw), draw.choice(KEYS), table(draw, matches=True)


def bind(*, to_queue, undo):
    """A binding of a queue or an exchange, or the end of one, which mostly was there."""
    method = ("queue_" if to_queue else "exchange_") + ("unbind" if undo else "bind")

    async def call(player, number, draw):
        one = binding(player, draw, to_queue=to_queue)
        known = [bound for is_queue, bound in player.bound if is_queue is to_queue]
        if known and often(draw, 0.8 if undo else 0.2):
            one = draw.choice(known)
        player.bound.append((to_queue, one))
        target, source, key, arguments = one
        call = getattr(await player.channel(number), method)
        player.answered(number, await call(target, source, key, arguments=arguments))

    return call


# --- queues -------------------------------------------------------------------------------------------------------------


def queue_options(player, draw):
    dead = {"x-dead-letter-exchange": slot_of_exchange(player, draw)}
    arguments = draw.choice(
        (
            {},
            QUORUM,
            {"x-max-length": 2},
            {"x-max-length": 1, "x-overflow": "reject-publish"},
            {"x-max-length": 1, **dead},
            {**QUORUM, "x-max-length": 1, **dead},
            {"x-message-ttl": 100_000, **dead, "x-dead-letter-routing-key": "a.b"},
            {"x-single-active-consumer": True},
        )
    )
    return {
        "durable": often(draw, 0.85),
        "auto_delete": often(draw, 0.15),
        "exclusive": often(draw, 0.15),
        "arguments": arguments,
    }


declare_queue = declare("queue_declare", QUEUES, queue_options)


async def declare_main_otherwise(player, number, draw):
    options = queue_options(player, draw)
    player.answered(number, await (await player.channel(number)).queue_declare(player.queue, **options))


async def look_for_queue(player, number, draw):
    name = player.name(draw.choice(QUEUES))
    player.answered(number, await (await player.channel(number)).queue_declare(name, passive=True))


def is_quorum(player, name):
    """Whether the queue in a slot may be a quorum queue, which closes the connection for a deletion that has conditions."""
    return "x-queue-type" in (player.declared.get(name) or {"arguments": {}})["arguments"]


async def delete_queue(player, number, draw):
    name = player.name(draw.choice(QUEUES))
    flags = {"if_unused": often(draw, 0.4), "if_empty": often(draw, 0.4)}
    if is_quorum(player, name):
        flags = {}
    player.answered(number, await (await player.channel(number)).queue_delete(name, **flags))


async def delete_main(player, number, draw):
    """The queue that all is about; it is declared again at once."""
    flags = {} if player.quorum else {"if_unused": often(draw, 0.6), "if_empty": often(draw, 0.6)}
    try:
        player.answered(number, await (await player.channel(number)).queue_delete(player.queue, **flags))
    finally:
        await player.settle()
        await player.declare_main()


async def purge(player, number, draw):
    name = player.name(draw.choice(QUEUES))
    player.answered(number, await (await player.channel(number)).queue_purge(name))


async def get(player, number, draw):
    await get_from(player, number, player.name(draw.choice(QUEUES)), no_ack=often(draw, 0.5))


async def consume(player, number, draw):
    name, no_ack, exclusive = player.name(draw.choice(QUEUES)), often(draw, 0.3), often(draw, 0.2)
    await consume_from(player, number, name, draw.randint(1, 3), no_ack=no_ack, exclusive=exclusive)


async def let_expire(player, number, _):
    """A queue that nobody uses, which goes."""
    channel, name = await player.channel(number), player.name("expiring")
    await channel.queue_declare(name, arguments={"x-expires": 1})
    await asyncio.sleep(4 * EXPIRED)
    await channel.queue_declare(name, passive=True)


async def own_queue(player, number, draw):
    """A queue that the broker names, and that the channel then means by no name."""
    channel = await player.channel(number)
    name = (await channel.queue_declare("", exclusive=True, auto_delete=True)).queue
    await channel.queue_bind("", slot_of_exchange(player, draw), "a")
    await player.admin.basic_publish(b"own", routing_key=name)
    await player.settle()
    player.answered(number, await channel.queue_purge(""))
    player.answered(number, await channel.queue_delete(""))


# --- publishing ---------------------------------------------------------------------------------------------------------


async def publish(player, _, draw):
    """Through an exchange, or to a queue that may be missing, confirmed, and mandatory or not: what came back is seen."""
    exchange, key = slot_of_exchange(player, draw), draw.choice(("a", "a.b", "b", "b.c", ""))
    if often(draw, 0.2):
        exchange, key = "", player.name(draw.choice(QUEUES))
    mandatory, body = often(draw, 0.6), b"%d" % next_number(player)
    answer = await (await player.channel(CONFIRMING)).basic_publish(
        body,
        exchange=exchange,
        routing_key=key,
        mandatory=mandatory,
        properties=about(player, headers=table(draw, matches=False)),
    )
    player.answered(CONFIRMING, answer)
    if hasattr(answer, "body"):  # it was returned
        player.seen.append((CONFIRMING, answer.body, told_properties(answer)))


# --- others -------------------------------------------------------------------------------------------------------------


def on_queue(method, **options):
    """Of another connection, to the queue in a slot: refused where it is another's exclusive one."""

    async def call(player, channel, draw):
        return await getattr(channel, method)(player.name(draw.choice(QUEUES)), **options)

    return call


async def bind_of_other(player, channel, draw):
    target, source, key, arguments = binding(player, draw, to_queue=True)
    return await channel.queue_bind(target, source, key, arguments=arguments)


async def hard(player, channel, draw):
    """What ends the whole connection."""
    frames = [
        [spec.Exchange.Declare(exchange=player.name("x1"), exchange_type="nonsense")],
        [spec.Basic.Recover(requeue=False)],
        [spec.Basic.Qos(prefetch_size=1)],
    ]
    if player.quorum:
        frames += [
            [spec.Queue.Delete(queue=player.queue, if_unused=True)],
            [spec.Queue.Delete(queue=player.queue, if_empty=True)],
            [spec.Basic.Qos(prefetch_count=1, global_=True), spec.Basic.Consume(queue=player.queue)],
        ]
    for frame in draw.choice(frames):
        answer = await channel.rpc(frame)
    return answer


def other(operation):
    """By another connection, which is there for this only."""

    async def call(player, number, draw):
        connection = await aiormq.connect(player.uri)
        channel = await connection.channel(publisher_confirms=False)
        try:
            player.answered(number, await operation(player, channel, draw))
        except aiormq.exceptions.AMQPError as error:
            player.seen.append((number, player.told(error)))
        with contextlib.suppress(aiormq.exceptions.AMQPError):
            await connection.close()

    return call


OPERATIONS = {
    "exchange": (5, declare_exchange),
    "exchange, passive": (0.5, look_for_exchange),
    "exchange, deleted": (1, delete_exchange),
    "queue": (4, declare_queue),
    "queue, otherwise": (0.5, declare_main_otherwise),
    "queue, passive": (0.5, look_for_queue),
    "queue, deleted": (1, delete_queue),
    "queue, deleted and declared": (1, delete_main),
    "queue, to expire": (0.3, let_expire),
    "queue, named by the broker": (0.5, own_queue),
    "bind": (5, bind(to_queue=True, undo=False)),
    "unbind": (1.5, bind(to_queue=True, undo=True)),
    "bind exchange": (3, bind(to_queue=False, undo=False)),
    "unbind exchange": (1, bind(to_queue=False, undo=True)),
    "publish, routed": (14, publish),
    "purge, beside": (0.5, purge),
    "get, beside": (1.5, get),
    "consume, beside": (2, consume),
    "other looks": (0.3, other(on_queue("queue_declare", passive=True))),
    "other gets": (0.3, other(on_queue("basic_get", no_ack=True))),
    "other purges": (0.3, other(on_queue("queue_purge"))),
    "other deletes": (0.3, other(on_queue("queue_delete"))),
    "other binds": (0.5, other(bind_of_other)),
    "other errs": (0.5, other(hard)),
}
