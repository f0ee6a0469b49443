"""Requests to an AMQP broker, one by one, and what it answered: run on the simulated broker and on the real one."""

import asyncio

import aiormq
from pamqp import commands as spec

QUORUM = {"x-queue-type": "quorum"}
ALTERNATE = {"alternate-exchange": "nowhere"}
EVERYTHING = {
    "x-dead-letter-exchange": "e",
    "x-dead-letter-routing-key": "k",
    "x-expires": 100_000,
    "x-max-length": 9,
    "x-message-ttl": 5,
    "x-overflow": "drop-head",
    "x-single-active-consumer": True,
}
TTL = {**QUORUM, "x-message-ttl": 100_000}


def declare(name, *, durable=True, arguments=None, **options):
    return lambda channel: channel.queue_declare(name, durable=durable, arguments=arguments, **options)


def exchange(name, kind="topic", **options):
    return lambda channel: channel.exchange_declare(name, exchange_type=kind, **options)


def rpc(*frames):
    async def call(channel):
        answer = None
        for frame in frames:
            answer = await channel.rpc(frame)
        return answer

    return call


def settle(*frames):
    async def call(channel):
        for frame in frames:
            await channel.rpc(frame)  # not answered
        return await channel.basic_qos(prefetch_count=1)

    return call


def publish(key="pc", exchange="", **properties):
    return lambda channel: channel.basic_publish(
        b"x", exchange=exchange, routing_key=key, mandatory=True, properties=spec.Basic.Properties(**properties)
    )


def consume(queue="pc", tag="t", **options):
    return spec.Basic.Consume(queue=queue, consumer_tag=tag, **options)


def got(queue):
    async def call(channel):
        return (await channel.basic_get(queue)).delivery

    return call


def bind_headers(arguments):
    return lambda channel: channel.queue_bind("pc", "amq.headers", "", arguments=arguments)


async def acked_twice(channel):
    await channel.basic_publish(b"x", routing_key="pc")
    tag = (await channel.basic_get("pc")).delivery.delivery_tag
    return await settle(spec.Basic.Ack(tag), spec.Basic.Ack(tag))(channel)


async def acked_with_one_left(channel):
    for _ in range(2):
        await channel.basic_publish(b"x", routing_key="pc")
    tags = [(await channel.basic_get("pc")).delivery.delivery_tag for _ in range(2)]
    return await settle(spec.Basic.Ack(tags[-1]), spec.Basic.Ack(tags[-1], multiple=True))(channel)


async def deleted_while_full(channel):
    await channel.basic_publish(b"x", routing_key="pc")
    return await channel.queue_delete("pc", if_empty=True)


REQUESTS = {
    "declare": declare("pq", arguments=TTL),
    "declare again": declare("pq", arguments=TTL),
    "otherwise durable": declare("pq", durable=False, arguments=TTL),
    "otherwise auto-delete": declare("pq", auto_delete=True, arguments=TTL),
    "otherwise exclusive": declare("pq", exclusive=True, arguments=TTL),
    "another type": declare("pq", arguments={**TTL, "x-queue-type": "classic"}),
    "no type": declare("pq", arguments={"x-message-ttl": 100_000}),
    "another time": declare("pq", arguments={**TTL, "x-message-ttl": 5}),
    "no time": declare("pq", arguments=QUORUM),
    "one argument more": declare("pq", arguments={**TTL, "x-dead-letter-exchange": "e"}),
    "exclusive and durable, then transient": rpc(
        spec.Queue.Declare(queue="px", durable=True, exclusive=True),
        spec.Queue.Declare(queue="px", exclusive=True),
        spec.Queue.Delete(queue="px"),
    ),
    "exclusive and transient, then durable and otherwise": rpc(
        spec.Queue.Declare(queue="px", exclusive=True),
        spec.Queue.Declare(queue="px", durable=True, exclusive=True, arguments={"x-message-ttl": 100_000}),
    ),
    "classic": declare("pc"),
    "classic by name": declare("pc", arguments={"x-queue-type": "classic"}),
    "classic as quorum": declare("pc", arguments=QUORUM),
    "time of text": declare("bad", arguments={"x-message-ttl": "x"}),
    "negative time": declare("bad", arguments={"x-message-ttl": -1}),
    "expires at once": declare("bad", arguments={"x-expires": 0}),
    "key without exchange": declare("bad", arguments={"x-dead-letter-routing-key": "k"}),
    "odd overflow": declare("bad", arguments={"x-overflow": "k"}),
    "odd type": declare("bad", arguments={"x-queue-type": "k"}),
    "number for a type": declare("bad", arguments={"x-queue-type": 1}),
    "transient quorum": declare("bad", durable=False, arguments=QUORUM),
    "exclusive quorum": declare("bad", exclusive=True, arguments=QUORUM),
    "auto-delete quorum": declare("bad", auto_delete=True, arguments=QUORUM),
    "auto-delete, exclusive and transient quorum": declare(
        "bad", durable=False, exclusive=True, auto_delete=True, arguments=QUORUM
    ),
    "exclusive and transient quorum": declare("bad", durable=False, exclusive=True, arguments=QUORUM),
    "limited classic": declare("bad", arguments={"x-delivery-limit": 3}),
    "limited classic again": declare("pc", arguments={"x-delivery-limit": 3}),
    "limited classic of the wrong size": declare("bad", arguments={"x-delivery-limit": 3, "x-max-length": -1}),
    "classic of a group": declare("bad", arguments={"x-quorum-initial-group-size": "x"}),
    "quorum of no group": declare("bad", arguments={**QUORUM, "x-quorum-initial-group-size": 0}),
    "classic with a strategy": declare("bad", arguments={"x-dead-letter-strategy": 5, "x-delivery-limit": 3}),
    "odd strategy": declare("bad", arguments={**QUORUM, "x-dead-letter-strategy": "k"}),
    "number for a strategy": declare("bad", arguments={**QUORUM, "x-dead-letter-strategy": 5}),
    "odd mode": declare("bad", arguments={"x-queue-mode": "k"}),
    "number for a mode": declare("bad", arguments={"x-queue-mode": 5}),
    "lazy quorum": declare("bad", arguments={**QUORUM, "x-queue-mode": "lazy"}),
    "quorum with a place": declare("bad", arguments={**QUORUM, "x-queue-master-locator": "random"}),
    "number for an overflow": declare("bad", arguments={"x-overflow": 5}),
    "two errors, time": declare("bad", arguments={"x-message-ttl": -1, "x-expires": 0}),
    "two errors, type": declare("bad", arguments={"x-expires": 0, "x-queue-type": "k"}),
    "two errors, length": declare("bad", arguments={"x-overflow": "k", "x-max-length": -1}),
    "many arguments more": declare("pq", arguments={**EVERYTHING, **QUORUM}),
    "many arguments more, classic": declare("pc", arguments=EVERYTHING),
    "a limit more": declare("pq", arguments={**TTL, "x-delivery-limit": 1}),
    "a place more": declare("pq", arguments={**TTL, "x-queue-master-locator": "random", "x-queue-mode": "lazy"}),
    "a place more, classic": declare("pc", arguments={"x-queue-master-locator": "random"}),
    "otherwise exclusive and auto-delete": declare("pc", exclusive=True, auto_delete=True),
    "a limit that is none": declare("pl", arguments={**QUORUM, "x-delivery-limit": "none"}),
    "reserved name": declare("amq.foo"),
    "passive, missing": declare("nope", passive=True),
    "passive, otherwise": declare("pq", durable=False, passive=True),
    "bind without a queue": lambda channel: channel.queue_bind("", "amq.fanout"),
    "bind a missing queue": lambda channel: channel.queue_bind("nope", "amq.fanout"),
    "bind to a missing exchange": lambda channel: channel.queue_bind("pc", "nope"),
    "bind both missing": lambda channel: channel.queue_bind("nope", "nope"),
    "bind to the default": lambda channel: channel.queue_bind("pc", ""),
    "unbind a missing queue": lambda channel: channel.queue_unbind("nope", "amq.fanout"),
    "unbind no binding": lambda channel: channel.queue_unbind("pc", "amq.fanout", "zz"),
    "unbind from a missing exchange": lambda channel: channel.queue_unbind("pc", "nope", "zz"),
    "unbind from the default": lambda channel: channel.queue_unbind("pc", "", "zz"),
    "purge missing": lambda channel: channel.queue_purge("nope"),
    "delete missing": lambda channel: channel.queue_delete("nope"),
    "exchange": exchange("xx"),
    "default exchange": exchange("", "direct"),
    "reserved exchange": exchange("amq.foo", "direct"),
    "system exchange, otherwise": exchange("amq.direct", "direct", durable=False),
    "system exchange": exchange("amq.direct", "direct", durable=True),
    "odd kind": exchange("foo", "nonsense"),
    "exchange, passive, missing": exchange("nope", passive=True),
    "exchange of another kind": exchange("xx", "fanout"),
    "exchange, otherwise durable": exchange("xx", durable=True),
    "exchange, otherwise auto-delete": exchange("xx", auto_delete=True),
    "exchange, otherwise internal": exchange("xx", internal=True),
    "alternate": exchange("ae", arguments=ALTERNATE),
    "alternate again": exchange("ae", arguments=ALTERNATE),
    "another alternate": exchange("ae", arguments={"alternate-exchange": "amq.direct"}),
    "no alternate": exchange("ae"),
    "number for an alternate": exchange("bad", arguments={"alternate-exchange": 5}),
    "what nothing matches goes to the alternate, which is not there": publish(exchange="ae"),
    "internal": exchange("in", internal=True),
    "not internal": exchange("in"),
    "publish to an internal exchange": publish(exchange="in"),
    "odd way to match": bind_headers({"x-match": "some"}),
    "number for a way to match": bind_headers({"x-match": 3}),
    "a known way to match": bind_headers({"x-match": "any-with-x", "x-a": "b"}),
    "text for a single active consumer": declare("bad", arguments={"x-single-active-consumer": "yes"}),
    "single active consumer": declare("ps", arguments={"x-single-active-consumer": True}),
    "no single active consumer": declare("ps"),
    "exclusive and single": rpc(consume("ps", exclusive=True)),
    "get beside a single active consumer": got("ps"),
    "single active consumer, quorum": declare("pqs", arguments={**QUORUM, "x-single-active-consumer": True}),
    "get beside a single active consumer, quorum": got("pqs"),
    "limit of a channel, quorum": rpc(spec.Basic.Qos(prefetch_count=1, global_=True), consume("pq")),
    "exchange with an argument": exchange("xx", arguments={"alternate-exchange": "a"}),
    "delete the default": lambda channel: channel.exchange_delete(""),
    "delete a system exchange": lambda channel: channel.exchange_delete("amq.direct"),
    "exchange from a missing one": lambda channel: channel.exchange_bind("xx", "nope"),
    "missing exchange from one": lambda channel: channel.exchange_bind("nope", "xx"),
    "exchange from the default": lambda channel: channel.exchange_bind("xx", ""),
    "bind to the exchange": lambda channel: channel.queue_bind("pc", "xx", "k"),
    "delete a used exchange": lambda channel: channel.exchange_delete("xx", if_unused=True),
    "get from a missing queue": lambda channel: channel.basic_get("nope"),
    "consume a missing queue": rpc(consume("nope")),
    "consume without a queue": rpc(consume("")),
    "one tag twice": rpc(consume(), consume()),
    "two exclusive": rpc(consume(exclusive=True), consume(tag="u")),
    "exclusive beside another": rpc(consume(), consume(tag="u", exclusive=True)),
    "delete a queue in use": rpc(consume("pq"), spec.Queue.Delete(queue="pq", if_unused=True)),
    "delete a classic queue in use": rpc(consume(), spec.Queue.Delete(queue="pc", if_unused=True)),
    "delete a quorum queue if empty": lambda channel: channel.queue_delete("pq", if_empty=True),
    "delete a full queue": deleted_while_full,
    "cancel nothing": lambda channel: channel.basic_cancel("nope"),
    "prefetch of bytes": rpc(spec.Basic.Qos(prefetch_size=10)),
    "ack twice": acked_twice,
    "ack all up to what was acked": acked_with_one_left,
    "ack nothing": settle(spec.Basic.Ack(7)),
    "ack all of nothing": settle(spec.Basic.Ack(0, multiple=True)),
    "ack tag 0": settle(spec.Basic.Ack(0)),
    "nack several, none": settle(spec.Basic.Nack(7, multiple=True)),
    "reject nothing": settle(spec.Basic.Reject(3)),
    "publish to a missing exchange": publish(exchange="nope"),
    "odd expiration": publish(expiration="abc"),
    **{f"expiration {text!r}": publish(expiration=text) for text in ("-5", "5.5", "5 ", "315360000001")},
    "another's name": publish(user_id="abc"),
    "odd CC": publish(headers={"CC": "pc"}),
    "stop the flow": rpc(spec.Channel.Flow(active=False)),
    "flow on": rpc(spec.Channel.Flow(active=True)),
    "recover": rpc(spec.Basic.Recover(requeue=True)),
    "recover without requeue": rpc(spec.Basic.Recover(requeue=False)),
    "open twice": rpc(spec.Channel.Open()),
    "an address of nobody": declare("amq.rabbitmq.reply-to.nope", passive=True),
    "reply consumer that acks": rpc(consume("amq.rabbitmq.reply-to")),
    "two reply consumers": rpc(
        consume("amq.rabbitmq.reply-to", no_ack=True), consume("amq.rabbitmq.reply-to", tag="u", no_ack=True)
    ),
    "a question without a reply consumer": publish(reply_to="amq.rabbitmq.reply-to"),
}


async def answers(uri):
    """What each request came to, in text, each on a channel of its own."""
    found = {}
    connection = await aiormq.connect(uri)
    for name in ("pq", "pc", "bad", "ps", "pqs", "pl", "px"):
        await (await connection.channel()).queue_delete(name)
    for name in ("xx", "ae", "in"):
        await (await connection.channel()).exchange_delete(name)
    for name, call in REQUESTS.items():
        if connection.is_closed:
            connection = await aiormq.connect(uri)
        channel = await connection.channel()
        try:
            async with asyncio.timeout(10):
                answer = await call(channel)
            fields = sorted((key, value) for key, value in answer if key != "consumer_tag")
            found[name] = f"{answer.name} {fields}"
        except aiormq.exceptions.AMQPError as error:
            found[name] = f"{type(error).__name__}: {error}"
        if not channel.is_closed and not connection.is_closed:
            await channel.close()
        await asyncio.sleep(0)
    if not connection.is_closed:
        await connection.close()
    return found


async def ask(uri):
    """A question by direct reply-to, and what came of two answers to it, the second one mandatory."""
    connection = await aiormq.connect(uri)
    channel = await connection.channel(on_return_raises=True)
    answers = asyncio.Queue()
    await channel.queue_declare("questions")
    await channel.basic_consume("amq.rabbitmq.reply-to", answers.put, no_ack=True)
    asked = spec.Basic.Properties(reply_to="amq.rabbitmq.reply-to", message_id="q")
    await channel.basic_publish(b"?", routing_key="questions", properties=asked)
    address = (await channel.basic_get("questions", no_ack=True)).header.properties.reply_to
    found = []
    for body, mandatory in ((b"!", False), (b"!!", True)):
        try:
            await channel.basic_publish(body, routing_key=address, mandatory=mandatory)
        except aiormq.exceptions.PublishError as error:
            found.append("NO_ROUTE" if "NO_ROUTE" in str(error) else str(error))
        answer = await answers.get()
        found.append((answer.body, answer.delivery.delivery_tag, answer.delivery.exchange))
    await channel.queue_delete("questions")
    await connection.close()
    return found


if __name__ == "__main__":
    import json
    import sys

    sys.stdout.write(json.dumps(asyncio.run(answers(sys.argv[1])), indent=1))
