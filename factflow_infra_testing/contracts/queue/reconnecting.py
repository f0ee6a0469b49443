"""Q9: a lost connection comes back by itself, patiently; ``health()`` tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from factflow_infra.queue.messages import HealthState, QueueMessage, SubscriptionStatus
from factflow_infra_testing.contracts.queue.capabilities import QueueCapability as Can
from factflow_infra_testing.contracts.queue.inbox import Gate
from factflow_infra_testing.contracts.queue.table import QUEUE_BEHAVIOURS, ids, numbered

if TYPE_CHECKING:
    from factflow_infra.protocols import QueueProtocol
    from factflow_infra_testing.contracts.queue.environment import QueueEnvironment


@QUEUE_BEHAVIOURS.add("Q9", Can.SEVER, like=("watermill/TestReconnect",))
async def subscriptions_come_back(env: QueueEnvironment) -> None:
    """Five lost connections in a row, several subscriptions: all are live again each time, without a call."""
    queues, provider, publisher = [env.name("a"), env.name("b")], await env.provider(), await env.provider()
    inboxes = [env.inbox() for _ in queues]
    subscriptions = [await provider.subscribe(queue, inbox) for queue, inbox in zip(queues, inboxes, strict=True)]
    for round_ in range(5):
        await env.sever(provider)
        for queue, inbox in zip(queues, inboxes, strict=True):
            message = QueueMessage(body=str(round_).encode())
            await publisher.publish(queue, message)
            await inbox.until_seen({message.message_id})
    await env.eventually(
        lambda: all(s.status is SubscriptionStatus.ACTIVE for s in subscriptions), "a subscription is not active again"
    )


@QUEUE_BEHAVIOURS.add("Q9", Can.RESTART, like=("watermill/TestReconnect",))
async def publishing_and_handling_survive_restarts(env: QueueEnvironment) -> None:
    """Messages are published across two broker restarts, each again until accepted, while a subscriber handles them: all
    are handled.
    """
    queue, publisher, provider, inbox = env.name(), await env.provider(), await env.provider(), env.inbox()
    await provider.subscribe(queue, inbox, concurrency=2)
    sent = numbered(30)
    for n, message in enumerate(sent):
        if n in {10, 15}:
            await env.restart_broker()
        await env.publish_until_taken(publisher, queue, message)
    await inbox.until_seen(set(ids(sent)))


@QUEUE_BEHAVIOURS.add("Q9", Can.RESTART, Can.TOPICS)
async def topic_subscriptions_come_back(env: QueueEnvironment) -> None:
    """After a restart both kinds are live again: the named one has missed nothing, the unnamed one gets what comes
    after.
    """
    topic, provider, publisher = f"/topic/{env.name()}", await env.provider(), await env.provider()
    unnamed, named = env.inbox(), env.inbox()
    live = [await provider.subscribe(topic, unnamed), await provider.subscribe(topic, named, subscription="durable")]
    await publisher.publish(topic, QueueMessage(body=b"1"))
    await unnamed.until_finished(1)
    await named.until_finished(1)
    await env.restart_broker()
    await env.publish_until_taken(publisher, topic, QueueMessage(body=b"2"))
    await env.eventually(lambda: all(s.status is SubscriptionStatus.ACTIVE for s in live), "not active again")
    await env.publish_until_taken(publisher, topic, QueueMessage(body=b"3"))
    await env.eventually(lambda: b"3" in unnamed.bodies, "the unnamed subscription did not come back")
    await env.eventually(lambda: {b"1", b"2", b"3"} <= set(named.bodies), "the named subscription missed some")


@QUEUE_BEHAVIOURS.add("Q9", Can.SEVER, Can.TOPICS, Can.DURABLE_SUBSCRIPTIONS)
async def named_subscription_misses_nothing_while_disconnected(env: QueueEnvironment) -> None:
    """A named subscription's connection breaks while others publish: it gets all of it."""
    topic, provider, publisher, inbox = f"/topic/{env.name()}", await env.provider(), await env.provider(), env.inbox()
    await provider.subscribe(topic, inbox, subscription="durable")
    sent = numbered(20)
    for n, message in enumerate(sent):
        if n % 5 == 2:
            await env.sever(provider)
        await publisher.publish(topic, message)
    await inbox.until_seen(set(ids(sent)))


@QUEUE_BEHAVIOURS.add("Q9", Can.SEVER)
async def paused_subscription_comes_back_paused(env: QueueEnvironment) -> None:
    """A reconnect does not resume what its owner paused."""
    queue, provider, publisher, inbox = env.name(), await env.provider(), await env.provider(), env.inbox()
    subscription = await provider.subscribe(queue, inbox)
    await subscription.pause()
    await env.sever(provider)
    await publisher.publish(queue, QueueMessage(body=b"x"))
    await env.settle()
    assert inbox.messages == []
    await subscription.resume()
    await inbox.until_finished(1)


@QUEUE_BEHAVIOURS.add("Q9", Can.SEVER)
async def subscription_closed_while_disconnected_stays_closed(env: QueueEnvironment) -> None:
    """Closed during the outage of its connection, it does not come back with it."""
    queue, provider, inbox = env.name(), await env.provider(), env.inbox()
    subscription = await provider.subscribe(queue, inbox)
    await env.sever(provider)
    await env.within_patience(subscription.close(), "close() hung without a connection")
    await env.publish_until_taken(provider, queue, QueueMessage(body=b"x"))
    await env.settle()
    assert inbox.messages == []
    assert subscription.status is SubscriptionStatus.CLOSED
    assert [m.body for m in await env.left_in(queue)] == [b"x"]


@QUEUE_BEHAVIOURS.add("Q9")
async def health_of_a_fresh_provider(env: QueueEnvironment) -> None:
    """Before its first use a provider is not connected, has seen no message, and nothing is wrong; then it is connected,
    and counts its subscriptions.
    """
    queue, provider = env.name(), await env.provider()
    health = provider.health()
    assert health.connected is False
    assert health.last_message_age_seconds is None
    assert (health.reconnect_attempts, health.reconnect_in_progress) == (0, False)
    assert (health.active_subscriptions, dict(health.subscription_states)) == (0, {})
    first = await provider.subscribe(queue, env.inbox(), subscription="one")
    await provider.subscribe(queue, env.inbox(), subscription="two")
    health = provider.health()
    assert (health.connected, health.health_state) == (True, HealthState.HEALTHY)
    assert health.active_subscriptions == 2
    assert len(health.subscription_states) == 2
    assert set(health.subscription_states.values()) == {SubscriptionStatus.ACTIVE}
    await first.close()
    assert provider.health().active_subscriptions == 1


@QUEUE_BEHAVIOURS.add("Q9")
async def health_knows_the_age_of_the_last_message(env: QueueEnvironment) -> None:
    """``last_message_age_seconds`` counts from the last message, and starts anew with the next."""
    queue, provider, inbox = env.name(), await env.provider(), env.inbox()
    await provider.subscribe(queue, inbox)
    await provider.publish(queue, QueueMessage(body=b"1"))
    await inbox.until_finished(1)
    await env.settle(60)
    age = provider.health().last_message_age_seconds
    assert age is not None
    assert age >= env.seconds(60) * 0.98
    if env.has(Can.VIRTUAL_TIME):
        assert age <= 61
    await provider.publish(queue, QueueMessage(body=b"2"))
    await inbox.until_finished(2)
    renewed = provider.health().last_message_age_seconds
    assert renewed is not None
    assert renewed < age


@QUEUE_BEHAVIOURS.add("Q9", Can.RESTART)
async def health_tells_of_an_outage(env: QueueEnvironment) -> None:
    """Broker gone: not connected, ``reconnecting``, attempts counted, subscriptions ``reconnecting``; broker back:
    ``healthy``, ``active``, without a call.
    """
    queue, provider = env.name(), await env.provider()
    subscription = await provider.subscribe(queue, env.inbox())
    await env.stop_broker()
    await env.eventually(lambda: provider.health().reconnect_attempts >= 2, "no attempts to reconnect were counted")
    health = provider.health()
    assert health.connected is False
    assert health.health_state is HealthState.RECONNECTING
    assert health.reconnect_in_progress is True
    assert set(health.subscription_states.values()) == {SubscriptionStatus.RECONNECTING}
    assert subscription.status is SubscriptionStatus.RECONNECTING
    await env.start_broker()
    await env.eventually(lambda: provider.health().health_state is HealthState.HEALTHY, "never healthy again")
    health = provider.health()
    assert (health.connected, health.reconnect_in_progress) == (True, False)
    assert subscription.status is SubscriptionStatus.ACTIVE
    assert health.active_subscriptions == 1


async def _back(env: QueueEnvironment, providers: list[QueueProtocol]) -> dict[int, int]:
    """In which tenth of a second each of them was healthy again; nothing where five minutes were not enough for all."""
    back: dict[int, int] = {}
    for tenth in range(3000):
        for nth, provider in enumerate(providers):
            if provider.health().health_state is HealthState.HEALTHY:
                back.setdefault(nth, tenth)
        if len(back) == len(providers):
            return back
        await env.settle(0.1)
    return {}


@QUEUE_BEHAVIOURS.add("Q9", Can.RESTART, Can.VIRTUAL_TIME)
async def backoff_is_capped_and_patient(env: QueueEnvironment) -> None:
    """An outage of eight hours: neither thousands of attempts nor hours of silence; soon after the broker is back, so are
    the subscriptions. Providers that lost their connections together do not come back in step.
    """
    queue, provider, inbox = env.name(), await env.provider(), env.inbox()
    await provider.subscribe(queue, inbox)
    await env.stop_broker()
    waited = 0
    for hours in (0.2, 7.8):  # a storm is found early, and costs less
        await env.settle(hours * 3600)
        waited += round(hours * 3600)
        attempts = provider.health().reconnect_attempts
        assert waited / 300 <= attempts <= waited / 5, (waited, attempts)
    await env.start_broker()
    assert await _back(env, [provider]), "not back within five minutes"
    await provider.publish(queue, QueueMessage(body=b"x"))
    await inbox.until_finished(1)

    together = [await env.provider() for _ in range(4)]
    for provider in together:
        await provider.subscribe(queue, inbox)
    await env.stop_broker()
    await env.settle(0.2 * 3600)
    await env.start_broker()
    back = await _back(env, together)
    assert back, "not all came back within five minutes"
    assert len(set(back.values())) > 1, "all came back in the same instant: no jitter"
    await together[0].publish(queue, QueueMessage(body=b"x"))
    await inbox.until_finished(2)


@QUEUE_BEHAVIOURS.add("Q9", Can.VIRTUAL_TIME)
async def health_tells_of_a_stall(env: QueueEnvironment) -> None:
    """Connected, but what is held makes no progress for a long time: ``stalled``. Idle for as long is ``healthy``."""
    queue, busy, idle, gate = env.name(), await env.provider(), await env.provider(), Gate()
    inbox = env.inbox(gate)
    await idle.subscribe(env.name("idle"), env.inbox())
    await busy.subscribe(queue, inbox)
    await busy.publish(queue, QueueMessage(body=b"x"))
    await inbox.until(1)
    assert busy.health().health_state is HealthState.HEALTHY
    await env.settle(2 * 3600)
    assert busy.health().health_state is HealthState.STALLED
    assert busy.health().connected
    assert idle.health().health_state is HealthState.HEALTHY
    gate.open()
    await inbox.until_finished(1)
    await env.settle(1)
    assert busy.health().health_state is HealthState.HEALTHY
