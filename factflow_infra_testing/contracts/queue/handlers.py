"""Q11: what a handler may do without wedging ``stop`` or losing its message."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any, cast

from factflow_infra.queue.messages import MessageStatus, QueueMessage
from factflow_infra_testing.contracts.queue.inbox import Gate, fails, never
from factflow_infra_testing.contracts.queue.table import QUEUE_BEHAVIOURS, ids, numbered

if TYPE_CHECKING:
    from factflow_infra.protocols import MessageHandler
    from factflow_infra_testing.contracts.queue.environment import QueueEnvironment


class Abort(BaseException):
    """No ``Exception``: what a careless ``except Exception`` lets through."""


@QUEUE_BEHAVIOURS.add("Q11")
async def handler_that_never_ends_does_not_wedge_stop(env: QueueEnvironment) -> None:
    """``stop`` ends soon after its timeout, and the message is there for another provider."""
    queue, provider, inbox = env.name(), await env.provider(), env.inbox(never)
    await provider.subscribe(queue, inbox)
    message = QueueMessage(body=b"x")
    await provider.publish(queue, message)
    await inbox.until(1)
    await env.within_patience(provider.stop(timeout=env.seconds(1)), "stop() waits for a handler that never ends")
    assert ids(await env.take(queue, 1)) == [message.message_id]


@QUEUE_BEHAVIOURS.add("Q11")
async def handler_that_swallows_cancellation_does_not_wedge_stop(env: QueueEnvironment) -> None:
    """A handler that catches ``CancelledError`` and goes on: ``stop`` ends all the same, and the message is not lost."""
    queue, provider, gate = env.name(), await env.provider(), Gate()
    swallowed: list[str] = []

    async def stubborn(message: QueueMessage) -> MessageStatus | None:
        while True:
            try:
                return await gate(message)
            except asyncio.CancelledError:
                swallowed.append(message.message_id)

    inbox = env.inbox(stubborn)
    await provider.subscribe(queue, inbox)
    message = QueueMessage(body=b"x")
    await provider.publish(queue, message)
    await inbox.until(1)
    try:
        await env.within_patience(provider.stop(timeout=env.seconds(1)), "stop() waits for a handler that will not go")
        assert swallowed
        assert ids(await env.take(queue, 1)) == [message.message_id]
    finally:
        gate.open()
        await asyncio.sleep(0)


@QUEUE_BEHAVIOURS.add("Q11")
async def handler_whose_thread_blocks_does_not_wedge_stop(env: QueueEnvironment) -> None:
    """A handler waits for a thread that no cancellation reaches: ``stop`` ends all the same, and the message is not lost."""
    queue, provider, released = env.name(), await env.provider(), threading.Event()

    async def handler(message: QueueMessage) -> None:  # noqa: ARG001 - a handler
        await asyncio.to_thread(released.wait)

    inbox = env.inbox(handler)
    await provider.subscribe(queue, inbox)
    message = QueueMessage(body=b"x")
    await provider.publish(queue, message)
    await inbox.until(1)
    try:
        await env.within_patience(provider.stop(timeout=env.seconds(1)), "stop() waits for a thread that never ends")
        assert ids(await env.take(queue, 1)) == [message.message_id]
    finally:
        released.set()


@QUEUE_BEHAVIOURS.add("Q11")
async def handler_that_holds_up_the_event_loop_loses_nothing(env: QueueEnvironment) -> None:
    """A handler blocks the thread of the event loop, longer than heartbeats may bear, and fails: its message comes again,
    those behind it are handled, and ``stop`` works.
    """
    queue, provider = env.name(), await env.provider()
    held: list[str] = []

    async def handler(message: QueueMessage) -> MessageStatus:
        if held:
            return MessageStatus.ACK
        held.append(message.message_id)
        time.sleep(env.seconds(150))  # noqa: ASYNC251 - the mistake
        return MessageStatus.RETRY

    inbox = env.inbox(handler)
    await provider.subscribe(queue, inbox, error_handling=env.handling(retry_delay=0))
    sent = numbered(3)
    await provider.publish_batch(queue, sent)
    await inbox.until_seen(set(ids(sent)))
    await env.eventually(
        lambda: inbox.ids.count(held[0]) > 1, "the message of the handler that blocked did not come again"
    )
    await env.eventually(lambda: not inbox.running, "a handler never ended")
    await env.within_patience(provider.stop(), "stop() never returned")
    assert await env.left_in(queue) == []


@QUEUE_BEHAVIOURS.add("Q11")
async def base_exceptions_lose_nothing(env: QueueEnvironment) -> None:
    """A handler raises what is no ``Exception``: its message comes again, other messages are handled, ``stop`` works."""
    kinds: dict[bytes, type[BaseException]] = {
        b"abort": Abort,
        b"generator-exit": GeneratorExit,
        b"stop-iteration": StopAsyncIteration,
        b"timeout": TimeoutError,
    }
    queue, provider = env.name(), await env.provider()
    handlers = {body: fails(1, error=kind) for body, kind in kinds.items()}

    async def handler(message: QueueMessage) -> MessageStatus | None:
        return await handlers[message.body](message) if message.body in handlers else None

    inbox = env.inbox(handler)
    await provider.subscribe(queue, inbox, error_handling=env.handling())
    for body in (*kinds, b"plain"):
        await provider.publish(queue, QueueMessage(body=body))
    await inbox.until_finished(2 * len(kinds) + 1)
    assert all(inbox.bodies.count(body) == 2 for body in kinds), inbox.bodies
    await env.within_patience(provider.stop(), "stop() never returned")
    assert await env.left_in(queue) == []


@QUEUE_BEHAVIOURS.add("Q11")
async def handler_that_cancels_itself_stops_nothing(env: QueueEnvironment) -> None:
    """A handler's task is cancelled from within: the message comes again, and the subscription goes on."""
    queue, provider = env.name(), await env.provider()
    done: list[str] = []

    async def handler(message: QueueMessage) -> None:
        if message.body == b"self" and not done:
            done.append(message.message_id)
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

    inbox = env.inbox(handler)
    await provider.subscribe(queue, inbox)
    await provider.publish(queue, QueueMessage(body=b"self"))
    await provider.publish(queue, QueueMessage(body=b"next"))
    await inbox.until_finished(3)
    assert sorted(inbox.bodies) == [b"next", b"self", b"self"]


@QUEUE_BEHAVIOURS.add("Q11")
async def handler_may_stop_its_own_provider(env: QueueEnvironment) -> None:
    """A message that says "shut down": the handler starts ``stop`` and returns; ``stop`` ends, the message is acked."""
    queue, provider = env.name(), await env.provider()
    stops: list[asyncio.Task[None]] = []

    async def handler(message: QueueMessage) -> None:  # noqa: ARG001 - a handler
        stops.append(asyncio.ensure_future(provider.stop()))
        await asyncio.sleep(0)

    inbox = env.inbox(handler)
    await provider.subscribe(queue, inbox)
    await provider.publish(queue, QueueMessage(body=b"shut down"))
    await inbox.until_finished(1)
    await env.within_patience(stops[0], "stop() called by a handler never returned")
    assert await env.left_in(queue) == []


@QUEUE_BEHAVIOURS.add("Q11")
async def handler_may_use_its_own_provider(env: QueueEnvironment) -> None:
    """A handler publishes and subscribes on the provider that called it."""
    source, target, provider = env.name("in"), env.name("out"), await env.provider()
    out = env.inbox()

    async def handler(message: QueueMessage) -> None:
        await provider.subscribe(target, out)
        await provider.publish(target, QueueMessage(body=message.body + b"!"))

    await provider.subscribe(source, env.inbox(handler))
    await provider.publish(source, QueueMessage(body=b"hello"))
    await out.until_finished(1)
    assert out.bodies == [b"hello!"]


@QUEUE_BEHAVIOURS.add("Q11")
async def junk_from_a_handler_is_no_verdict(env: QueueEnvironment) -> None:
    """A handler returns what is no verdict (``ACCEPTED``, a string, ``False``): the message is not acked for it, but comes
    again or is dead-lettered; and the next is handled.
    """
    queue, dlq, provider = env.name(), env.name("dlq"), await env.provider()
    junk: dict[bytes, object] = {b"accepted": MessageStatus.ACCEPTED, b"text": "yes", b"false": False}

    async def handler(message: QueueMessage) -> Any:
        return junk.get(message.body)

    inbox = env.inbox(handler)
    await provider.subscribe(queue, inbox, error_handling=env.handling(max_retries=0, dead_letter_queue=dlq))
    for body in (*junk, b"good"):
        await provider.publish(queue, QueueMessage(body=body))
    letters = await env.dead_letters(dlq, len(junk))
    assert {letter.body for letter in letters} == set(junk)
    await inbox.until_finished(len(junk) + 1)
    assert b"good" in inbox.bodies


@QUEUE_BEHAVIOURS.add("Q11")
async def handler_that_is_not_asynchronous_loses_nothing(env: QueueEnvironment) -> None:
    """A plain function given as the handler is refused by ``subscribe``, or its messages are retried and dead-lettered:
    they are not acked.
    """
    queue, dlq, provider = env.name(), env.name("dlq"), await env.provider()
    message = QueueMessage(body=b"x")
    await provider.publish(queue, message)

    def handler(_message: QueueMessage) -> None:
        return None

    try:
        await provider.subscribe(
            queue,
            cast("MessageHandler", handler),
            error_handling=env.handling(max_retries=0, dead_letter_queue=dlq),
        )
    except ValueError:
        assert ids(await env.take(queue, 1)) == [message.message_id]
    else:
        assert ids(await env.dead_letters(dlq)) == [message.message_id]


@QUEUE_BEHAVIOURS.add("Q11", like=("watermill/TestMessageCtx",))
async def running_handlers_are_cancelled_when_stop_runs_out_of_time(env: QueueEnvironment) -> None:
    """A handler is not cancelled while it may still finish, and is when ``stop`` has waited for its timeout."""
    queue, provider = env.name(), await env.provider()
    cancelled_at: list[float] = []
    loop = asyncio.get_running_loop()

    async def handler(message: QueueMessage) -> None:
        try:
            await never(message)
        except asyncio.CancelledError:
            cancelled_at.append(loop.time())
            raise

    inbox = env.inbox(handler)
    await provider.subscribe(queue, inbox)
    await provider.publish(queue, QueueMessage(body=b"x"))
    await inbox.until(1)
    await env.settle()
    assert cancelled_at == []
    start, timeout = loop.time(), env.seconds(10)
    await provider.stop(timeout=timeout)
    assert len(cancelled_at) == 1
    assert cancelled_at[0] - start >= timeout * 0.98
