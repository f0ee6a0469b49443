"""Operations of generated sequences on messages and those who consume them: rows of ``(weight, operation)``.

An operation is called with the player (see ``amqp_sequences``), the number of a channel, and what draws its details.
"""

from pamqp import commands as spec

EXPIRED = 0.06
"""Seconds after which a message with a millisecond to live has gone, if it can go."""
UNKNOWN = 999
CONFIRMING = 4
"""The number of the channel that publishes with confirms."""


def publish(exchange="", key="", **properties):
    """A message to the queue; ``key`` is what stands behind the queue's name in the routing key."""

    async def call(player, _, __):
        await player.admin.basic_publish(
            b"%d" % next_number(player),
            exchange=exchange,
            routing_key=player.queue + key,
            properties=about(player, **properties),
        )

    return call


def next_number(player, *, expires=False):
    """The number of the next message, which may expire."""
    player.sent += 1
    if expires or "x-message-ttl" in player.arguments:
        player.wait = EXPIRED
    return player.sent


def about(player, *, headers=None, **properties):
    """The properties of the message that was numbered last."""
    if "expiration" in properties:
        player.wait = EXPIRED
    number = player.sent
    return spec.Basic.Properties(
        delivery_mode=2, message_id=str(number), headers={"n": number, **(headers or {})}, **properties
    )


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


def consume(*, second=False, limited=True, **how):
    """A consumer, if the channel has none yet, or has ``second`` one. Without ``limited`` it has the prefetch of the last one, or none."""

    async def call(player, number, draw):
        prefetch = draw.randint(1, 3) if limited else None
        if len(player.tags[number]) > second:
            return
        await consume_from(player, number, player.queue, prefetch, **how)

    return call


async def consume_from(player, number, queue, prefetch, *, no_ack=False, **how):
    channel = await player.channel(number)
    if prefetch is not None:  # which ends a limit of the channel (RMQ-56)
        await channel.basic_qos(prefetch_count=prefetch)
    tag = f"t{len(player.seen)}"
    await channel.basic_consume(
        queue, lambda message: player.got(number, message, acked=no_ack), consumer_tag=tag, no_ack=no_ack, **how
    )
    player.tags[number].append(tag)


def settle(method, *, multiple=False, **how):
    """``basic_ack``, ``basic_nack`` or ``basic_reject`` of something that the channel holds, or ``multiple``: of all up to there."""

    async def call(player, number, draw):
        held = player.held[number]
        if not held:
            return
        tag = draw.choice(sorted(held))
        for one in [one for one in held if one == tag or (multiple and one < tag)]:
            del held[one]
        several = {"multiple": True} if multiple else {}
        await getattr(await player.channel(number), method)(tag, wait=False, **several, **how)

    return call


def settle_tag(method, tag, **how):
    """The same of a delivery tag that the channel does not hold, or of tag 0."""

    async def call(player, number, _):
        if not tag and how.get("multiple"):
            player.held[number].clear()
        await getattr(await player.channel(number), method)(tag, wait=False, **how)

    return call


async def recover(player, number, _):
    player.held[number].clear()
    await (await player.channel(number)).rpc(spec.Basic.Recover(requeue=True))


async def cancel(player, number, draw):
    tags = player.tags[number]
    if tags:
        await (await player.channel(number)).basic_cancel(tags.pop(draw.randrange(len(tags))))


async def close(player, number, _):
    channel = await player.channel(number)
    player.forget(number)
    await channel.close()


async def purge(player, number, _):
    player.answered(number, await (await player.channel(number)).queue_purge(player.queue))


def get(*, no_ack=False):
    async def call(player, number, _):
        await get_from(player, number, player.queue, no_ack=no_ack)

    return call


async def get_from(player, number, queue, *, no_ack):
    message = await (await player.channel(number)).basic_get(queue, no_ack=no_ack)
    if isinstance(message.delivery, spec.Basic.GetOk):
        player.seen.append((number, "left", message.delivery.message_count))
        await player.got(number, message, acked=no_ack)
    else:
        player.seen.append((number, "empty"))


async def limit_channel(player, number, draw):
    """A prefetch of the whole channel, which quorum queues refuse by closing the connection (RMQ-46)."""
    limit = draw.randrange(4)
    if not player.quorum:
        await (await player.channel(number)).basic_qos(prefetch_count=limit, global_=True)


async def flow(player, number, _):
    player.answered(number, await (await player.channel(number)).rpc(spec.Channel.Flow(active=True)))


async def cancel_nothing(player, number, _):
    player.answered(number, await (await player.channel(number)).basic_cancel("nothing"))


def refused(exchange="", **properties):
    """A message that the broker closes the channel for."""

    async def call(player, number, _):
        await (await player.channel(number)).basic_publish(
            b"refused", exchange=exchange, routing_key=player.queue, properties=spec.Basic.Properties(**properties)
        )

    return call


OPERATIONS = {
    "publish": (6, publish()),
    "publish, to expire": (1, publish(expiration="1")),
    "publish, by topic": (1, publish("amq.topic", ".a.b")),
    "consume": (3, consume()),
    "consume, acked": (1, consume(no_ack=True)),
    "consume, exclusive": (1, consume(exclusive=True)),
    "cancel": (1, cancel),
    "ack": (3, settle("basic_ack")),
    "ack all": (1, settle("basic_ack", multiple=True)),
    "nack": (3, settle("basic_nack", requeue=True)),
    "nack, for good": (1, settle("basic_nack", requeue=False)),
    "nack all": (1, settle("basic_nack", multiple=True, requeue=True)),
    "nack all, for good": (1, settle("basic_nack", multiple=True, requeue=False)),
    "reject": (1, settle("basic_reject", requeue=False)),
    "recover": (1, recover),
    "purge": (1, purge),
    "get": (1, get()),
    "get, acked": (1, get(no_ack=True)),
    "close": (1, close),
    "consume, second": (3, consume(second=True)),
    "consume, second, acked": (1, consume(second=True, no_ack=True)),
    "limit the channel": (3, limit_channel),
    "consume, without a limit": (4, consume(second=True, limited=False)),
    "reject, to come back": (2, settle("basic_reject", requeue=True)),
    "ack what is not held": (0.5, settle_tag("basic_ack", UNKNOWN)),
    "ack all of what is not held": (0.5, settle_tag("basic_ack", UNKNOWN, multiple=True)),
    "nack what is not held": (0.5, settle_tag("basic_nack", UNKNOWN, requeue=True)),
    "reject what is not held": (0.5, settle_tag("basic_reject", UNKNOWN, requeue=True)),
    "ack everything": (1, settle_tag("basic_ack", 0, multiple=True)),
    "nack everything": (1, settle_tag("basic_nack", 0, multiple=True, requeue=True)),
    "flow on": (0.5, flow),
    "cancel nothing": (0.5, cancel_nothing),
    "publish, never expiring right": (0.5, refused(expiration="soon")),
    "publish, by somebody else": (0.5, refused(user_id="somebody")),
    "publish, to nowhere": (0.5, refused("nowhere")),
}
FURTHER = list(OPERATIONS)[list(OPERATIONS).index("consume, second") :]
"""Those that half of the sequences have."""
