"""Q10: bad input raises before any I/O and names the value; a poison message stops nothing."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, cast

from factflow_infra.errors import InvalidDestinationError, InvalidMessageError, InvalidSubscriptionError, QueueError
from factflow_infra.queue.messages import DEAD_LETTER_HEADER_PREFIX, ErrorHandling, QueueMessage
from factflow_infra_testing.contracts.queue.capabilities import QueueCapability as Can
from factflow_infra_testing.contracts.queue.inbox import HandlerError
from factflow_infra_testing.contracts.queue.table import QUEUE_BEHAVIOURS
from factflow_infra_testing.contracts.raising import raises

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from factflow_infra.protocols import QueueProtocol
    from factflow_infra_testing.contracts.queue.environment import QueueEnvironment

BAD_DESTINATIONS: tuple[Any, ...] = (
    "",
    "/queue/",
    "/topic/",
    "/nothing/orders",
    "/orders",
    "nul\x00",
    "lone\ud800",
    "bell\x07",
    "line\nfeed",
    "/queue/a//b",
    "/topic/a//b",
    " before",
    "after ",
    "/queue/x" + "x" * 1024,
    None,
    7,
    b"orders",
    ["orders"],
)

BAD_DELAYS: tuple[Any, ...] = (-1, -0.001, math.nan, math.inf, "1", None, True)

BAD_OPTIONS: tuple[dict[str, Any], ...] = (
    {"concurrency": 0},
    {"concurrency": -1},
    {"concurrency": 1.5},
    {"concurrency": "2"},
    {"concurrency": True},
    {"concurrency": None},
    {"prefetch": 0},
    {"prefetch": -3},
    {"prefetch": "5"},
    {"error_handling": None},
    {"error_handling": {"max_retries": 3}},
)

BAD_NAMES: tuple[Any, ...] = ("", "nul\x00", "lone\ud800", 7, b"x")

BAD_BATCH_OPTIONS: tuple[dict[str, Any], ...] = (
    {"max_messages": 0},
    {"max_messages": -1},
    {"max_messages": 2.0},
    {"max_messages": None},
    {"max_wait": -1.0},
    {"max_wait": math.nan},
    {"max_wait": "1"},
    {"max_wait": None},
)


def _is_named(value: object, said: str) -> bool:
    """Whether ``said`` has ``value`` as it is written, the beginning of what is long, or "got int" for one of a wrong type."""
    return repr(value)[:40] in said or re.search(rf"\b(got|not) {type(value).__name__}\b", said) is not None


async def refuses(
    provider: QueueProtocol, call: Awaitable[object], kinds: tuple[type[Exception], ...], row: object, value: object
) -> None:
    """Assert that ``call`` raises one of ``kinds`` that names ``value``, and that nothing was connected for it."""
    try:
        await call
    except kinds as error:
        said = str(error)
        assert isinstance(error, ValueError), f"{row!r}: {error!r} is no ValueError"  # noqa: PT017
        assert _is_named(value, said), f"{row!r}: the message does not name the value: {said}"
    else:
        raise AssertionError(f"{row!r} was accepted")
    assert not provider.health().connected, f"{row!r}: connected before the input was checked"


@QUEUE_BEHAVIOURS.add("Q10")
async def bad_destinations_are_refused(env: QueueEnvironment) -> None:
    """By each of the four calls, with ``InvalidDestinationError``, before any I/O."""
    provider, message = await env.provider(), QueueMessage(body=b"x")
    kinds = (InvalidDestinationError,)
    for bad in BAD_DESTINATIONS:
        await refuses(provider, provider.publish(bad, message), kinds, ("publish", bad), bad)
        await refuses(provider, provider.publish_batch(bad, [message]), kinds, ("publish_batch", bad), bad)
        await refuses(provider, provider.subscribe(bad, env.inbox()), kinds, ("subscribe", bad), bad)
        await refuses(
            provider, provider.subscribe_batch(bad, max_messages=1, max_wait=1.0), kinds, ("subscribe_batch", bad), bad
        )


@QUEUE_BEHAVIOURS.add("Q10")
async def bad_dead_letter_queues_are_refused(env: QueueEnvironment) -> None:
    """When ``subscribe`` is called, not when the first message fails. A topic is none, as it may drop what it gets, and the
    queue that is subscribed to is not its own.
    """
    provider, own = await env.provider(), env.name()
    for bad in ("", "/queue/", "/nothing/dlq", "nul\x00", "/topic/dlq", own, f"/queue/{own}"):
        handling = ErrorHandling(dead_letter_queue=bad)
        await refuses(
            provider,
            provider.subscribe(own, env.inbox(), error_handling=handling),
            (InvalidDestinationError, InvalidSubscriptionError),
            bad,
            bad,
        )


@QUEUE_BEHAVIOURS.add("Q10")
async def what_is_no_message_is_refused(env: QueueEnvironment) -> None:
    """A dict, text, bytes, ``None`` in the place of a message: ``InvalidMessageError``."""
    provider = await env.provider()
    for bad in ({"body": "x"}, "text", b"bytes", None, 7):
        message = cast("QueueMessage", bad)
        await refuses(provider, provider.publish(env.name(), message), (InvalidMessageError,), bad, bad)
        await refuses(provider, provider.publish_batch(env.name(), [message]), (InvalidMessageError,), [bad], bad)


@QUEUE_BEHAVIOURS.add("Q10")
async def bad_delays_are_refused(env: QueueEnvironment) -> None:
    """Negative, not finite, not a number."""
    provider = await env.provider()
    for bad in BAD_DELAYS:
        call = provider.publish(env.name(), QueueMessage(body=b"x"), delay=bad)
        await refuses(provider, call, (QueueError,), ("delay", bad), bad)


@QUEUE_BEHAVIOURS.add("Q10")
async def bad_subscriptions_are_refused(env: QueueEnvironment) -> None:
    """Each option of ``subscribe``, and a handler that cannot be called."""
    provider = await env.provider()
    for options in BAD_OPTIONS:
        (value,) = options.values()
        call = provider.subscribe(env.name(), env.inbox(), **options)
        await refuses(provider, call, (InvalidSubscriptionError,), options, value)
    for bad in BAD_NAMES:
        call = provider.subscribe(env.name(), env.inbox(), subscription=bad)
        await refuses(provider, call, (InvalidDestinationError, InvalidSubscriptionError), ("subscription", bad), bad)
    for bad in (None, "handler", 7):
        call = provider.subscribe(env.name(), cast("Any", bad))
        await refuses(provider, call, (InvalidSubscriptionError,), ("handler", bad), bad)


@QUEUE_BEHAVIOURS.add("Q10", Can.BATCH)
async def bad_batch_subscriptions_are_refused(env: QueueEnvironment) -> None:
    """``max_messages`` from 1, ``max_wait`` a finite number of seconds."""
    provider = await env.provider()
    for options in BAD_BATCH_OPTIONS:
        (value,) = options.values()
        arguments: dict[str, Any] = {"max_messages": 1, "max_wait": 1.0, **options}
        call = provider.subscribe_batch(env.name(), **arguments)
        await refuses(provider, call, (InvalidSubscriptionError,), options, value)


@QUEUE_BEHAVIOURS.add("Q10")
async def messages_check_themselves(env: QueueEnvironment) -> None:
    """A ``QueueMessage`` that no broker could carry cannot be made."""
    await env.settle(0)
    bad: tuple[dict[str, Any], ...] = (
        {"body": "text"},
        {"body": None},
        {"body": {"a": 1}},
        {"body": b"", "message_id": ""},
        {"body": b"", "message_id": 7},
        {"body": b"", "message_id": "\ud800"},
        {"body": b"", "headers": {"a": 1}},
        {"body": b"", "headers": {1: "a"}},
        {"body": b"", "headers": {"": "a"}},
        {"body": b"", "headers": {"a": None}},
        {"body": b"", "headers": {"a": "\udfff"}},
        {"body": b"", "headers": [("a", "b")]},
        {"body": b"", "headers": {"factflow-wire-attempts": "0"}},
        {"body": b"", "content_type": ""},
        {"body": b"", "correlation_id": 7},
        {"body": b"", "timestamp": "2026-04-22"},
        {"body": b"", "timestamp": 0},
        {"body": b"", "ordering_key": ""},
    )
    for arguments in bad:
        with raises(InvalidMessageError):
            QueueMessage(**arguments)
    for value in (math.nan, {1, 2}, b"bytes", object()):
        with raises(InvalidMessageError):
            QueueMessage.from_json(value)


@QUEUE_BEHAVIOURS.add("Q10")
async def error_handling_checks_itself(env: QueueEnvironment) -> None:
    """``ErrorHandling`` takes whole numbers from 0, ``None`` where that means without limit, and finite delays."""
    await env.settle(0)
    bad: tuple[dict[str, Any], ...] = (
        {"max_retries": -1},
        {"max_retries": 1.5},
        {"max_retries": "3"},
        {"max_retries": True},
        {"max_deliveries": 0},
        {"max_deliveries": 2.0},
        {"retry_delay_seconds": -1},
        {"retry_delay_seconds": math.nan},
        {"retry_delay_seconds": math.inf},
        {"retry_delay_seconds": None},
        {"dead_letter_queue": 7},
    )
    for arguments in bad:
        with raises(InvalidSubscriptionError):
            ErrorHandling(**arguments)
    default = ErrorHandling()
    assert (default.max_retries, default.retry_delay_seconds) == (3, 10.0)
    assert (default.dead_letter_queue, default.max_deliveries) == (None, None)
    assert ErrorHandling(max_retries=None, max_deliveries=None).max_retries is None


@QUEUE_BEHAVIOURS.add("Q10")
async def poison_message_stops_nothing(env: QueueEnvironment) -> None:
    """A message that every handling fails on ends in the dead-letter queue; those before and after it are handled."""
    queue, dlq, provider = env.name(), env.name("dlq"), await env.provider()

    async def handler(message: QueueMessage) -> None:
        if message.body == b"poison":
            raise HandlerError("cannot be digested")

    inbox = env.inbox(handler)
    await provider.subscribe(queue, inbox, error_handling=env.handling(max_retries=2, dead_letter_queue=dlq))
    for body in (b"before", b"poison", b"after"):
        await provider.publish(queue, QueueMessage(body=body))
    (letter,) = await env.dead_letters(dlq)
    assert letter.body == b"poison"
    assert inbox.bodies.count(b"before") == inbox.bodies.count(b"after") == 1
    await provider.publish(queue, QueueMessage(body=b"later"))
    await env.eventually(lambda: b"later" in inbox.bodies, "the poison message stopped the subscription")


@QUEUE_BEHAVIOURS.add("Q10", Can.INJECT)
async def undecodable_message_is_dead_lettered(env: QueueEnvironment) -> None:
    """What another program put there and cannot be decoded reaches no handler, but the dead-letter queue, with the reason
    ``undecodable``; the next message is handled. Pulsar's client acks a corrupt payload silently: lost.
    """
    queue, dlq, provider, inbox = env.name(), env.name("dlq"), await env.provider(), env.inbox()
    await provider.subscribe(queue, inbox, error_handling=env.handling(dead_letter_queue=dlq))
    await provider.publish(queue, QueueMessage(body=b"before"))
    await inbox.until_finished(1)
    await env.inject(queue)
    await provider.publish(queue, QueueMessage(body=b"after"))
    await inbox.until_finished(2)
    (letter,) = await env.dead_letters(dlq)
    assert letter.headers[f"{DEAD_LETTER_HEADER_PREFIX}reason"] == "undecodable"
    assert letter.headers[f"{DEAD_LETTER_HEADER_PREFIX}source"].removeprefix("/queue/") == queue
    assert letter.body, "the bytes that could not be decoded are not in the dead letter"
    assert inbox.bodies == [b"before", b"after"]
