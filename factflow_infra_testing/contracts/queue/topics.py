"""Topics: a copy to every subscription; named ones are durable, unnamed ones live with their subscriber."""

from __future__ import annotations

from typing import TYPE_CHECKING

from factflow_infra.queue.messages import MessageStatus, QueueMessage
from factflow_infra_testing.contracts.queue.capabilities import QueueCapability as Can
from factflow_infra_testing.contracts.queue.inbox import fails
from factflow_infra_testing.contracts.queue.table import QUEUE_BEHAVIOURS, ids, numbered

if TYPE_CHECKING:
    from factflow_infra_testing.contracts.queue.environment import QueueEnvironment


@QUEUE_BEHAVIOURS.add("Q2", Can.TOPICS, like=("gocdk/TestSendReceiveTwo",))
async def every_subscription_gets_a_copy(env: QueueEnvironment) -> None:
    """Two unnamed ones and two named ones, over two providers: each message to each, once."""
    topic, providers = f"/topic/{env.name()}", [await env.provider(), await env.provider()]
    inboxes = [env.inbox() for _ in range(4)]
    for nth, inbox in enumerate(inboxes):
        await providers[nth % 2].subscribe(topic, inbox, subscription=f"group-{nth}" if nth > 1 else None)
    sent = numbered(10)
    for message in sent:
        await providers[0].publish(topic, message)
    for inbox in inboxes:
        await inbox.until_finished(10)
    await env.settle()
    assert [inbox.ids for inbox in inboxes] == [ids(sent)] * 4


@QUEUE_BEHAVIOURS.add("Q2", Can.TOPICS, like=("watermill/TestConsumerGroups",))
async def members_of_a_named_subscription_compete(env: QueueEnvironment) -> None:
    """Two groups of two members: each group gets all messages, each message goes to one member."""
    topic, provider = f"/topic/{env.name()}", await env.provider()
    groups = {name: [env.inbox(), env.inbox()] for name in ("first", "second")}
    for name, inboxes in groups.items():
        for inbox in inboxes:
            await (await env.provider()).subscribe(topic, inbox, subscription=name)
    sent = numbered(20)
    for message in sent:
        await provider.publish(topic, message)
    for inboxes in groups.values():
        await env.eventually(lambda i=inboxes: sum(len(inbox.finished) for inbox in i) >= 20, "a group missed some")
    await env.settle()
    for inboxes in groups.values():
        assert sorted(i for inbox in inboxes for i in inbox.ids) == sorted(ids(sent))


@QUEUE_BEHAVIOURS.add("Q2", Can.TOPICS, Can.DURABLE_SUBSCRIPTIONS, like=("watermill/TestConsumerGroups",))
async def named_subscription_outlives_its_members(env: QueueEnvironment) -> None:
    """What is published while no member is there waits for the next one, of any provider."""
    topic, publisher, member = f"/topic/{env.name()}", await env.provider(), await env.provider()
    await (await member.subscribe(topic, env.inbox(), subscription="durable")).close()
    await member.stop()
    sent = numbered(5)
    for message in sent:
        await publisher.publish(topic, message)
    assert ids(await env.take(topic, 5, subscription="durable")) == ids(sent)


@QUEUE_BEHAVIOURS.add("Q2", Can.TOPICS, Can.DURABLE_SUBSCRIPTIONS, Can.RESTART)
async def named_subscription_survives_a_broker_restart(env: QueueEnvironment) -> None:
    """The subscription and what waits in it are durable."""
    topic, provider = f"/topic/{env.name()}", await env.provider()
    await (await provider.subscribe(topic, env.inbox(), subscription="durable")).close()
    sent = numbered(3)
    for message in sent:
        await provider.publish(topic, message)
    await env.restart_broker()
    assert set(ids(await env.take(topic, 3, subscription="durable"))) == set(ids(sent))


@QUEUE_BEHAVIOURS.add("Q2", Can.TOPICS)
async def unnamed_subscription_ends_with_its_subscriber(env: QueueEnvironment) -> None:
    """What is published after it was closed is not kept for a later one."""
    topic, provider = f"/topic/{env.name()}", await env.provider()
    before, after = env.inbox(), env.inbox()
    subscription = await provider.subscribe(topic, before)
    await provider.publish(topic, QueueMessage(body=b"1"))
    await before.until_finished(1)
    await subscription.close()
    await provider.publish(topic, QueueMessage(body=b"2"))
    await provider.subscribe(topic, after)
    await provider.publish(topic, QueueMessage(body=b"3"))
    await after.until_finished(1)
    await env.settle()
    assert (before.bodies, after.bodies) == ([b"1"], [b"3"])


@QUEUE_BEHAVIOURS.add("Q1", Can.TOPICS)
async def topic_without_subscriptions_drops(env: QueueEnvironment) -> None:
    """``publish`` says ``ACCEPTED``, and a later subscription does not get it. AMQP's mandatory flag would return it."""
    topic, provider = f"/topic/{env.name()}", await env.provider()
    assert await provider.publish(topic, QueueMessage(body=b"dropped")) is MessageStatus.ACCEPTED
    inbox = env.inbox()
    await provider.subscribe(topic, inbox)
    await provider.publish(topic, QueueMessage(body=b"kept"))
    await inbox.until_finished(1)
    await env.settle()
    assert inbox.bodies == [b"kept"]


@QUEUE_BEHAVIOURS.add("Q10", Can.TOPICS)
async def topic_and_queue_of_one_name_are_two_things(env: QueueEnvironment) -> None:
    """``/topic/x`` and ``/queue/x`` share nothing but their name; nor do subscriptions of two topics."""
    name, provider = env.name(), await env.provider()
    in_queue, in_topic, in_other = env.inbox(), env.inbox(), env.inbox()
    await provider.subscribe(f"/queue/{name}", in_queue)
    await provider.subscribe(f"/topic/{name}", in_topic, subscription="group")
    await provider.subscribe(f"/topic/{name}-other", in_other, subscription="group")
    await provider.publish(f"/queue/{name}", QueueMessage(body=b"queue"))
    await provider.publish(f"/topic/{name}", QueueMessage(body=b"topic"))
    await in_queue.until_finished(1)
    await in_topic.until_finished(1)
    await env.settle()
    assert (in_queue.bodies, in_topic.bodies, in_other.bodies) == ([b"queue"], [b"topic"], [])


@QUEUE_BEHAVIOURS.add("Q2", Can.TOPICS)
async def failed_topic_message_comes_again(env: QueueEnvironment) -> None:
    """Retries work on both kinds of topic subscriptions; the count and the source stay those of the topic."""
    topic, provider = f"/topic/{env.name()}", await env.provider()
    inboxes = [env.inbox(fails(2)), env.inbox(fails(2))]
    for name, inbox in zip((None, "durable"), inboxes, strict=True):
        await provider.subscribe(topic, inbox, subscription=name, error_handling=env.handling(retry_delay=1))
    await provider.publish(topic, QueueMessage(body=b"x"))
    for inbox in inboxes:
        messages = await inbox.until_finished(3)
        assert [message.delivery_count for message in messages] == [1, 2, 3]
        assert {message.destination for message in messages} == {topic}
    await env.settle()
    assert [len(inbox.messages) for inbox in inboxes] == [3, 3]
