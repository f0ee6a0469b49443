"""Q10: the destinations that are legal on every provider, and reach one and the same queue however they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from factflow_infra.errors import InvalidDestinationError
from factflow_infra.queue.messages import QueueMessage
from factflow_infra_testing.contracts.queue.capabilities import QueueCapability as Can
from factflow_infra_testing.contracts.queue.table import QUEUE_BEHAVIOURS
from factflow_infra_testing.contracts.raising import raises

if TYPE_CHECKING:
    from factflow_infra_testing.contracts.queue.environment import QueueEnvironment


@QUEUE_BEHAVIOURS.add("Q10")
async def bare_name_and_queue_prefix_are_the_same(env: QueueEnvironment) -> None:
    """``orders`` is ``/queue/orders``."""
    name, provider, inbox = env.name(), await env.provider(), env.inbox()
    await provider.subscribe(f"/queue/{name}", inbox)
    await provider.publish(name, QueueMessage(body=b"bare"))
    await provider.publish(f"/queue/{name}", QueueMessage(body=b"full"))
    await inbox.until_finished(2)
    assert inbox.bodies == [b"bare", b"full"]
    assert {str(m.destination).removeprefix("/queue/") for m in inbox.messages} == {name}


@QUEUE_BEHAVIOURS.add("Q10")
async def execution_scoped_names_work(env: QueueEnvironment) -> None:
    """``exec:<id>:name`` and ``/queue/<id>/name``, as an execution-scoping wrapper writes them; the slash is what AMQP
    names must encode.
    """
    name, provider = env.name(), await env.provider()
    for destination in (f"exec:8f14e45f:{name}", f"/queue/8f14e45f/{name}", f"/queue/exec:8f14e45f:{name}-2"):
        inbox = env.inbox()
        await provider.subscribe(destination, inbox)
        await provider.publish(destination, QueueMessage(body=destination.encode()))
        (message,) = await inbox.until_finished(1)
        assert message.body == destination.encode()
        assert str(message.destination).removeprefix("/queue/") == destination.removeprefix("/queue/")


@QUEUE_BEHAVIOURS.add("Q10")
async def different_names_are_different_queues(env: QueueEnvironment) -> None:
    """Names that a careless encoding would fold together: separators, dots, cases, what looks encoded already. All are
    published to before any is subscribed to: were two of them one queue, its first subscriber would get both messages.
    """
    stem, provider = env.name(), await env.provider()
    names = [
        f"{stem}.a.b",
        f"{stem}.a:b",
        f"/queue/{stem}.a/b",
        f"{stem}.a-b",
        f"{stem}.a_b",
        f"{stem}.A.B",
        f"{stem}.a%2Fb",
        f"{stem}.a..b",
    ]
    for name in names:
        await provider.publish(name, QueueMessage(body=name.encode()))
    inboxes = {name: env.inbox() for name in names}
    for name, inbox in inboxes.items():
        await provider.subscribe(name, inbox)
        await inbox.until_finished(1)
    await env.settle(10)
    assert {name: inbox.bodies for name, inbox in inboxes.items()} == {name: [name.encode()] for name in names}


@QUEUE_BEHAVIOURS.add("Q10", Can.TOPICS)
async def topic_names_may_be_scoped_too(env: QueueEnvironment) -> None:
    """``/topic/exec:<id>:name`` and ``/topic/<id>/name`` keep their subscriptions apart."""
    name, provider = env.name(), await env.provider()
    inboxes = {topic: env.inbox() for topic in (f"/topic/exec:1:{name}", f"/topic/1/{name}")}
    for topic, inbox in inboxes.items():
        await provider.subscribe(topic, inbox, subscription="exec:1:workers")
    for topic in inboxes:
        for _ in range(2):  # were both one topic, members that take turns would get one of each
            await provider.publish(topic, QueueMessage(body=topic.encode()))
    for topic, inbox in inboxes.items():
        for message in await inbox.until_finished(2):
            assert (message.destination, message.body) == (topic, topic.encode())
    await env.settle(10)
    assert [len(inbox.messages) for inbox in inboxes.values()] == [2, 2]


@QUEUE_BEHAVIOURS.add("Q10")
async def unusual_names_work_or_are_refused(env: QueueEnvironment) -> None:
    """Spaces, other scripts, punctuation, length: each name works, or is refused by ``publish`` and ``subscribe`` alike;
    none is accepted and then goes astray.
    """
    stem, provider = env.name(), await env.provider()
    for name in ("with space", "grün 中文 🚀", "a,b;c", "100%", "a\\b", "a+b=c&d", "#", "*", "x" * 150, "x" * 400):
        destination, inbox = f"{stem}{name}", env.inbox()
        message = QueueMessage(body=destination.encode())
        try:
            await provider.subscribe(destination, inbox)
        except InvalidDestinationError:
            with raises(InvalidDestinationError):
                await provider.publish(destination, message)
        else:
            await provider.publish(destination, message)
            (got,) = await inbox.until_finished(1)
            assert got.body == message.body
            assert str(got.destination).removeprefix("/queue/") == destination
