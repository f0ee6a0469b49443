"""Q1 for ``publish_batch``: one answer for each message, and no raising for some of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from factflow_infra.errors import (
    InvalidMessageError,
    PublishRefusedError,
    PublishUnconfirmedError,
    QueueConnectionError,
)
from factflow_infra.queue.messages import BatchStatus, MessageStatus, QueueMessage
from factflow_infra_testing.contracts.queue.capabilities import QueueCapability as Can
from factflow_infra_testing.contracts.queue.table import QUEUE_BEHAVIOURS, ids, numbered
from factflow_infra_testing.contracts.raising import raises

if TYPE_CHECKING:
    from factflow_infra_testing.contracts.queue.environment import QueueEnvironment


@QUEUE_BEHAVIOURS.add("Q1")
async def batch_is_complete(env: QueueEnvironment) -> None:
    """A result for each message, in order, with its id and ``ACCEPTED``; and all arrive, in order."""
    queue, provider = env.name(), await env.provider()
    sent = numbered(50)
    result = await provider.publish_batch(queue, sent)
    assert result.status is BatchStatus.COMPLETE
    assert [item.message_id for item in result.results] == ids(sent)
    assert all(item.status is MessageStatus.ACCEPTED and item.error is None for item in result.results)
    assert ids(await env.take(queue, 50)) == ids(sent)


@QUEUE_BEHAVIOURS.add("Q1")
async def empty_batch_is_complete(env: QueueEnvironment) -> None:
    """No messages, no results, nothing sent."""
    queue, provider = env.name(), await env.provider()
    result = await provider.publish_batch(queue, [])
    assert result.results == ()
    assert result.status is BatchStatus.COMPLETE
    assert await env.left_in(queue) == []


@QUEUE_BEHAVIOURS.add("Q1")
async def batch_with_an_id_twice_sends_both(env: QueueEnvironment) -> None:
    """Two messages with one ``message_id`` have a result each, and both arrive. aio-pika acks one of two concurrent
    unroutable publishes with the same id silently.
    """
    queue, provider = env.name(), await env.provider()
    twice = [QueueMessage(body=b"1", message_id="same"), QueueMessage(body=b"2", message_id="same")]
    result = await provider.publish_batch(queue, twice)
    assert [(item.message_id, item.status) for item in result.results] == [("same", MessageStatus.ACCEPTED)] * 2
    assert [m.body for m in await env.take(queue, 2)] == [b"1", b"2"]


@QUEUE_BEHAVIOURS.add("Q1", Can.REFUSE)
async def partial_batch_says_which(env: QueueEnvironment) -> None:
    """One refused of three: ``PARTIAL``, the error with its message, the others accepted and delivered."""
    queue, provider = env.name(), await env.provider()
    await provider.publish(queue, QueueMessage(body=b"before"))
    await env.refuse(queue)
    sent = numbered(3)
    result = await provider.publish_batch(queue, sent)
    assert result.status is BatchStatus.PARTIAL
    assert [item.message_id for item in result.results] == ids(sent)
    refused = [item for item in result.results if item.error is not None]
    assert len(refused) == 1
    assert isinstance(refused[0].error, PublishRefusedError)
    assert refused[0].status is None
    expected = {message.message_id for message in sent} - {refused[0].message_id}
    assert {m.message_id for m in await env.left_in(queue) if m.body != b"before"} == expected


@QUEUE_BEHAVIOURS.add("Q1", Can.LOSE_CONFIRM)
async def unconfirmed_in_a_batch_says_so(env: QueueEnvironment) -> None:
    """A lost confirmation in a batch is that message's error; every message without an error arrives."""
    queue, provider = env.name(), await env.provider()
    await provider.publish(queue, QueueMessage(body=b"before"))
    await env.lose_confirm(queue)
    sent = numbered(5)
    result = await env.within_patience(provider.publish_batch(queue, sent), "publish_batch() never returned")
    assert result.status is not BatchStatus.COMPLETE
    assert [item.message_id for item in result.results] == ids(sent)
    errors = [item.error for item in result.results if item.error is not None]
    assert any(isinstance(error, PublishUnconfirmedError) for error in errors)
    assert all(isinstance(error, (PublishUnconfirmedError, QueueConnectionError)) for error in errors)
    accepted = {item.message_id for item in result.results if item.error is None}
    assert accepted <= set(ids(await env.left_in(queue)))


@QUEUE_BEHAVIOURS.add("Q1", Can.RESTART)
async def failed_batch_does_not_raise(env: QueueEnvironment) -> None:
    """With no broker: ``FAILED``, a ``QueueConnectionError`` for each, and nothing turns up later."""
    queue, provider = env.name(), await env.provider()
    await env.stop_broker()
    sent = numbered(3)
    result = await env.within_patience(provider.publish_batch(queue, sent), "publish_batch() without a broker hung")
    assert result.status is BatchStatus.FAILED
    assert [item.message_id for item in result.results] == ids(sent)
    assert all(isinstance(item.error, QueueConnectionError) and item.status is None for item in result.results)
    await env.start_broker()
    assert await env.left_in(queue) == []


@QUEUE_BEHAVIOURS.add("Q10")
async def batch_with_bad_input_sends_nothing(env: QueueEnvironment) -> None:
    """One item that is no message: the call raises, names it, and the good ones beside it are not sent either."""
    queue, provider = env.name(), await env.provider()
    bad: list[object] = [QueueMessage(body=b"good"), {"body": "bad"}]
    with raises(InvalidMessageError, saying="dict"):
        await provider.publish_batch(queue, bad)  # pyright: ignore[reportArgumentType] - bad on purpose
    assert await env.left_in(queue) == []
