"""Q8: what ``stop`` waits for, gives back, cancels and refuses."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from factflow_infra.errors import PublishUnconfirmedError, QueueStoppedError
from factflow_infra.queue.messages import MessageStatus, QueueMessage, SubscriptionStatus
from factflow_infra_testing.contracts.queue.capabilities import QueueCapability as Can
from factflow_infra_testing.contracts.queue.inbox import Gate, never
from factflow_infra_testing.contracts.queue.table import QUEUE_BEHAVIOURS, ids, numbered
from factflow_infra_testing.contracts.raising import raises

if TYPE_CHECKING:
    from factflow_infra_testing.contracts.queue.environment import QueueEnvironment


@QUEUE_BEHAVIOURS.add("Q8")
async def stop_lets_running_handlers_finish(env: QueueEnvironment) -> None:
    """All three running handlers end in their own time, and their verdicts are applied: what they acked is gone. Nothing
    new is taken, neither what was held nor what is published meanwhile.
    """
    queue, provider, other, gate = env.name(), await env.provider(), await env.provider(), Gate()
    inbox = env.inbox(gate)
    await provider.subscribe(queue, inbox, concurrency=3, prefetch=5)
    sent = numbered(5)
    await provider.publish_batch(queue, sent)
    await inbox.until(3)
    stopping = asyncio.ensure_future(provider.stop(timeout=None))
    await env.settle(10)
    late = QueueMessage(body=b"late")
    await other.publish(queue, late)
    await env.settle(120)
    assert not stopping.done()
    assert len(inbox.messages) == 3
    gate.open()
    await env.within_patience(stopping, "stop() never returned")
    assert sorted(inbox.finished) == sorted(ids(sent[:3]))
    assert sorted(ids(await env.left_in(queue))) == sorted(ids([*sent[3:], late]))


@QUEUE_BEHAVIOURS.add("Q8")
async def stop_cancels_after_its_timeout_and_gives_back(env: QueueEnvironment) -> None:
    """A handler still running when the time is over is cancelled: its message and those held return to the broker,
    untouched: with ``max_retries=0`` none is dead-lettered.
    """
    queue, dlq, provider, inbox = env.name(), env.name("dlq"), await env.provider(), env.inbox(never)
    handling = env.handling(max_retries=0, dead_letter_queue=dlq)
    await provider.subscribe(queue, inbox, concurrency=2, prefetch=4, error_handling=handling)
    sent = numbered(4)
    await provider.publish_batch(queue, sent)
    await inbox.until(2)
    start, timeout = asyncio.get_running_loop().time(), env.seconds(20)
    await env.within_patience(provider.stop(timeout=timeout), "stop() never returned")
    took = asyncio.get_running_loop().time() - start
    assert took >= timeout * 0.98
    if env.has(Can.VIRTUAL_TIME):
        assert took <= timeout + 10
    assert sorted(ids(await env.left_in(queue))) == sorted(ids(sent))
    assert await env.left_in(dlq) == []


@QUEUE_BEHAVIOURS.add("Q8")
async def stop_at_once_waits_for_nobody(env: QueueEnvironment) -> None:
    """``stop(timeout=0)`` cancels what runs, and loses nothing."""
    queue, provider, inbox = env.name(), await env.provider(), env.inbox(never)
    await provider.subscribe(queue, inbox)
    sent = numbered(2)
    await provider.publish_batch(queue, sent)
    await inbox.until(1)
    await env.within_patience(provider.stop(timeout=0), "stop(timeout=0) never returned")
    assert sorted(ids(await env.left_in(queue))) == sorted(ids(sent))


@QUEUE_BEHAVIOURS.add("Q8")
async def returned_messages_are_available_at_once(env: QueueEnvironment) -> None:
    """What ``stop`` gave back is delivered to a waiting competitor. RabbitMQ's basic.cancel alone leaves prefetched
    messages locked until the channel closes.
    """
    queue, provider, heir, inbox, held = env.name(), await env.provider(), await env.provider(), env.inbox(), Gate()
    first = env.inbox(held)
    await provider.subscribe(queue, first, prefetch=10)
    sent = numbered(6)
    await provider.publish_batch(queue, sent)
    await first.until(1)
    await env.settle(5)
    await heir.subscribe(queue, inbox)
    held.open()
    await provider.stop()
    await inbox.until_finished(6 - len(first.finished))
    assert sorted(first.finished + inbox.ids) == sorted(ids(sent))


@QUEUE_BEHAVIOURS.add("Q8")
async def publishes_in_flight_finish(env: QueueEnvironment) -> None:
    """Publishes under way when ``stop`` is called are accepted, all of them, and arrive."""
    queue, provider = env.name(), await env.provider()
    await provider.publish(queue, QueueMessage(body=b"warm"))
    sent = numbered(20)
    calls = [asyncio.ensure_future(provider.publish(queue, message)) for message in sent]
    await asyncio.sleep(0)
    await env.within_patience(provider.stop(), "stop() never returned")
    outcomes = await env.within_patience(asyncio.gather(*calls, return_exceptions=True), "a publish never returned")
    assert outcomes == [MessageStatus.ACCEPTED] * len(sent)
    assert set(ids(sent)) <= set(ids(await env.left_in(queue))), "accepted, and lost"


@QUEUE_BEHAVIOURS.add("Q8", Can.STALL)
async def publish_that_outlasts_stop_is_unconfirmed(env: QueueEnvironment) -> None:
    """A publish still unanswered when the time of ``stop`` is over raises ``PublishUnconfirmedError``; ``stop`` ends."""
    queue, provider = env.name(), await env.provider()
    await provider.publish(queue, QueueMessage(body=b"first"))
    await env.stall(provider)
    call = asyncio.ensure_future(provider.publish(queue, QueueMessage(body=b"second")))
    await asyncio.sleep(0)
    await env.within_patience(provider.stop(timeout=env.seconds(1)), "stop() waits for a publish that never ends")
    with raises(PublishUnconfirmedError):
        await env.within_patience(call, "publish() outlived its provider")


@QUEUE_BEHAVIOURS.add("Q8", like=("gocdk/TestErrorOnSendToClosedTopic",))
async def calls_after_stop_raise(env: QueueEnvironment) -> None:
    """``publish``, ``publish_batch``, ``subscribe``, ``subscribe_batch``: ``QueueStoppedError``, not retryable, and
    nothing is sent.
    """
    queue, provider = env.name(), await env.provider()
    await provider.publish(queue, QueueMessage(body=b"before"))
    await provider.stop()
    message = QueueMessage(body=b"after")
    calls = (
        lambda: provider.publish(queue, message),
        lambda: provider.publish_batch(queue, [message]),
        lambda: provider.subscribe(queue, env.inbox()),
        lambda: provider.subscribe_batch(queue, max_messages=1, max_wait=1.0),
    )
    for call in calls:
        with raises(QueueStoppedError) as caught:
            await call()
        assert not caught.value.retryable
    assert [m.body for m in await env.left_in(queue)] == [b"before"]


@QUEUE_BEHAVIOURS.add("Q8")
async def stop_is_idempotent(env: QueueEnvironment) -> None:
    """Twice at once, again later, and on a provider that was never used."""
    queue, provider, inbox = env.name(), await env.provider(), env.inbox()
    subscription = await provider.subscribe(queue, inbox)
    await env.within_patience(asyncio.gather(provider.stop(), provider.stop()), "two stops at once hang")
    await provider.stop()
    await provider.stop(timeout=None)
    assert subscription.status is SubscriptionStatus.CLOSED
    await subscription.close()
    unused = await env.provider()
    await unused.stop()
    await unused.stop()
    with raises(QueueStoppedError):
        await unused.publish(queue, QueueMessage(body=b"x"))


@QUEUE_BEHAVIOURS.add("Q8")
async def second_stop_may_be_less_patient(env: QueueEnvironment) -> None:
    """While one ``stop`` waits without limit, another with a timeout ends the wait: a second Ctrl-C."""
    queue, provider, inbox = env.name(), await env.provider(), env.inbox(never)
    await provider.subscribe(queue, inbox)
    await provider.publish(queue, QueueMessage(body=b"x"))
    await inbox.until(1)
    patient = asyncio.ensure_future(provider.stop(timeout=None))
    await env.settle()
    assert not patient.done()
    await env.within_patience(provider.stop(timeout=env.seconds(1)), "the impatient stop() never returned")
    await env.within_patience(patient, "the patient stop() never returned")
    assert len(await env.left_in(queue)) == 1


@QUEUE_BEHAVIOURS.add("Q8")
async def stop_leaves_other_providers_alone(env: QueueEnvironment) -> None:
    """Two instances of a service: one stops, the other goes on."""
    queue, stopped, other, inbox = env.name(), await env.provider(), await env.provider(), env.inbox()
    await stopped.subscribe(queue, env.inbox())
    await other.subscribe(queue, inbox)
    await stopped.stop()
    await other.publish(queue, QueueMessage(body=b"x"))
    await inbox.until_finished(1)
    assert other.health().connected
    assert not stopped.health().connected
    assert stopped.health().active_subscriptions == 0


@QUEUE_BEHAVIOURS.add("Q8", Can.RESTART)
async def stop_works_without_a_broker(env: QueueEnvironment) -> None:
    """During an outage ``stop`` ends within bounds, with and without a running handler; no message is lost."""
    queue, busy, idle, gate = env.name(), await env.provider(), await env.provider(), Gate()
    inbox = env.inbox(gate)
    await busy.subscribe(queue, inbox)
    await idle.subscribe(env.name("idle"), env.inbox())
    message = QueueMessage(body=b"x")
    await busy.publish(queue, message)
    await inbox.until(1)
    await env.stop_broker()
    await env.settle(5)
    await env.within_patience(idle.stop(), "stop() of an idle provider hung without a broker")
    gate.open()
    await env.within_patience(busy.stop(timeout=env.seconds(5)), "stop() of a busy provider hung without a broker")
    await env.start_broker()
    assert ids(await env.take(queue, 1)) == [message.message_id]


@QUEUE_BEHAVIOURS.add("Q8")
async def stop_with_a_waiting_retry_keeps_it(env: QueueEnvironment) -> None:
    """``stop`` does not wait for retries that wait for their delay, and does not lose them."""
    queue, provider, inbox = env.name(), await env.provider(), env.inbox(MessageStatus.RETRY)
    await provider.subscribe(queue, inbox, error_handling=env.handling(retry_delay=45))
    message = QueueMessage(body=b"x")
    await provider.publish(queue, message)
    await inbox.until_finished(1)
    await env.settle(5)
    await env.within_patience(provider.stop(timeout=None), "stop() never returned")
    assert len(inbox.messages) == 1
    assert ids(await env.take(queue, 1)) == [message.message_id]
