"""Q5, and what a subscription is: live when ``subscribe`` returns, competing, closed, paused, resumed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from factflow_infra.errors import InfraError, InvalidSubscriptionError
from factflow_infra.queue.messages import QueueMessage, SubscriptionStatus
from factflow_infra_testing.contracts.queue.capabilities import QueueCapability as Can
from factflow_infra_testing.contracts.queue.inbox import Gate, never
from factflow_infra_testing.contracts.queue.table import QUEUE_BEHAVIOURS, ids, numbered
from factflow_infra_testing.contracts.raising import raises

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from factflow_infra.protocols import QueueProtocol
    from factflow_infra_testing.contracts.queue.environment import QueueEnvironment


@QUEUE_BEHAVIOURS.add("Q5", Can.TOPICS)
async def subscription_is_live_when_subscribe_returns(env: QueueEnvironment) -> None:
    """What another provider publishes to a topic right after ``subscribe`` returned is delivered: a SUBSCRIBE frame that
    was only written, and not answered, may be overtaken.
    """
    publisher = await env.provider()
    for n in range(5):
        topic, provider, inbox = f"/topic/{env.name()}", await env.provider(), env.inbox()
        await provider.subscribe(topic, inbox, subscription="named" if n % 2 else None)
        await publisher.publish(topic, QueueMessage(body=b"at once"))
        await inbox.until(1)


@QUEUE_BEHAVIOURS.add("Q5")
async def subscription_tells_what_it_is(env: QueueEnvironment) -> None:
    """``destination``, ``name`` and ``status``; an unnamed one has a name too."""
    queue, provider = env.name(), await env.provider()
    named = await provider.subscribe(queue, env.inbox(), subscription="workers")
    unnamed = await provider.subscribe(f"/queue/{queue}", env.inbox())
    assert (named.name, named.status) == ("workers", SubscriptionStatus.ACTIVE)
    assert named.destination.removeprefix("/queue/") == queue
    assert unnamed.destination.removeprefix("/queue/") == queue
    assert unnamed.name
    await named.close()
    assert named.status is SubscriptionStatus.CLOSED
    assert unnamed.status is SubscriptionStatus.ACTIVE


@QUEUE_BEHAVIOURS.add("Q5")
async def subscribers_of_a_queue_compete_named_or_not(env: QueueEnvironment) -> None:
    """Two names and an unnamed one on one queue: each message to one of the three. FastStream's test broker gives each
    its own copy.
    """
    queue, provider = env.name(), await env.provider()
    inboxes = [env.inbox() for _ in range(3)]
    for name, inbox in zip(("first", "second", None), inboxes, strict=True):
        await provider.subscribe(queue, inbox, subscription=name)
    sent = numbered(30)
    await provider.publish_batch(queue, sent)
    await env.eventually(lambda: sum(len(inbox.finished) for inbox in inboxes) >= 30, "not all were delivered")
    await env.settle()
    assert sorted(i for inbox in inboxes for i in inbox.ids) == sorted(ids(sent))


@QUEUE_BEHAVIOURS.add("Q5")
async def refused_subscribe_leaves_nothing_behind(env: QueueEnvironment) -> None:
    """A ``subscribe`` that raises has no consumer on the queue, and does not count as a subscription."""
    queue, provider, inbox = env.name(), await env.provider(), env.inbox()
    with raises(InvalidSubscriptionError):
        await provider.subscribe(queue, inbox, concurrency=0)
    assert provider.health().active_subscriptions == 0
    sent = numbered(5)
    await provider.publish_batch(queue, sent)
    assert ids(await env.take(queue, 5)) == ids(sent)
    assert inbox.messages == []


@QUEUE_BEHAVIOURS.add("Q5", like=("watermill/TestSubscribeCtx",))
async def cancelled_subscribe_leaves_nothing_behind(env: QueueEnvironment) -> None:
    """A ``subscribe`` cancelled at any of its steps, or once what it sent is on its way, takes no messages from others, and
    the next one works. aiormq closes the channel whose request is cancelled, and says so only when the broker has answered.
    """
    queue, provider, inbox = env.name(), await env.provider(), env.inbox()
    await provider.publish(env.name("warm"), QueueMessage(body=b"connects"))
    cancelled = 0
    for steps in range(20):
        call = asyncio.ensure_future(provider.subscribe(queue, inbox))
        for _ in range(steps % 10):
            await asyncio.sleep(0 if steps < 10 else 0.0002)
        call.cancel()
        try:
            await (await call).close()
        except asyncio.CancelledError:
            cancelled += 1
        await (await provider.subscribe(env.name("next"), env.inbox())).close()
    assert cancelled > 1, "hardly a subscribe was cancelled"
    await env.settle(10)
    sent = numbered(10)
    await provider.publish_batch(queue, sent)
    assert ids(await env.take(queue, 10)) == ids(sent)
    assert inbox.messages == []
    assert provider.health().active_subscriptions == 0


@QUEUE_BEHAVIOURS.add("Q5", Can.RESTART)
async def subscribe_without_a_broker_is_honest(env: QueueEnvironment) -> None:
    """With no broker, ``subscribe`` raises a retryable error and leaves nothing behind, or waits and is live when it
    returns.
    """
    queue, provider, inbox = env.name(), await env.provider(), env.inbox()
    await env.stop_broker()
    call = asyncio.ensure_future(provider.subscribe(queue, inbox))
    await env.settle()
    await env.start_broker()
    try:
        await env.within_patience(call, "subscribe() hung, with the broker back")
    except InfraError as error:
        assert error.retryable  # noqa: PT017 - waiting instead is as good
        await env.publish_until_taken(provider, queue, QueueMessage(body=b"x"))
        assert [m.body for m in await env.left_in(queue)] == [b"x"]
        assert inbox.messages == []
    else:
        await env.publish_until_taken(provider, queue, QueueMessage(body=b"x"))
        await inbox.until(1)


@QUEUE_BEHAVIOURS.add("Q5")
async def close_waits_for_the_running_handler(env: QueueEnvironment) -> None:
    """``close`` takes no more, lets the handler finish, applies its verdict, and gives back what was only held."""
    queue, provider, gate = env.name(), await env.provider(), Gate()
    inbox = env.inbox(gate)
    subscription = await provider.subscribe(queue, inbox, prefetch=3)
    sent = numbered(3)
    await provider.publish_batch(queue, sent)
    await inbox.until(1)
    closing = asyncio.ensure_future(subscription.close(timeout=None))
    await env.settle(120)
    assert not closing.done()
    gate.open()
    await env.within_patience(closing, "close() never returned")
    assert inbox.finished == [sent[0].message_id]
    back = ids(await env.left_in(queue))
    assert sorted(back) == sorted(ids(sent[1:]))
    if env.has(Can.VIRTUAL_TIME):  # on a real broker their order is its own affair
        assert back == ids(sent[1:])


@QUEUE_BEHAVIOURS.add("Q5")
async def close_with_a_timeout_gives_the_message_back(env: QueueEnvironment) -> None:
    """When its time is over ``close`` cancels the handler: the message goes back, and that is no failed handling. Closing
    again, at once or later, is no error.
    """
    queue, dlq, provider, inbox = env.name(), env.name("dlq"), await env.provider(), env.inbox(never)
    handling = env.handling(max_retries=0, dead_letter_queue=dlq)
    subscription = await provider.subscribe(queue, inbox, error_handling=handling)
    message = QueueMessage(body=b"x")
    await provider.publish(queue, message)
    await inbox.until(1)
    closes = asyncio.gather(*(subscription.close(timeout=env.seconds(1)) for _ in range(2)))
    await env.within_patience(closes, "close() never returned")
    await subscription.close()
    assert subscription.status is SubscriptionStatus.CLOSED
    assert ids(await env.take(queue, 1)) == [message.message_id]
    assert await env.left_in(dlq) == []


@QUEUE_BEHAVIOURS.add("Q5", like=("gocdk/TestErrorOnReceiveFromClosedSubscription",))
async def closed_subscription_gets_nothing_more(env: QueueEnvironment) -> None:
    """After ``close``, and after ``async with``, no handler is called; others on the provider go on."""
    queue, other, provider = env.name(), env.name("other"), await env.provider()
    inbox, second, neighbour = env.inbox(), env.inbox(), env.inbox()
    await provider.subscribe(other, neighbour)
    subscription = await provider.subscribe(queue, inbox)
    await subscription.close()
    async with await provider.subscribe(queue, second) as block:
        assert block.status is SubscriptionStatus.ACTIVE
    assert block.status is SubscriptionStatus.CLOSED
    await provider.publish(queue, QueueMessage(body=b"x"))
    await provider.publish(other, QueueMessage(body=b"y"))
    await neighbour.until_finished(1)
    await env.settle()
    assert (inbox.messages, second.messages) == ([], [])
    assert [m.body for m in await env.left_in(queue)] == [b"x"]


@QUEUE_BEHAVIOURS.add("Q5")
async def pause_takes_no_more_until_resume(env: QueueEnvironment) -> None:
    """Paused: the running handler goes on and its verdict counts, nothing new is handled; resumed: all of it is."""
    queue, provider, gate = env.name(), await env.provider(), Gate()
    inbox = env.inbox(gate)
    subscription = await provider.subscribe(queue, inbox, prefetch=4)
    sent = numbered(3)
    await provider.publish_batch(queue, sent)
    await inbox.until(1)
    await env.within_patience(subscription.pause(), "pause() waits for the handler")
    assert subscription.status is SubscriptionStatus.PAUSED
    gate.open()
    await inbox.until_finished(1)
    await provider.publish(queue, QueueMessage(body=b"3"))
    await env.settle()
    assert inbox.bodies == [b"0"]
    await subscription.resume()
    await env.eventually(lambda: subscription.status is SubscriptionStatus.ACTIVE, "not active after resume()")
    await inbox.until_finished(4)
    await env.settle()
    assert sorted(inbox.bodies) == [b"0", b"1", b"2", b"3"]


@QUEUE_BEHAVIOURS.add("Q5")
async def pause_and_resume_may_be_repeated(env: QueueEnvironment) -> None:
    """Pausing twice and resuming twice are no errors; a paused subscription can be closed, and leaves its messages."""
    queue, provider, inbox = env.name(), await env.provider(), env.inbox()
    subscription = await provider.subscribe(queue, inbox)
    for _ in range(2):
        await subscription.pause()
    for _ in range(2):
        await subscription.resume()
    await provider.publish(queue, QueueMessage(body=b"1"))
    await inbox.until_finished(1)
    await subscription.pause()
    await provider.publish(queue, QueueMessage(body=b"2"))
    await subscription.close()
    assert [m.body for m in await env.left_in(queue)] == [b"2"]
    assert inbox.bodies == [b"1"]


@QUEUE_BEHAVIOURS.add("Q5")
async def provider_is_a_context_manager(env: QueueEnvironment) -> None:
    """``async with provider:`` connects, and stops it at the end."""
    queue, provider = env.name(), await env.provider()
    async with cast("AbstractAsyncContextManager[QueueProtocol]", provider) as entered:
        assert entered is provider
        assert provider.health().connected
        await provider.publish(queue, QueueMessage(body=b"x"))
    assert not provider.health().connected
    with raises(InfraError):
        await provider.publish(queue, QueueMessage(body=b"y"))
    assert [m.body for m in await env.left_in(queue)] == [b"x"]
