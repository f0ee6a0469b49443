"""What the client library raises, as our errors: no cause is lost, nothing secret shows."""

from __future__ import annotations

import asyncio

import pytest
from aiormq import exceptions as amqp

from factflow_infra.errors import QueueAuthenticationError, QueueConnectionError, QueueError, TopologyMismatchError
from factflow_infra.queue.rabbitmq.failures import cancellations, connect_error, is_foreign, topology_error
from factflow_infra.queue.rabbitmq.handshake import Refusal


@pytest.mark.parametrize(
    ("error", "refusal", "kind", "words"),
    [
        (amqp.ProbableAuthenticationError("no"), None, QueueAuthenticationError, "login of user 'u'"),
        (amqp.InvalidFrameError("?"), Refusal(403, "ACCESS_REFUSED - x"), QueueAuthenticationError, "ACCESS_REFUSED"),
        (amqp.InvalidFrameError("?"), Refusal(530, "NOT_ALLOWED - x"), QueueAuthenticationError, "virtual host 'v'"),
        (amqp.InvalidFrameError("?"), Refusal(541, "INTERNAL_ERROR"), QueueConnectionError, "541"),
        (amqp.InvalidFrameError("?"), Refusal(320, "shutdown"), QueueConnectionError, "shutdown"),
        (TimeoutError(), None, QueueConnectionError, "in time"),
        (OSError(111, "refused"), None, QueueConnectionError, "refused"),
        (asyncio.CancelledError(), None, QueueConnectionError, "CancelledError"),
    ],
)
def test_connecting(error: BaseException, refusal: Refusal | None, kind: type[QueueError], words: str) -> None:
    ours = connect_error(error, endpoint="h:1", user="u", vhost="v", refusal=refusal)
    assert type(ours) is kind
    assert words in str(ours)
    assert "h:1" in str(ours)
    assert ours.retryable is (kind is QueueConnectionError)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            amqp.ChannelPreconditionFailed(
                "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received 'classic' "
                "but current is 'quorum'"
            ),
            TopologyMismatchError,
            "queue 'q' exists with other properties: x-queue-type is 'quorum', we declare 'classic'",
        ),
        (amqp.ChannelPreconditionFailed("invalid arg"), TopologyMismatchError, "queue 'q'.*invalid arg"),
        (amqp.ChannelAccessRefused("ACCESS_REFUSED"), QueueAuthenticationError, "no permission for queue 'q'"),
        (amqp.ChannelLockedResource("RESOURCE_LOCKED"), QueueConnectionError, "another connection"),
        (amqp.AMQPConnectionError("gone"), QueueConnectionError, "gone"),
        (asyncio.CancelledError(), QueueConnectionError, "queue 'q'"),
    ],
)
def test_topology(error: BaseException, kind: type[QueueError], words: str) -> None:
    ours = topology_error(error, "queue 'q'")
    assert type(ours) is kind
    with pytest.raises(kind, match=words):
        raise ours


@pytest.mark.asyncio
async def test_a_cancellation_is_foreign_unless_this_task_was_asked_to_stop() -> None:
    seen: list[bool] = []

    async def wait(future: asyncio.Future[None]) -> None:
        before = cancellations()
        try:
            await future
        except asyncio.CancelledError as error:
            seen.append(is_foreign(error, before))

    loop = asyncio.get_running_loop()
    inner, outer = loop.create_future(), loop.create_future()
    by_library, by_owner = asyncio.create_task(wait(inner)), asyncio.create_task(wait(outer))
    await asyncio.sleep(0)
    inner.cancel()
    by_owner.cancel()
    await asyncio.gather(by_library, by_owner)
    assert seen == [True, False]


@pytest.mark.parametrize(
    ("error", "foreign"),
    [
        (amqp.ChannelClosed(1, "x"), True),
        (amqp.ChannelInvalidStateError("x"), True),
        (ConnectionResetError(), True),
        (Exception(), True),
        (ValueError(), False),
        (KeyError(), False),
    ],
)
def test_foreign_errors(error: Exception, foreign: bool) -> None:
    assert is_foreign(error, 0) is foreign
