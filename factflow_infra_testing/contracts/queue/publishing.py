"""Q1: what ``publish`` says is true."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from factflow_infra.errors import PublishRefusedError, PublishUnconfirmedError, QueueConnectionError, QueueError
from factflow_infra.queue.messages import MessageStatus, QueueMessage
from factflow_infra_testing.contracts.queue.capabilities import QueueCapability as Can
from factflow_infra_testing.contracts.queue.table import QUEUE_BEHAVIOURS, ids, numbered
from factflow_infra_testing.contracts.raising import raises

if TYPE_CHECKING:
    from factflow_infra_testing.contracts.queue.environment import QueueEnvironment


@QUEUE_BEHAVIOURS.add("Q1")
async def publish_answers_accepted(env: QueueEnvironment) -> None:
    """``publish`` returns ``MessageStatus.ACCEPTED``, to a queue that nobody has heard of before too."""
    provider = await env.provider()
    assert await provider.publish(env.name(), QueueMessage(body=b"x")) is MessageStatus.ACCEPTED


@QUEUE_BEHAVIOURS.add(
    "Q1",
    like=("watermill/TestPublishSubscribe", "watermill/TestNewSubscriberReceivesOldMessages", "gocdk/TestSendReceive"),
)
async def published_before_any_subscriber_arrives(env: QueueEnvironment) -> None:
    """A queue keeps what it gets before its first subscriber. Artemis' default, multicast, does not: its provider must
    ask for anycast.
    """
    queue, provider = env.name(), await env.provider()
    sent = [message.changed(headers={"test": f"t{n}"}) for n, message in enumerate(numbered(100))]
    for message in sent:
        await provider.publish(queue, message)
    inbox = env.inbox()
    await (await env.provider()).subscribe(queue, inbox)
    got = {message.message_id: message for message in await inbox.until(100)}
    assert set(got) == set(ids(sent))
    for message in sent:
        assert got[message.message_id].body == message.body
        assert dict(got[message.message_id].headers) == dict(message.headers)


@QUEUE_BEHAVIOURS.add("Q1", like=("watermill/TestPublisherClose",))
async def concurrent_publishers_lose_nothing(env: QueueEnvironment) -> None:
    """100 messages from 20 tasks over two providers, then both providers stop: all are there."""
    queue, providers = env.name(), [await env.provider(), await env.provider()]
    sent = numbered(100)

    async def publisher(nth: int) -> None:
        for message in sent[nth::20]:
            await providers[nth % 2].publish(queue, message)

    await asyncio.gather(*(publisher(nth) for nth in range(20)))
    for provider in providers:
        await provider.stop()
    assert set(ids(await env.take(queue, 100))) == set(ids(sent))


@QUEUE_BEHAVIOURS.add("Q1", like=("watermill/TestTopic", "watermill/TestConcurrentSubscribeMultipleTopics"))
async def messages_reach_their_own_queue_only(env: QueueEnvironment) -> None:
    """Several queues used at once by one provider do not mix."""
    provider = await env.provider()
    queues = [env.name(f"q{n}") for n in range(5)]
    inboxes = [env.inbox() for _ in queues]
    for queue, inbox in zip(queues, inboxes, strict=True):
        await provider.subscribe(queue, inbox)
    await asyncio.gather(
        *(provider.publish(queue, QueueMessage(body=queue.encode())) for queue in queues for _ in range(5))
    )
    for queue, inbox in zip(queues, inboxes, strict=True):
        await inbox.until(5)
        assert set(inbox.bodies) == {queue.encode()}


@QUEUE_BEHAVIOURS.add("Q1", Can.KILL)
async def accepted_survives_a_killed_publisher(env: QueueEnvironment) -> None:
    """Stompman's ``send`` without a receipt returns on the socket write: 4 of 100 were lost over two resets."""
    queue, provider = env.name(), await env.provider()
    sent = numbered(10)
    for message in sent:
        await provider.publish(queue, message)
    await env.kill(provider)
    assert ids(await env.take(queue, 10)) == ids(sent)


@QUEUE_BEHAVIOURS.add("Q1", Can.RESTART)
async def accepted_survives_a_broker_restart(env: QueueEnvironment) -> None:
    """Held durably: the message is persistent, and so is its queue."""
    queue, provider = env.name(), await env.provider()
    sent = numbered(5)
    for message in sent:
        await provider.publish(queue, message)
    await env.restart_broker()
    assert set(ids(await env.take(queue, 5))) == set(ids(sent))


@QUEUE_BEHAVIOURS.add("Q1", Can.LOSE_CONFIRM)
async def lost_confirmation_is_said_to_be_unconfirmed(env: QueueEnvironment) -> None:
    """The broker took the message, its answer never came: ``PublishUnconfirmedError``, retryable; never success, never
    "not taken". Publishing again works.
    """
    queue, provider = env.name(), await env.provider()
    await provider.publish(queue, QueueMessage(body=b"first"))
    await env.lose_confirm(queue)
    message = QueueMessage(body=b"second")
    with raises(PublishUnconfirmedError) as caught:
        await env.within_patience(provider.publish(queue, message), "publish() never returned")
    assert caught.value.retryable
    await env.publish_until_taken(provider, queue, message)
    got = [m.body for m in await env.left_in(queue)]
    assert got.count(b"first") == 1
    assert got.count(b"second") in {1, 2}, got


@QUEUE_BEHAVIOURS.add("Q1", Can.REFUSE)
async def refusal_raises(env: QueueEnvironment) -> None:
    """A refused message raises ``PublishRefusedError`` and is nowhere. aio-pika *returns* an unroutable mandatory message
    as if all were well.
    """
    queue, provider = env.name(), await env.provider()
    await provider.publish(queue, QueueMessage(body=b"first"))
    await env.refuse(queue)
    with raises(PublishRefusedError) as caught:
        await provider.publish(queue, QueueMessage(body=b"refused"))
    assert isinstance(caught.value, QueueError)
    assert await provider.publish(queue, QueueMessage(body=b"third")) is MessageStatus.ACCEPTED
    assert [m.body for m in await env.left_in(queue)] == [b"first", b"third"]


@QUEUE_BEHAVIOURS.add("Q1", Can.RESTART)
async def unreachable_broker_raises_connection_error(env: QueueEnvironment) -> None:
    """With no broker the message surely was not taken: ``QueueConnectionError``, retryable, within bounded time; and
    nothing of it turns up later.
    """
    queue, provider = env.name(), await env.provider()
    await env.stop_broker()
    with raises(QueueConnectionError) as caught:
        await env.within_patience(provider.publish(queue, QueueMessage(body=b"no")), "publish() without a broker hung")
    assert caught.value.retryable
    await env.start_broker()
    await env.publish_until_taken(provider, queue, QueueMessage(body=b"yes"))
    assert [m.body for m in await env.left_in(queue)] == [b"yes"]


@QUEUE_BEHAVIOURS.add("Q1", Can.SEVER)
async def nothing_is_lost_silently_while_connections_break(env: QueueEnvironment) -> None:
    """Publishing across broken connections: each call is accepted, or raises a retryable error; every accepted one
    arrives, and what surely was not taken does not.
    """
    queue, provider = env.name(), await env.provider()
    accepted: list[str] = []
    unknown: list[str] = []
    for n in range(60):
        message = QueueMessage(body=str(n).encode())
        call = asyncio.ensure_future(provider.publish(queue, message))
        if n % 7 == 3:
            for _ in range(n % 5):
                await asyncio.sleep(0)
            await env.sever(provider)
        try:
            await env.within_patience(call, "publish() across a broken connection never returned")
            accepted.append(message.message_id)
        except PublishUnconfirmedError:
            unknown.append(message.message_id)
        except QueueConnectionError:
            await asyncio.sleep(env.seconds(3))
    got = set(ids(await env.left_in(queue)))
    assert set(accepted) <= got, "accepted, and lost"
    assert got <= {*accepted, *unknown}, "said to be not taken, and delivered"
    assert len(accepted) > 20


@QUEUE_BEHAVIOURS.add("Q1", Can.STALL)
async def publish_on_a_silent_connection_ends(env: QueueEnvironment) -> None:
    """Nothing comes back, and nobody says why: within bounds the publish is said to be unconfirmed. aio-pika's publish has
    no timeout of its own.
    """
    queue, provider = env.name(), await env.provider()
    await provider.publish(queue, QueueMessage(body=b"first"))
    await env.stall(provider)
    with raises(PublishUnconfirmedError):
        await env.within_patience(provider.publish(queue, QueueMessage(body=b"second")), "publish() never returned")


@QUEUE_BEHAVIOURS.add("Q1", like=("gocdk/TestCancelSendReceive",))
async def cancelled_publish_leaves_the_provider_usable(env: QueueEnvironment) -> None:
    """Cancelling a publish raises ``CancelledError``, whenever it comes, to a queue that is there or that it has to make; the
    very next one is accepted, and arrives.
    """
    queue, provider = env.name(), await env.provider()
    cancelled = 0
    sent = numbered(24)
    for steps, message in enumerate(sent):
        known = steps < 12
        target = queue if known else env.name("new")
        call = asyncio.ensure_future(provider.publish(target, QueueMessage(body=b"cancelled")))
        for _ in range(steps % 12):
            await asyncio.sleep(0)
        call.cancel()
        try:
            await call
        except asyncio.CancelledError:
            cancelled += bool(steps % 12)  # without a step it had not begun
        assert await provider.publish(queue if known else env.name("next"), message) is MessageStatus.ACCEPTED
    assert cancelled, "no publish was cancelled once it had begun"
    assert set(ids(sent[:12])) <= set(ids(await env.left_in(queue)))


@QUEUE_BEHAVIOURS.add("Q1", Can.DELAY)
async def delay_holds_a_message_back(env: QueueEnvironment) -> None:
    """Not before ``delay`` seconds are over, and soon after."""
    queue, provider, inbox = env.name(), await env.provider(), env.inbox()
    await provider.subscribe(queue, inbox)
    loop, delay = asyncio.get_running_loop(), env.seconds(20)
    start = loop.time()
    await provider.publish(queue, QueueMessage(body=b"x"), delay=delay)
    await inbox.until(1)
    waited = loop.time() - start
    assert waited >= delay * 0.98
    if env.has(Can.VIRTUAL_TIME):
        assert waited <= delay + 1.0, f"a delay of {delay:g} s took {waited:g} s"


@QUEUE_BEHAVIOURS.add("Q1", Can.DELAY)
async def delays_do_not_hold_up_each_other(env: QueueEnvironment) -> None:
    """Long, short, none: delivered as they fall due. In RabbitMQ a message expires at the head of its queue only, so one
    delay queue for all delays makes the short ones wait for the long ones.
    """
    queue, provider, inbox = env.name(), await env.provider(), env.inbox()
    await provider.subscribe(queue, inbox)
    for body, delay in ((b"long", 40.0), (b"short", 20.0), (b"none", 0.0)):
        await provider.publish(queue, QueueMessage(body=body), delay=env.seconds(delay))
    await inbox.until(3)
    assert inbox.bodies == [b"none", b"short", b"long"]


@QUEUE_BEHAVIOURS.add("Q1", Can.DELAY, Can.TOPICS)
async def delay_holds_a_topic_message_back(env: QueueEnvironment) -> None:
    """A delayed message to a topic reaches each subscription, once, when it falls due."""
    topic, provider = f"/topic/{env.name()}", await env.provider()
    inboxes = [env.inbox(), env.inbox()]
    for inbox in inboxes:
        await provider.subscribe(topic, inbox)
    start, delay = asyncio.get_running_loop().time(), env.seconds(20)
    await provider.publish(topic, QueueMessage(body=b"x"), delay=delay)
    for inbox in inboxes:
        await inbox.until(1)
        assert inbox.started_at[0] - start >= delay * 0.98
    await env.settle()
    assert [len(inbox.messages) for inbox in inboxes] == [1, 1]


@QUEUE_BEHAVIOURS.add("Q1", Can.DELAY, Can.RESTART)
async def delayed_message_survives_a_broker_restart(env: QueueEnvironment) -> None:
    """It waits in the broker, durably, and not in the provider that sent it."""
    queue, provider = env.name(), await env.provider()
    await provider.publish(queue, QueueMessage(body=b"later"), delay=env.seconds(30))
    await provider.stop()
    await env.restart_broker()
    assert [m.body for m in await env.take(queue, 1)] == [b"later"]
