"""What RabbitMQ's queues were seen to do (RMQ-42 to RMQ-60 in ``docs/facts.md``): run on the simulated broker and on the real one."""

import asyncio
import contextlib

import aiormq
from amqp_bench import Bench, refused
from pamqp import commands as spec
from pamqp import frame
from pamqp.header import ContentHeader

QUORUM = {"x-queue-type": "quorum"}
SINGLE = {"x-single-active-consumer": True}


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


VALUES = (1, 300, 1.0, True, "1", bytearray(b"1"), None, [1], [1.0], {"a": 1}, {"a": True})


async def values_that_match(bench):
    """For each value that a binding asks for, which of the values do."""
    exchange = bench.queue + "-headers"
    await bench.admin.exchange_delete(exchange)
    await bench.admin.exchange_declare(exchange, exchange_type="headers")
    found = {}
    for wanted in VALUES:
        await bench.admin.queue_bind(bench.queue, exchange, "", arguments={"h": wanted})
        for value in VALUES:
            about = spec.Basic.Properties(headers={"h": value}, delivery_mode=2)
            await bench.admin.basic_publish(repr(value).encode(), exchange=exchange, properties=about)
        await bench.admin.basic_publish(b"none", exchange=exchange)
        await bench.settle()
        found[repr(wanted)] = await bench.left()
        await bench.admin.queue_unbind(bench.queue, exchange, "", arguments={"h": wanted})
    await bench.admin.exchange_delete(exchange)
    return found


async def bindings_that_differ_in_the_type_of_a_value(bench):
    """The bindings that are left when that to ``1`` was undone."""
    exchange = bench.queue + "-bound"
    await bench.admin.exchange_declare(exchange, exchange_type="headers", auto_delete=True)
    for value in (1, 1.0, True):
        await bench.admin.queue_bind(bench.queue, exchange, "", arguments={"h": value})
    await bench.admin.queue_unbind(bench.queue, exchange, "", arguments={"h": 1})
    for value in (1, True):
        about = spec.Basic.Properties(headers={"h": value}, delivery_mode=2)
        await bench.admin.basic_publish(repr(value).encode(), exchange=exchange, properties=about)
    await bench.settle()
    return await bench.left()


async def acked_up_to_what_is_not_held(bench):
    """What comes back of two messages, the second of which was acked before both were."""
    channel = await bench.channel()
    await bench.publish("12")
    got = await bench.consume(channel, "a", 2)
    await channel.basic_ack(got[1], wait=False)
    await channel.basic_ack(got[1], multiple=True, wait=False)
    await bench.settle()
    return channel.is_closed, await bench.left()


async def returns_with_a_limit(bench):
    """How often a message is delivered that comes back each time, five times at most."""
    await bench.publish("1")
    for delivered in range(5):
        message = await bench.admin.basic_get(bench.queue)
        if not isinstance(message.delivery, spec.Basic.GetOk):
            return delivered
        await bench.admin.basic_nack(message.delivery.delivery_tag, requeue=True, wait=False)
        await bench.settle()
    return 5


async def buried_for_several_consumers(bench):
    """The dead letters of two consumers of one channel, and of what was got, rejected by one request."""
    channel = await bench.channel()
    for tag in "ba":
        await bench.consume(channel, tag, 2)
    await bench.publish("12345")
    await channel.basic_get(bench.queue)
    await channel.basic_nack(0, multiple=True, requeue=False, wait=False)
    await bench.settle()
    return await bench.left(bench.dead)


async def given_to_several_consumers_at_once(bench, *, closed=False):
    """What two consumers of one channel are given when another channel closes, or gives all that it holds back."""
    channel, other = await bench.channel(), await bench.channel()
    got = await bench.consume(other, "c", 4)
    await bench.publish("1234")
    await other.basic_cancel("c")
    for tag in "ba":
        await bench.consume(channel, tag, 2)
    if closed:
        await other.close()
    else:
        await other.basic_nack(got[-1], multiple=True, wait=False)
    await bench.settle()
    return bench.seen[4:]


async def given_to_several_consumers_at_the_end(bench):
    return await given_to_several_consumers_at_once(bench, closed=True)


async def cancelled_by_a_deletion(bench):
    channel = await bench.channel()
    channel.on_consumer_cancel_callbacks.add(lambda frame: bench.seen.append(frame.consumer_tag))
    for tag in ("t9", "t10", "a"):
        await bench.consume(channel, tag)
    await bench.admin.queue_delete(bench.queue)
    await bench.settle()
    return bench.seen


async def limit_of_the_channel(bench, *, then):
    """How many of three messages a consumer without a limit gets on a channel that is limited to one."""
    channel = await bench.channel()
    got = await bench.consume(channel, "a")
    await channel.basic_qos(prefetch_count=1, global_=True)
    if then is not None:
        await channel.basic_qos(prefetch_count=then)
    await bench.publish("123")
    return len(got)


async def what_may_not_wait(bench, *, returned=False, **properties):
    """Two messages to a consumer that has room for one, and whether the first can come back."""
    channel = await bench.channel()
    got = await bench.consume(channel, "a", 1)
    await bench.publish("12", **properties)
    if returned:
        await channel.basic_nack(got[0], wait=False)
        await bench.settle()
    return list(bench.seen), await bench.left(), await bench.left(bench.dead)


async def what_may_not_wait_expires(bench, *, returned=False):
    return await what_may_not_wait(bench, returned=returned, expiration="0")


async def a_text_that_is_too_long(bench):
    channel = await bench.channel()
    try:
        await channel.queue_declare("q" * 250, passive=True)
    except aiormq.exceptions.AMQPError as error:
        return len(str(error)), str(error)[-4:]


async def numbers_of_confirms(bench):
    channel = await bench.channel()
    for body in (b"1", b"2"):
        await channel.basic_publish(body, routing_key=bench.queue)
    channel.publisher_confirms, channel.delivery_tag = True, 0  # the client counts from its first publish on
    numbers = []
    for _ in range(2):
        await channel.confirm_delivery()
        for body in (b"3", b"4"):
            confirmed = await asyncio.wait_for(channel.basic_publish(body, routing_key=bench.queue), 5)
            numbers.append(confirmed.delivery_tag)
    return numbers


async def told_of_content(bench, size, *bodies, then=b""):
    """What a bare socket is told that announces ``size`` bytes of body and sends ``bodies``: ack, a reply text or nothing."""
    url = bench.connection.url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    login = spec.Connection.StartOk({}, "PLAIN", "\0guest\0guest", "en_US")
    opening = [
        (0, login),
        (0, spec.Connection.TuneOk(9, 131_072, 0)),
        (0, spec.Connection.Open(url.path.strip("/") or "/")),
    ]
    asked = [(1, spec.Channel.Open()), (1, spec.Confirm.Select()), (1, spec.Basic.Publish(routing_key=bench.queue))]
    frames = [(number, method) for number, method in (*opening, *asked)]
    if size is not None:
        frames.append((1, ContentHeader(body_size=size, properties=spec.Basic.Properties())))
    writer.write(b"AMQP\0\0\x09\x01" + b"".join(frame.marshal(value, number) for number, value in frames))
    writer.write(b"".join(b"\x03\0\x01" + len(body).to_bytes(4, "big") + body + b"\xce" for body in bodies) + then)
    received, told = b"", "nothing"
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(20 * bench.pause):
            while told == "nothing" and (data := await reader.read(65536)):
                received += data
                while len(received) > 7 and len(received) >= (end := 8 + int.from_bytes(received[3:7], "big")):
                    one, received = frame.unmarshal(received[:end])[2], received[end:]
                    if isinstance(one, spec.Basic.Ack):
                        told = "ack"
                    elif isinstance(one, spec.Connection.Close):
                        told = f"{one.reply_code} {one.reply_text}"
    writer.close()
    return told


async def bodies_that_do_not_add_up(bench):
    again = frame.marshal(spec.Basic.Publish(routing_key=bench.queue), 1)
    return [
        await told_of_content(bench, *about, then=then)
        for about, then in (
            ((4, b"1234"), b""),
            ((4, *[b""] * 1000, b"12", b"", b"34"), b""),
            ((4, b"12345"), b""),
            ((4, b"12345", b"6"), b""),
            ((4, b"12345"), again),
            ((4, b""), again),
            ((0, b""), b""),
            ((None, b"1"), b""),
            ((None,), again),
        )
    ]


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
    "RMQ-50": (
        values_that_match,
        {},
        {
            "1": "1 1.0",
            "300": "300",
            "1.0": "1 1.0",
            "True": "True",
            "'1'": "'1' bytearray(b'1')",
            "bytearray(b'1')": "'1' bytearray(b'1')",
            "None": " ".join(map(repr, VALUES)),
            "[1]": "[1]",
            "[1.0]": "[1.0]",
            "{'a': 1}": "{'a': 1}",
            "{'a': True}": "{'a': True}",
        },
    ),
    "RMQ-50 bindings": (bindings_that_differ_in_the_type_of_a_value, {}, "1 True"),
    "RMQ-51 classic": (acked_up_to_what_is_not_held, {}, (True, "1")),
    "RMQ-51 quorum": (acked_up_to_what_is_not_held, QUORUM, (True, "1")),
    "RMQ-53 below all": (returns_with_a_limit, {**QUORUM, "x-delivery-limit": -1}, 1),
    "RMQ-53 none": (returns_with_a_limit, {**QUORUM, "x-delivery-limit": 0}, 1),
    "RMQ-53 text": (returns_with_a_limit, {**QUORUM, "x-delivery-limit": "x"}, 5),
    "RMQ-54 classic, rejected": (buried_for_several_consumers, {}, "5 2 4 1 3"),
    "RMQ-54 quorum, rejected": (buried_for_several_consumers, QUORUM, "5 2 4 1 3"),
    "RMQ-54 classic": (given_to_several_consumers_at_the_end, {}, ["b1", "a2", "b3", "a4"]),
    "RMQ-54 quorum": (given_to_several_consumers_at_the_end, QUORUM, ["a2", "a4", "b1", "b3"]),
    "RMQ-54 quorum, given back": (given_to_several_consumers_at_once, QUORUM, ["b1", "a2", "b3", "a4"]),
    "RMQ-54 quorum with limit, given back": (
        given_to_several_consumers_at_once,
        {**QUORUM, "x-delivery-limit": 5},
        ["a2", "a4", "b1", "b3"],
    ),
    "RMQ-54 classic, deleted": (cancelled_by_a_deletion, {}, ["a", "t10", "t9"]),
    "RMQ-54 quorum, deleted": (cancelled_by_a_deletion, QUORUM, ["a", "t10", "t9"]),
    "RMQ-56": (lambda bench: limit_of_the_channel(bench, then=None), {}, 1),
    "RMQ-56 ended": (lambda bench: limit_of_the_channel(bench, then=9), {}, 3),
    "RMQ-56 ended by none": (lambda bench: limit_of_the_channel(bench, then=0), {}, 3),
    **{
        f"RMQ-57 {kind}, {what}": (scenario, {**arguments, **more}, (["a1"], "", "2"))
        for kind, arguments in (("classic", {}), ("quorum", QUORUM))
        for what, scenario, more in (
            ("expiring at once", what_may_not_wait_expires, {}),
            ("of a queue that lets all expire at once", what_may_not_wait, {"x-message-ttl": 0}),
            ("of a queue without room", what_may_not_wait, {"x-max-length": 0}),
        )
    },
    **{
        f"RMQ-57 {kind}, returned": (
            lambda bench: what_may_not_wait_expires(bench, returned=True),
            arguments,
            (["a1"], "", "2 1"),
        )
        for kind, arguments in (("classic", {}), ("quorum", QUORUM))
    },
    "RMQ-57 classic, returned to a queue without room": (
        lambda bench: what_may_not_wait(bench, returned=True),
        {"x-max-length": 0},
        (["a1"], "", "2 1"),
    ),
    "RMQ-57 quorum, returned to a queue without room": (
        lambda bench: what_may_not_wait(bench, returned=True),
        {**QUORUM, "x-max-length": 0},
        (["a1", "a1"], "", "2"),
    ),
    "RMQ-59": (numbers_of_confirms, {}, [1, 2, 3, 4]),
    "RMQ-60": (
        bodies_that_do_not_add_up,
        {},
        [
            "ack",
            "ack",
            "nothing",
            "nothing",
            *["505 UNEXPECTED_FRAME - expected content body, got non content body frame instead"] * 2,
            "505 UNEXPECTED_FRAME - expected method frame, got non method frame instead",
            *["505 UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead"] * 2,
        ],
    ),
    "RMQ-55": (a_text_that_is_too_long, {}, (255, "q...")),
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
