"""The dead-letter queue: what goes there, what it says, and the way back."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from factflow_infra.queue.messages import (
    DEAD_LETTER_HEADER_PREFIX,
    DEFAULT_DEAD_LETTER_QUEUE,
    MessageStatus,
    QueueMessage,
)
from factflow_infra_testing.contracts.queue.capabilities import QueueCapability as Can
from factflow_infra_testing.contracts.queue.inbox import HandlerError, fails
from factflow_infra_testing.contracts.queue.table import QUEUE_BEHAVIOURS, ids

if TYPE_CHECKING:
    from factflow_infra_testing.contracts.queue.environment import QueueEnvironment


def letter_headers(letter: QueueMessage) -> dict[str, str]:
    """The dead-letter headers of ``letter``, without their prefix."""
    prefix = DEAD_LETTER_HEADER_PREFIX
    return {name.removeprefix(prefix): value for name, value in letter.headers.items() if name.startswith(prefix)}


@QUEUE_BEHAVIOURS.add("Q2")
async def reject_goes_to_the_dead_letter_queue(env: QueueEnvironment) -> None:
    """``REJECT``: at once, without retries, with the reason ``rejected``."""
    queue, dlq, provider, inbox = env.name(), env.name("dlq"), await env.provider(), env.inbox(MessageStatus.REJECT)
    await provider.subscribe(queue, inbox, error_handling=env.handling(dead_letter_queue=dlq))
    message, loop = QueueMessage(body=b"x"), asyncio.get_running_loop()
    start = loop.time()
    await provider.publish(queue, message)
    (letter,) = await env.dead_letters(dlq)
    if env.has(Can.VIRTUAL_TIME):
        assert loop.time() - start < 1, "it waited for the delay of a retry"
    assert letter.message_id == message.message_id
    assert letter_headers(letter)["reason"] == "rejected"
    await env.settle()
    assert len(inbox.messages) == 1
    await provider.stop()
    assert await env.left_in(queue) == []


@QUEUE_BEHAVIOURS.add("Q2")
async def dead_letter_queue_has_a_default(env: QueueEnvironment) -> None:
    """Unless named, it is ``/queue/dlq``, for every queue of the broker."""
    queue, provider = env.name(), await env.provider()
    await provider.subscribe(queue, env.inbox(MessageStatus.REJECT))
    message = QueueMessage(body=b"x")
    await provider.publish(queue, message)
    reader, inbox = await env.provider(), env.inbox()
    await reader.subscribe(DEFAULT_DEAD_LETTER_QUEUE, inbox)
    await inbox.until_seen({message.message_id})
    assert DEFAULT_DEAD_LETTER_QUEUE == "/queue/dlq"


@QUEUE_BEHAVIOURS.add("Q2")
async def dead_letter_says_why_and_whence(env: QueueEnvironment) -> None:
    """Reason, source, subscription, attempts, error and time are in the headers, beside those it had."""
    queue, dlq, provider = env.name(), env.name("dlq"), await env.provider()
    inbox = env.inbox(fails(error=lambda: HandlerError("the disk is on fire")))
    handling = env.handling(max_retries=1, retry_delay=1, dead_letter_queue=dlq)
    await provider.subscribe(queue, inbox, subscription="billing", error_handling=handling)
    message = QueueMessage(body=b"x", headers={"mine": "kept"})
    await provider.publish(queue, message)
    (letter,) = await env.dead_letters(dlq)
    said = letter_headers(letter)
    assert set(said) == {"reason", "source", "subscription", "attempts", "error", "time"}
    assert said["reason"] == "retries-exhausted"
    assert said["source"].removeprefix("/queue/") == queue
    assert said["subscription"] == "billing"
    assert said["attempts"] == "2"
    assert "the disk is on fire" in said["error"]
    time = datetime.fromisoformat(said["time"])
    assert time.utcoffset() is not None
    assert abs(time - message.timestamp) < timedelta(hours=1)
    assert letter.headers["mine"] == "kept"


@QUEUE_BEHAVIOURS.add("Q2")
async def rejected_dead_letter_counts_its_attempts(env: QueueEnvironment) -> None:
    """Failed once, then rejected: the attempts are those that failed, and a rejection is no failure."""
    queue, dlq, provider = env.name(), env.name("dlq"), await env.provider()

    async def handler(message: QueueMessage) -> MessageStatus:  # noqa: ARG001 - a handler
        return MessageStatus.RETRY if len(inbox.messages) == 1 else MessageStatus.REJECT

    inbox = env.inbox(handler)
    await provider.subscribe(queue, inbox, error_handling=env.handling(dead_letter_queue=dlq))
    await provider.publish(queue, QueueMessage(body=b"x"))
    (letter,) = await env.dead_letters(dlq)
    said = letter_headers(letter)
    assert said["reason"] == "rejected"
    assert said["attempts"] == "1"


@QUEUE_BEHAVIOURS.add("Q2")
async def republished_dead_letter_starts_anew(env: QueueEnvironment) -> None:
    """Published again as it is: no dead-letter headers, ``delivery_count`` 1, and all its retries before it."""
    queue, dlq, provider = env.name(), env.name("dlq"), await env.provider()
    handling = env.handling(max_retries=1, retry_delay=1, dead_letter_queue=dlq)
    inbox = env.inbox(fails())
    await provider.subscribe(queue, inbox, error_handling=handling)
    await provider.publish(queue, QueueMessage(body=b"x", headers={"mine": "kept"}))
    (letter,) = await env.dead_letters(dlq)
    await provider.publish(queue, letter)
    await env.dead_letters(dlq)
    assert len(inbox.messages) == 4
    again = inbox.messages[2]
    assert letter_headers(again) == {}
    assert again.headers["mine"] == "kept"
    assert (again.delivery_count, again.redelivered) == (1, False)
    assert set(inbox.ids) == {letter.message_id}


@QUEUE_BEHAVIOURS.add("Q2")
async def what_fails_in_the_dead_letter_queue_comes_again(env: QueueEnvironment) -> None:
    """Whoever subscribes to ``/queue/dlq`` without naming another gets what is rejected there, or has used its retries up,
    again after the delay: there is nowhere else to go, and it is not lost.
    """
    provider, loop = await env.provider(), asyncio.get_running_loop()
    message = QueueMessage(body=b"x", headers={"mine": "kept"})
    handled_at: list[float] = []

    async def handler(got: QueueMessage) -> MessageStatus:
        if got.message_id != message.message_id:
            return MessageStatus.ACK  # another's: that queue is for everybody
        handled_at.append(loop.time())
        return MessageStatus.REJECT if len(handled_at) < 3 else MessageStatus.ACK

    inbox = env.inbox(handler)
    handling = env.handling(max_retries=0, retry_delay=20)
    await provider.subscribe(DEFAULT_DEAD_LETTER_QUEUE, inbox, error_handling=handling)
    await provider.publish(DEFAULT_DEAD_LETTER_QUEUE, message)
    await env.eventually(lambda: len(handled_at) >= 3, "what was rejected in the dead-letter queue did not come again")
    if env.has(Can.DELAY):
        delays = [later - sooner for sooner, later in pairwise(handled_at)]
        assert min(delays) >= handling.retry_delay_seconds * 0.98
    await env.settle()
    mine = [got for got in inbox.messages if got.message_id == message.message_id]
    assert [(got.body, dict(got.headers)) for got in mine] == [(b"x", {"mine": "kept"})] * 3


@QUEUE_BEHAVIOURS.add("Q2", Can.TOPICS)
async def dead_letter_of_a_topic_names_its_subscription(env: QueueEnvironment) -> None:
    """One subscription rejects, the other acks: one dead letter, which says of which subscription."""
    topic, dlq, provider = f"/topic/{env.name()}", env.name("dlq"), await env.provider()
    bad, good = env.inbox(MessageStatus.REJECT), env.inbox()
    handling = env.handling(dead_letter_queue=dlq)
    await provider.subscribe(topic, bad, subscription="bad", error_handling=handling)
    await provider.subscribe(topic, good, subscription="good", error_handling=handling)
    await provider.publish(topic, QueueMessage(body=b"x"))
    (letter,) = await env.dead_letters(dlq)
    said = letter_headers(letter)
    assert (said["subscription"], said["source"]) == ("bad", topic)
    await good.until_finished(1)
    assert await env.left_in(dlq) == []


@QUEUE_BEHAVIOURS.add("Q3", Can.TOPICS)
async def retry_of_a_topic_reaches_its_own_subscription_only(env: QueueEnvironment) -> None:
    """One of two subscriptions fails once: it alone gets the message again. A retry that publishes to the topic would
    make a copy for everyone.
    """
    topic, provider = f"/topic/{env.name()}", await env.provider()
    failing, fine = env.inbox(fails(1)), env.inbox()
    await provider.subscribe(topic, failing, error_handling=env.handling())
    await provider.subscribe(topic, fine)
    message = QueueMessage(body=b"x")
    await provider.publish(topic, message)
    await failing.until_finished(2)
    await env.settle()
    assert ids(failing.messages) == [message.message_id] * 2
    assert ids(fine.messages) == [message.message_id]


@QUEUE_BEHAVIOURS.add("Q10")
async def unspeakable_errors_reach_the_dead_letter_queue(env: QueueEnvironment) -> None:
    """Whatever the text of a handler's exception (a megabyte, line breaks, lone surrogates, a ``__str__`` that raises), the
    message is dead-lettered, with an error header, and the next one is handled.
    """

    class UnprintableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text for you")

    errors = [
        HandlerError("x" * 1_000_000),
        HandlerError("two\r\nlines\x00and\ta: colon"),
        HandlerError("lone \ud800 surrogate"),
        HandlerError("смерть 💀"),
        HandlerError(),
        UnprintableError(),
    ]
    queue, dlq, provider = env.name(), env.name("dlq"), await env.provider()

    async def handler(message: QueueMessage) -> None:
        raise errors[int(message.body)]

    await provider.subscribe(
        queue, env.inbox(handler), error_handling=env.handling(max_retries=0, dead_letter_queue=dlq)
    )
    for n in range(len(errors)):
        await provider.publish(queue, QueueMessage(body=str(n).encode()))
    letters = await env.dead_letters(dlq, len(errors))
    assert sorted(letter.body for letter in letters) == [str(n).encode() for n in range(len(errors))]
    assert all("error" in letter_headers(letter) for letter in letters)
