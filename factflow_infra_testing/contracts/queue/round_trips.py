"""Q7: what is published is what is delivered, whatever its characters and bytes, also after a retry and a dead letter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from factflow_infra.errors import InvalidMessageError
from factflow_infra.queue.messages import DEAD_LETTER_HEADER_PREFIX, MessageStatus, QueueMessage
from factflow_infra_testing.contracts.comparing import assert_content
from factflow_infra_testing.contracts.queue.capabilities import QueueCapability as Can
from factflow_infra_testing.contracts.queue.inbox import answers
from factflow_infra_testing.contracts.queue.table import QUEUE_BEHAVIOURS

if TYPE_CHECKING:
    from factflow_infra_testing.contracts.queue.environment import QueueEnvironment

BODIES = (
    b"",
    b"\x00",
    b"\x00leading and trailing\x00",
    bytes(range(256)),
    b"\xff\xfe not UTF-8 \xc3\x28",
    "grün 中文 🚀".encode(),
    b"line\nfeed\r\nreturn\r",
    b"MESSAGE\nx:y\n\n\x00SEND\n\n\x00",
    b"x" * 300_000,
)

HEADERS: tuple[dict[str, str], ...] = (
    {"plain": "value"},
    {"empty": ""},
    {"a:b": "c:d", "colon:": ":"},
    {"back\\slash": "\\n is no line feed, \\c no colon, \\\\ two"},
    {"line\nfeed": "value\nwith\nfeeds", "return\r": "\r\n"},
    {" spaces ": "  around  ", "\ttab\t": "\t"},
    {"ünïcode": "grün 中文 🚀", "é": "combining é against é"},
    {"Case": "upper", "case": "lower"},
    {"null": "\x00", "control": "\x01\x1f\x7f"},
    {"long": "x" * 10_000},
    {f"header-{n}": str(n) for n in range(100)},
    {
        "content-length": "7",
        "content-type": "a/b",
        "message-id": "other",
        "destination": "/queue/other",
        "receipt": "r",
    },
    {
        "x-death": "1",
        "x-delay": "5000",
        "delivery_mode": "1",
        "expiration": "1",
        "redelivered": "true",
        "priority": "9",
    },
    {"number": "12", "float": "1.5", "true": "true", "none": "None", "date": "2026-04-22T18:30:00.123456+00:00"},
    {"selector": "a = 'b' AND \"c\"", "JMSXGroupID": "g", "persistent": "false", "AMQ_SCHEDULED_DELAY": "99999999"},
)

TEXTS = ("plain", "with space", "a:b\nc\\d\r", "grün 中文 🚀", "x" * 200, "0", "None", "'\"`;--", "\x00", "ü" * 200)

TIMESTAMPS = (
    datetime(2026, 4, 22, 18, 30, 0, 123456, tzinfo=UTC),
    datetime(2026, 4, 22, 18, 30, tzinfo=UTC),
    datetime(2026, 12, 31, 23, 59, 59, 999999, tzinfo=timezone(timedelta(hours=-9, minutes=-30))),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(1969, 7, 20, 20, 17, 40, 1, tzinfo=UTC),
    datetime(2038, 1, 19, 3, 14, 8, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
)


def same(got: QueueMessage, sent: QueueMessage) -> None:
    """Assert that ``got`` is ``sent``, delivery fields and dead-letter headers aside."""
    own = {k: v for k, v in got.headers.items() if not k.startswith(DEAD_LETTER_HEADER_PREFIX)}
    assert got.message_id == sent.message_id
    assert got.body == sent.body, f"body of {sent.message_id!r}"
    assert type(got.body) is bytes
    assert own == dict(sent.headers)
    assert got.content_type == sent.content_type
    assert got.correlation_id == sent.correlation_id
    assert got.timestamp == sent.timestamp
    assert got.timestamp.utcoffset() is not None
    assert got.ordering_key == sent.ordering_key


def samples() -> list[QueueMessage]:
    """Messages with every odd body, header, text and time."""
    return [
        *(QueueMessage(body=body) for body in BODIES),
        *(QueueMessage(body=b"headers", headers=headers) for headers in HEADERS),
        *(
            QueueMessage(
                body=b"texts",
                message_id=f"{n} {text}",
                correlation_id=text,
                ordering_key=text,
                content_type=f"text/plain; x={text}",
            )
            for n, text in enumerate(TEXTS)
        ),
        *(QueueMessage(body=b"timestamp", timestamp=timestamp) for timestamp in TIMESTAMPS),
        QueueMessage(body=b"empty correlation id", correlation_id=""),
        QueueMessage(body=b"no correlation id", correlation_id=None, content_type="application/json"),
    ]


@QUEUE_BEHAVIOURS.add("Q7", like=("watermill/TestPublishSubscribe", "gocdk/TestSendReceive"))
async def messages_survive_delivery(env: QueueEnvironment) -> None:
    """Each field of each sample, published and delivered. stompman drops a header with an unescaped colon and maps a
    carriage return to nothing; RabbitMQ's timestamps have whole seconds; an AMQP short string holds 255 bytes.
    """
    queue, provider, inbox = env.name(), await env.provider(), env.inbox()
    await provider.subscribe(queue, inbox)
    sent = samples()
    for message in sent:
        await provider.publish(queue, message)
    for got, original in zip(await inbox.until_finished(len(sent)), sent, strict=True):
        same(got, original)
        assert (got.delivery_count, got.redelivered) == (1, False)
        assert str(got.destination).removeprefix("/queue/") == queue


@QUEUE_BEHAVIOURS.add("Q7")
async def messages_survive_a_retry(env: QueueEnvironment) -> None:
    """The copy that a retry publishes is the message."""
    queue, provider = env.name(), await env.provider()
    inbox = env.inbox(answers(MessageStatus.RETRY, MessageStatus.ACK))
    await provider.subscribe(queue, inbox, prefetch=200, error_handling=env.handling(retry_delay=1))
    sent = {message.message_id: message for message in samples()}
    await provider.publish_batch(queue, list(sent.values()))
    await inbox.until_finished(2 * len(sent))
    for got in inbox.messages:
        same(got, sent[got.message_id])
    assert sorted(m.message_id for m in inbox.messages if m.delivery_count == 2) == sorted(sent)


@QUEUE_BEHAVIOURS.add("Q7")
async def messages_survive_the_dead_letter_queue(env: QueueEnvironment) -> None:
    """The dead letter is the message, with the dead-letter headers beside its own."""
    queue, dlq, provider = env.name(), env.name("dlq"), await env.provider()
    await provider.subscribe(queue, env.inbox(MessageStatus.REJECT), error_handling=env.handling(dead_letter_queue=dlq))
    sent = {message.message_id: message for message in samples()}
    await provider.publish_batch(queue, list(sent.values()))
    for letter in await env.dead_letters(dlq, len(sent)):
        same(letter, sent[letter.message_id])


@QUEUE_BEHAVIOURS.add("Q7", Can.DELAY)
async def messages_survive_a_delay(env: QueueEnvironment) -> None:
    """What waited in the broker is what was sent."""
    queue, provider, inbox = env.name(), await env.provider(), env.inbox()
    await provider.subscribe(queue, inbox)
    sent = {message.message_id: message for message in samples()}
    for message in sent.values():
        await provider.publish(queue, message, delay=env.seconds(5))
    for got in await inbox.until_finished(len(sent)):
        same(got, sent[got.message_id])


@QUEUE_BEHAVIOURS.add("Q7", Can.TOPICS)
async def messages_survive_a_topic(env: QueueEnvironment) -> None:
    """Each copy is the message."""
    topic, provider = f"/topic/{env.name()}", await env.provider()
    inboxes = [env.inbox(), env.inbox()]
    for name, inbox in zip((None, "durable"), inboxes, strict=True):
        await provider.subscribe(topic, inbox, subscription=name)
    sent = samples()
    for message in sent:
        await provider.publish(topic, message)
    for inbox in inboxes:
        for got, original in zip(await inbox.until_finished(len(sent)), sent, strict=True):
            same(got, original)


@QUEUE_BEHAVIOURS.add("Q7", Can.LARGE_MESSAGES)
async def large_bodies_survive(env: QueueEnvironment) -> None:
    """4 MiB, which is many frames."""
    queue, provider = env.name(), await env.provider()
    body = bytes(range(256)) * (4 * 1024 * 4)
    await provider.publish(queue, QueueMessage(body=body))
    (message,) = await env.take(queue, 1)
    assert_content(message.body, body, "the body")


@QUEUE_BEHAVIOURS.add("Q10", Can.LARGE_MESSAGES)
async def huge_bodies_survive_or_are_refused(env: QueueEnvironment) -> None:
    """20 MiB: refused before any I/O, with the size, or delivered; never cut off, and never the end of the connection."""
    queue, provider = env.name(), await env.provider()
    message = QueueMessage(body=b"x" * (20 * 1024 * 1024))
    try:
        await provider.publish(queue, message)
    except InvalidMessageError as error:
        assert any(character.isdigit() for character in str(error))  # noqa: PT017 - delivering it is as good
        assert not provider.health().connected
        await provider.publish(queue, QueueMessage(body=b"small"))
        assert [m.body for m in await env.take(queue, 1)] == [b"small"]
    else:
        assert [len(m.body) for m in await env.take(queue, 1)] == [len(message.body)]


@QUEUE_BEHAVIOURS.add("Q7")
async def delivered_message_may_be_published_as_it_is(env: QueueEnvironment) -> None:
    """A delivered message is forwarded: the fields of its delivery are ignored, the rest is kept."""
    source, target, provider = env.name("in"), env.name("out"), await env.provider()
    sent = QueueMessage(body=b"x", headers={"a": "b"}, correlation_id="c", ordering_key="k")
    await provider.publish(source, sent)
    (delivered,) = await env.take(source, 1)
    await provider.publish(target, delivered.changed(delivery_count=7, redelivered=True))
    (forwarded,) = await env.take(target, 1)
    same(forwarded, sent)
    assert (forwarded.delivery_count, forwarded.redelivered) == (1, False)
    assert str(forwarded.destination).removeprefix("/queue/") == target


@QUEUE_BEHAVIOURS.add("Q7")
async def json_messages_are_convenient(env: QueueEnvironment) -> None:
    """Factflow messages are dicts: ``from_json`` and ``json`` at both ends, a new id and the time of now by default."""
    queue, provider = env.name(), await env.provider()
    value: dict[str, Any] = {"n": 1, "text": "grün", "list": [1.5, None, True], "nested": {"": {}}}
    first, second = QueueMessage.from_json(value), QueueMessage.from_json(value, message_id="mine", headers={"h": "v"})
    await provider.publish_batch(queue, [first, second])
    got = await env.take(queue, 2)
    assert [message.json() for message in got] == [value, value]
    assert {message.content_type for message in got} == {"application/json"}
    assert got[1].message_id == "mine"
    assert first.message_id not in {"", second.message_id}
    assert all(abs(message.timestamp - datetime.now(UTC)) < timedelta(hours=1) for message in got)
    assert dict(got[1].headers) == {"h": "v"}
