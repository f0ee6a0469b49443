"""Publishing: bad input, truth about the outcome, batches, and which event loop a provider belongs to."""

from __future__ import annotations

import asyncio
import math

import pytest
from queue_fakes import QUICK, FakeTransport, provider_on, turns, until

from factflow_infra.errors import (
    InvalidDestinationError,
    InvalidMessageError,
    InvalidSubscriptionError,
    PublishRefusedError,
    PublishUnconfirmedError,
    QueueAuthenticationError,
    QueueConnectionError,
    QueueError,
    QueueStoppedError,
)
from factflow_infra.queue.engine import QueueProvider
from factflow_infra.queue.forks import process
from factflow_infra.queue.messages import BatchStatus, ErrorHandling, MessageStatus, QueueMessage
from factflow_infra.queue.naming import AmqpNamingStrategy
from factflow_infra.queue.options import EngineOptions

pytestmark = pytest.mark.asyncio


def message(text="x", **fields):
    return QueueMessage(text.encode(), message_id=text, **fields)


async def handler(_m):
    return None


BIG = message("big", headers={"k": "v" * 40})

BAD_CALLS = [
    # what is called, its error class, a part of the message
    (lambda p: p.publish("", message()), InvalidDestinationError, "''"),
    (lambda p: p.publish(None, message()), InvalidDestinationError, "got NoneType: None"),
    (lambda p: p.publish(["q"], message()), InvalidDestinationError, "got list: ['q']"),
    (lambda p: p.publish("/queue/", message()), InvalidDestinationError, "'/queue/' has an empty name"),
    (lambda p: p.publish("/other/x", message()), InvalidDestinationError, "'/other/x'"),
    (lambda p: p.publish("a\x00b", message()), InvalidDestinationError, "control character '\\x00'"),
    (lambda p: p.publish("a\nb", message()), InvalidDestinationError, "control character '\\n'"),
    (lambda p: p.publish("a\ud800", message()), InvalidDestinationError, "lone surrogate"),
    (lambda p: p.publish("a//b", message()), InvalidDestinationError, "empty part"),
    (lambda p: p.publish("n" * 300, message()), InvalidDestinationError, "too long for AMQP"),
    (lambda p: p.publish("n" * 3000, message()), InvalidDestinationError, "at most 1024"),
    (lambda p: p.publish("q", b"x"), InvalidMessageError, "got bytes"),
    (lambda p: p.publish("q", {"n": 1}), InvalidMessageError, "from_json"),
    (lambda p: p.publish("q", BIG), InvalidMessageError, "'big' has 71 bytes of body, headers and ids; at most"),
    (lambda p: p.publish("q", message("i" * 30)), InvalidMessageError, "has 84 bytes of body, headers and ids"),
    (lambda p: p.publish("q", message(correlation_id="c" * 30)), InvalidMessageError, "has 56 bytes"),
    (lambda p: p.publish("q", message(ordering_key="ü" * 10)), InvalidMessageError, "has 46 bytes"),
    (lambda p: p.publish("q", message(content_type="t" * 50)), InvalidMessageError, "has 52 bytes"),
    (lambda p: p.publish("q", message(), delay=-1), InvalidMessageError, "got -1"),
    (lambda p: p.publish("q", message(), delay=math.nan), InvalidMessageError, "got nan"),
    (lambda p: p.publish("q", message(), delay=math.inf), InvalidMessageError, "got inf"),
    (lambda p: p.publish("q", message(), delay=False), InvalidMessageError, "got False"),
    (lambda p: p.publish("q", message(), delay="1"), InvalidMessageError, "got '1'"),
    (lambda p: p.publish_batch("q", message()), InvalidMessageError, "got QueueMessage"),
    (lambda p: p.publish_batch("q", None), InvalidMessageError, "got NoneType"),
    (lambda p: p.publish_batch("q", "abc"), InvalidMessageError, "got str"),
    (lambda p: p.publish_batch("q", iter([message()])), InvalidMessageError, "such as a list"),
    (lambda p: p.publish_batch("q", [message(), "x"]), InvalidMessageError, "messages[1]: message must be"),
    (lambda p: p.publish_batch("q", [message(), BIG]), InvalidMessageError, "messages[1]: message 'big'"),
    (lambda p: p.publish_batch("/queue/", []), InvalidDestinationError, "'/queue/'"),
    (lambda p: p.subscribe("/topic/", handler), InvalidDestinationError, "'/topic/'"),
    (lambda p: p.subscribe("q", "handler"), InvalidSubscriptionError, "got str: 'handler'"),
    (lambda p: p.subscribe("q", None), InvalidSubscriptionError, "handler must be"),
    (lambda p: p.subscribe("q", handler, subscription=""), InvalidDestinationError, "subscription ''"),
    (lambda p: p.subscribe("q", handler, subscription=7), InvalidDestinationError, "got int: 7"),
    (lambda p: p.subscribe("/topic/t", handler, subscription="s" * 250), InvalidDestinationError, "too long"),
    (lambda p: p.subscribe("q", handler, concurrency=0), InvalidSubscriptionError, "concurrency"),
    (lambda p: p.subscribe("q", handler, concurrency=True), InvalidSubscriptionError, "got True"),
    (lambda p: p.subscribe("q", handler, prefetch=1.5), InvalidSubscriptionError, "got 1.5"),
    (lambda p: p.subscribe("q", handler, prefetch=65_536), InvalidSubscriptionError, "at most 65535"),
    (lambda p: p.subscribe("q", handler, error_handling=None), InvalidSubscriptionError, "got NoneType"),
    (
        lambda p: p.subscribe("q", handler, error_handling=ErrorHandling(dead_letter_queue="/topic/d")),
        InvalidDestinationError,
        "'/topic/d'",
    ),
    (
        lambda p: p.subscribe("q", handler, error_handling=ErrorHandling(dead_letter_queue="a\tb")),
        InvalidDestinationError,
        "'a\\tb'",
    ),
    (
        lambda p: p.subscribe("q", handler, error_handling=ErrorHandling(dead_letter_queue="")),
        InvalidDestinationError,
        "empty name",
    ),
    (lambda p: p.subscribe_batch("q", max_messages=0, max_wait=1), InvalidSubscriptionError, "max_messages"),
    (lambda p: p.subscribe_batch("q", max_messages=1, max_wait=math.nan), InvalidSubscriptionError, "max_wait"),
    (lambda p: p.subscribe_batch("q", max_messages=1, max_wait=-1), InvalidSubscriptionError, "max_wait"),
    (lambda p: p.stop(timeout=-1), InvalidSubscriptionError, "timeout"),
    (lambda p: p.stop(timeout="soon"), InvalidSubscriptionError, "timeout"),
]


@pytest.mark.parametrize(("call", "error", "part"), BAD_CALLS)
async def test_bad_input_raises_before_any_io(call, error, part):
    transport = FakeTransport()
    provider = provider_on(transport, EngineOptions(max_message_bytes=40))
    with pytest.raises(error) as caught:
        await call(provider)
    assert part in str(caught.value)
    assert caught.value.retryable is False
    assert isinstance(caught.value, ValueError)
    assert (transport.connects, transport.published, transport.consumers) == (0, [], [])
    await provider.publish("q", message())  # and nothing is spoilt


async def test_what_a_delivery_left_on_a_message_is_not_sent():
    transport = FakeTransport()
    dead = message("a", headers={"k": "v"}).changed(
        headers={"k": "v", "factflow-dead-letter-reason": "rejected"},
        destination="dlq",
        delivery_count=4,
        redelivered=True,
    )
    async with provider_on(transport) as provider:
        await provider.publish("q", dead)
    [sent] = transport.waiting("q")
    assert sent.message == message("a", headers={"k": "v"}, timestamp=dead.timestamp)
    assert (sent.attempts, sent.deliveries) == (0, 0)


async def test_concurrent_callers_share_one_connection_attempt():
    transport = FakeTransport()
    gate = asyncio.Event()
    transport.connect_hook = gate.wait
    provider = provider_on(transport)
    calls = [asyncio.create_task(provider.publish("q", message(str(n)))) for n in range(5)]
    await turns()
    calls[0].cancel()
    gate.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)  # alone: the attempt is the others' too
    assert results[1:] == [MessageStatus.ACCEPTED] * 4
    assert transport.connects == 1
    await provider.stop()


@pytest.mark.parametrize("error", [QueueConnectionError("no route"), QueueAuthenticationError("wrong password")])
async def test_a_connection_that_fails_is_told_to_each_caller(error):
    transport = FakeTransport()
    transport.refuse_connect = error
    provider = provider_on(transport)
    results = await asyncio.gather(
        provider.publish("q", message("a")),
        provider.subscribe("q", handler),
        provider.publish_batch("q", [message("b")]),
        provider.__aenter__(),
        return_exceptions=True,
    )
    assert [type(result) for result in results[:2]] == [type(error)] * 2
    assert results[2].status is BatchStatus.FAILED
    assert isinstance(results[3], type(error))
    assert results[0] is not results[1]
    assert results[0].retryable is error.retryable
    assert not transport.published
    assert not provider.health().reconnect_in_progress
    transport.refuse_connect = None
    await provider.publish("q", message("c"))
    await provider.stop()


async def test_a_connection_attempt_that_hangs_ends():
    transport = FakeTransport()
    transport.connect_hook = asyncio.Event().wait
    provider = provider_on(transport, EngineOptions(connect_timeout=0.01))
    with pytest.raises(QueueConnectionError, match=r"no connection within 0\.01 s"):
        await provider.publish("q", message())
    await provider.stop()


async def test_no_confirmation_in_time_is_unconfirmed():
    transport = FakeTransport()
    hanging = asyncio.Event()

    async def hang(_address, envelope):
        if envelope.message.message_id != "quick":
            await hanging.wait()

    transport.publish_hook = hang
    provider = provider_on(transport, EngineOptions(publish_timeout=0.02))
    started = asyncio.get_running_loop().time()
    results = await asyncio.gather(
        *(provider.publish("q", message(name)) for name in ("a", "quick", "b")), return_exceptions=True
    )
    assert asyncio.get_running_loop().time() - started < 1
    assert results[1] is MessageStatus.ACCEPTED
    for result, name in ((results[0], "a"), (results[2], "b")):
        assert isinstance(result, PublishUnconfirmedError)
        assert f"message '{name}' to 'q'" in str(result)
        assert "within 0.02 s" in str(result)
    await provider.publish("q", message("quick"))
    await provider.stop()


async def test_the_callers_own_cancellation_propagates_and_a_foreign_one_does_not():
    transport = FakeTransport()
    provider = provider_on(transport)

    async def hang(_address, _envelope):
        await asyncio.Event().wait()

    async def cancel(_address, _envelope):
        raise asyncio.CancelledError

    transport.publish_hook = hang
    call = asyncio.create_task(provider.publish("q", message()))
    await turns()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    transport.publish_hook = cancel
    with pytest.raises(PublishUnconfirmedError, match="by itself"):
        await provider.publish("q", message())
    assert asyncio.current_task().cancelling() == 0
    await provider.stop()


async def test_stop_waits_for_publishes_then_ends_them_unconfirmed():
    transport = FakeTransport()
    gate = asyncio.Event()

    async def hang(_address, envelope):
        if envelope.message.message_id == "slow":
            await gate.wait()
        else:
            await asyncio.Event().wait()

    transport.publish_hook = hang
    provider = provider_on(transport)
    after = []

    async def publish(name):
        try:
            return await provider.publish("q", message(name))
        finally:
            await asyncio.sleep(0)  # the task that was not cancelled goes on
            after.append(name)

    slow, never = asyncio.create_task(publish("slow")), asyncio.create_task(publish("never"))
    await turns()
    stopping = asyncio.create_task(provider.stop(timeout=None))
    await turns()
    gate.set()
    assert await slow is MessageStatus.ACCEPTED
    assert not stopping.done()
    await asyncio.gather(provider.stop(timeout=0), stopping)
    with pytest.raises(PublishUnconfirmedError, match="was stopped"):
        await never
    assert after == ["slow", "never"]
    assert never.cancelling() == 0


async def test_stop_ends_what_waits_for_a_connection():
    transport = FakeTransport()
    transport.connect_hook = asyncio.Event().wait
    provider = provider_on(transport)
    call = asyncio.create_task(provider.publish("q", message()))
    await turns()
    await provider.stop(timeout=0)
    with pytest.raises(QueueStoppedError):
        await call
    assert not transport.published


async def test_a_provider_that_was_never_used_can_be_stopped():
    transport = FakeTransport()
    provider = provider_on(transport)
    assert provider.health().connected is False
    await provider.stop()
    await provider.stop()
    with pytest.raises(QueueStoppedError, match="make a new one"):
        await provider.publish("q", message())
    assert transport.connects == 0


async def test_publishing_while_disconnected_connects_at_once_or_raises():
    transport = FakeTransport()
    provider = QueueProvider(transport, AmqpNamingStrategy(), EngineOptions(reconnect_base=1000, reconnect_cap=1000))
    await provider.publish("q", message("a"))
    transport.refuse_connect = QueueConnectionError("down")
    transport.lose()
    with pytest.raises(QueueConnectionError, match="down"):
        await provider.publish("q", message("b"))
    transport.refuse_connect = None
    await provider.publish("q", message("c"))
    assert [e.message.message_id for e in transport.waiting("q")] == ["a", "c"]
    await provider.stop()


# Batches


async def test_a_batch_keeps_its_order_and_bounds_what_is_in_flight():
    transport = FakeTransport()
    in_flight = most = 0

    async def slow(_address, envelope):
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        await turns(int(envelope.message.body) % 4)
        in_flight -= 1

    transport.publish_hook = slow
    provider = provider_on(transport, EngineOptions(batch_window=7))
    result = await provider.publish_batch("q", tuple(message(str(n)) for n in range(50)))
    assert result.status is BatchStatus.COMPLETE
    assert [r.message_id for r in result.results] == [str(n) for n in range(50)]
    assert {r.status for r in result.results} == {MessageStatus.ACCEPTED}
    assert [e.message.message_id for e in transport.sent_to("q")] == [str(n) for n in range(50)]
    assert most == 7
    await provider.stop()


async def test_a_batch_tells_of_each_message():
    transport = FakeTransport()
    refusal = PublishRefusedError("full")

    async def refuse(_address, envelope):
        if int(envelope.message.body) % 2:
            raise refusal

    transport.publish_hook = refuse
    async with provider_on(transport) as provider:
        result = await provider.publish_batch("q", [message(str(n)) for n in range(4)])
        assert result.status is BatchStatus.PARTIAL
        assert [r.error for r in result.results] == [None, refusal, None, refusal]
        failed = await provider.publish_batch("q", [message("1")])
        assert failed.status is BatchStatus.FAILED
        empty = await provider.publish_batch("q", [])
        assert (empty.status, empty.results) == (BatchStatus.COMPLETE, ())


async def test_a_batch_can_be_cancelled_and_stopped():
    transport = FakeTransport()

    async def hang(_address, _envelope):
        await asyncio.Event().wait()

    transport.publish_hook = hang
    provider = provider_on(transport, EngineOptions(batch_window=2))
    call = asyncio.create_task(provider.publish_batch("q", [message(str(n)) for n in range(4)]))
    await turns()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    call = asyncio.create_task(provider.publish_batch("q", [message(str(n)) for n in range(4)]))
    await turns()
    await provider.stop(timeout=0)
    result = await call
    assert [type(r.error) for r in result.results] == [PublishUnconfirmedError] * 2 + [QueueStoppedError] * 2
    assert len(transport.published) == 4


# Event loops


async def test_a_provider_belongs_to_one_event_loop():
    def elsewhere():
        asyncio.run(provider.publish("q", message()))

    provider = provider_on(FakeTransport(), QUICK)
    await asyncio.to_thread(elsewhere)
    for call in (lambda: provider.publish("q", message()), provider.stop, provider.__aenter__):
        with pytest.raises(QueueError, match="another event loop"):
            await call()


async def test_the_timer_of_publishes_does_not_live_on():
    transport = FakeTransport()
    provider = provider_on(transport, EngineOptions(publish_timeout=0.01))
    await provider.publish("q", message())
    await until(lambda: provider._publisher._timer is None)
    await provider.stop()


async def test_a_provider_does_not_live_on_in_a_fork(monkeypatch):
    provider = provider_on(FakeTransport(), QUICK)
    await provider.publish("q", message())
    with monkeypatch.context() as child:
        child.setattr(process, "forks", process.forks + 1)  # the same event loop, as a child that was forked may use
        for call in (lambda: provider.publish("q", message()), provider.stop, provider.__aenter__):
            with pytest.raises(QueueError, match="before a fork"):
                await call()
    await provider.stop()
