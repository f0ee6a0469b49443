"""Losing connections and consumers, coming back, and what health says meanwhile."""

from __future__ import annotations

import asyncio

import pytest
from queue_fakes import QUICK, FakeConsumer, FakeDelivery, FakeTransport, envelope, provider_on, turns, until

from factflow_infra.errors import (
    QueueAuthenticationError,
    QueueConnectionError,
    QueueError,
    SettingsError,
    TopologyMismatchError,
)
from factflow_infra.queue.backoff import Backoff
from factflow_infra.queue.engine import QueueProvider
from factflow_infra.queue.messages import ErrorHandling, QueueMessage
from factflow_infra.queue.naming import AmqpNamingStrategy
from factflow_infra.queue.options import EngineOptions


def message(text="x", **fields):
    return QueueMessage(text.encode(), message_id=text, **fields)


async def ack(_m):
    return None


@pytest.mark.asyncio
async def test_every_subscription_comes_back_and_health_tells():
    transport = FakeTransport()
    provider = provider_on(transport)
    assert provider.health().health_state == "degraded"
    assert provider.health().last_message_age_seconds is None
    await provider.subscribe("a", ack, subscription="group")
    await provider.subscribe("b", ack, subscription="group")
    await provider.subscribe("/topic/t", ack)
    await provider.subscribe_batch("c", max_messages=1, max_wait=0)
    health = provider.health()
    assert (health.connected, health.health_state, health.active_subscriptions) == (True, "healthy", 4)
    assert list(health.subscription_states)[:2] == ["group", "group #2"]
    transport.refuse_connect = QueueAuthenticationError("not now")  # a broker that starts up answers in many ways
    transport.lose()
    await until(lambda: provider.health().reconnect_attempts >= 3)
    health = provider.health()
    assert (health.connected, health.reconnect_in_progress, health.health_state) == (False, True, "reconnecting")
    assert set(health.subscription_states.values()) == {"reconnecting"}
    assert health.active_subscriptions == 0
    transport.refuse_connect = None
    await until(lambda: provider.health().active_subscriptions == 4)
    assert len(transport.consumers) == 4
    assert provider.health().reconnect_attempts == 0
    await provider.publish("a", message())
    await until(lambda: transport.count("acked", "x"))
    assert provider.health().last_message_age_seconds >= 0
    await provider.stop()
    assert provider.health().connected is False
    assert provider.health().last_message_age_seconds >= 0


@pytest.mark.asyncio
async def test_stalled_is_held_messages_without_progress():
    transport = FakeTransport()
    gate = asyncio.Event()

    async def handler(_m):
        await gate.wait()

    provider = QueueProvider(transport, AmqpNamingStrategy(), EngineOptions(stall_after=0.001, cancel_grace=0.01))
    await provider.subscribe("q", handler)
    assert provider.health().health_state == "healthy"
    await provider.publish("q", message())
    await until(lambda: provider.health().health_state == "stalled")
    gate.set()
    await until(lambda: provider.health().health_state == "healthy")
    await provider.stop()


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [TopologyMismatchError("other properties"), QueueConnectionError("channel")])
async def test_a_subscribe_that_raises_leaves_nothing_behind(error):
    transport = FakeTransport()

    async def refuse(_address):
        raise error

    transport.consume_hook = refuse
    async with provider_on(transport) as provider:
        with pytest.raises(type(error)):
            await provider.subscribe("q", ack)
        with pytest.raises(type(error)):
            await provider.subscribe_batch("q", max_messages=1, max_wait=0)
        transport.consume_hook = None
        assert provider.health().subscription_states == {}
        transport.lose()
        await until(lambda: transport.connects == 2)
        await turns()
        assert transport.consumers == []


@pytest.mark.asyncio
async def test_a_subscribe_that_is_cancelled_or_hangs_leaves_nothing_behind():
    transport = FakeTransport()

    async def hang(_address):
        await asyncio.Event().wait()

    transport.consume_hook = hang
    provider = provider_on(transport, EngineOptions(connect_timeout=0.01))
    call = asyncio.create_task(provider.subscribe("q", ack))
    await until(lambda: transport.connects)
    await turns()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    with pytest.raises(QueueConnectionError, match="could not be consumed from within"):
        await provider.subscribe("q", ack)
    assert provider.health().subscription_states == {}
    await provider.stop()


@pytest.mark.asyncio
async def test_a_consumer_that_the_broker_ends_is_consumed_again():
    transport = FakeTransport()
    gate = asyncio.Event()
    seen = []

    async def handler(m):
        seen.append(m.message_id)
        if len(seen) == 1:
            await gate.wait()

    async with provider_on(transport) as provider:
        await provider.subscribe("q", handler)
        for name in "ab":
            await provider.publish("q", message(name))
        await turns()
        consumer = transport.consumers[0]
        consumer.end()
        consumer.on_cancelled(QueueError("the queue was deleted"))
        assert provider.health().health_state == "degraded"
        gate.set()
        await until(lambda: transport.count("acked", "b"))
        assert seen == ["a", "a", "b"]
        assert transport.count("acked", "a") == 1
        assert transport.connects == 1


@pytest.mark.asyncio
async def test_a_failed_ack_ends_the_consumer_so_that_nothing_stays_locked():
    transport = FakeTransport()
    failures = [QueueError("double ack")]

    async def fail(_delivery):
        if failures:
            raise failures.pop()

    transport.ack_hook = fail
    async with provider_on(transport) as provider:
        await provider.subscribe("q", ack, prefetch=1)
        for name in "ab":
            await provider.publish("q", message(name))
        await until(lambda: transport.count("acked", "b"))
        assert transport.count("acked", "a") == 1
        assert len(transport.consumers) == 1


@pytest.mark.asyncio
async def test_a_named_topic_subscription_is_durable_and_a_retry_reaches_it_alone():
    transport = FakeTransport()
    seen = []

    def handler(name):
        async def handle(m):
            seen.append((name, m.delivery_count))
            if name == "one" and m.delivery_count == 1:
                raise ValueError

        return handle

    async with provider_on(transport) as provider:
        await provider.subscribe(
            "/topic/t", handler("one"), subscription="one", error_handling=ErrorHandling(retry_delay_seconds=0)
        )
        await provider.subscribe("/topic/t", handler("two"))
        named, unnamed = (consumer.address for consumer in transport.consumers)
        assert (named.subscription, named.durable) == ("one", True)
        assert unnamed.durable is False
        await provider.publish("/topic/t", message())
        await until(lambda: len(seen) == 3)
        await turns()
    assert sorted(seen) == [("one", 1), ("one", 2), ("two", 1)]
    assert unnamed.subscription not in ("one", "two", None)


def test_backoff_grows_is_capped_and_jittered(monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: (low, high))
    backoff = Backoff(1.0, 5.0)
    assert [backoff.next() for _ in range(4)] == [(0.5, 1.0), (1.0, 2.0), (2.0, 4.0), (2.5, 5.0)]
    backoff.succeeded(100.0)
    backoff.failed(104.0)  # it did not last: no fresh start
    assert backoff.next() == (2.5, 5.0)
    backoff.succeeded(200.0)
    backoff.failed(206.0)
    assert backoff.next() == (0.5, 1.0)
    for _ in range(2000):
        backoff.next()
    assert backoff.next() == (2.5, 5.0)


@pytest.mark.asyncio
async def test_reconnecting_waits_between_attempts(monkeypatch):
    pauses = []
    monkeypatch.setattr("random.uniform", lambda _low, high: pauses.append(high) or 0.0)
    transport = FakeTransport()
    provider = QueueProvider(transport, AmqpNamingStrategy(), EngineOptions(reconnect_base=1, reconnect_cap=8))
    await provider.publish("q", message())
    transport.refuse_connect = QueueConnectionError("down")
    transport.lose()
    await until(lambda: len(pauses) >= 6)
    assert pauses[:6] == [1, 2, 4, 8, 8, 8]
    transport.refuse_connect = None
    await provider.stop()


@pytest.mark.asyncio
async def test_a_connection_lost_while_it_was_made_is_a_failed_attempt():
    transport = FakeTransport()
    lost = []

    class Losing(FakeTransport):
        async def connect(self, on_lost):
            await super().connect(on_lost)
            if not lost:
                lost.append(1)
                on_lost(ConnectionResetError("gone"))

    transport = Losing()
    provider = provider_on(transport, QUICK)
    with pytest.raises(QueueConnectionError, match="lost at once"):
        await provider.publish("q", message())
    await provider.publish("q", message())
    await provider.stop()


@pytest.mark.asyncio
async def test_stop_is_bounded_when_the_transport_never_closes(monkeypatch):
    transport = FakeTransport()
    provider = QueueProvider(transport, AmqpNamingStrategy(), EngineOptions(connect_timeout=0.01))
    await provider.publish("q", message())
    release = asyncio.Event()
    monkeypatch.setattr(transport, "close", release.wait)
    await provider.stop()
    release.set()
    await turns()


@pytest.mark.asyncio
async def test_a_consumer_that_ends_while_it_is_made_does_not_come_back_by_itself():
    class Ending(FakeTransport):
        async def consume(self, address, **how):
            consumer = await super().consume(address, **how)
            if len(calls) < 1:
                calls.append(address)
                consumer.end()
                how["on_cancelled"](QueueError("the queue was deleted"))
            return consumer

    calls = []
    transport = Ending()
    async with provider_on(transport) as provider:
        with pytest.raises(QueueConnectionError, match="lost at once"):
            await provider.subscribe("q", ack)
        await asyncio.sleep(0.01)  # several of the quick pauses
        assert transport.consumers == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "error", [SettingsError("the TLS files cannot be used"), ZeroDivisionError("a client's own bug")]
)
async def test_nothing_that_connecting_raises_ends_the_reconnecting(error, caplog):
    """Certificates that are being replaced, a file that is missing for a moment: the service must come back by itself."""
    loop, told = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    transport = FakeTransport()
    async with provider_on(transport) as provider:
        await provider.subscribe("q", ack)
        transport.refuse_connect = error
        transport.lose()
        await until(lambda: provider.health().reconnect_attempts >= 3)
        assert provider.health().reconnect_in_progress
        assert str(error) in caplog.text
        transport.refuse_connect = None
        await until(lambda: provider.health().active_subscriptions == 1)
        assert provider.health().health_state == "healthy"
    loop.set_exception_handler(None)
    assert bool(told) == isinstance(error, ZeroDivisionError)  # what nobody expected is told to the loop as well


@pytest.mark.asyncio
async def test_settings_that_cannot_be_used_are_raised_to_who_connects():
    transport = FakeTransport()
    transport.refuse_connect = SettingsError("the TLS files cannot be used")
    provider = provider_on(transport)
    for _ in range(2):
        with pytest.raises(SettingsError, match="TLS files"):
            await provider.publish("q", message())
    await provider.stop()


@pytest.mark.asyncio
async def test_a_subscribe_that_fails_after_its_first_delivery_leaves_no_task():
    """Deliveries may overtake the broker's answer to the subscribe that then fails."""
    transport = FakeTransport()
    gate = asyncio.Event()
    begun = []

    async def consume(address, *, on_delivery, **_):
        on_delivery(FakeDelivery(FakeConsumer(transport, address, 1, None, None), envelope(message())))
        await until(lambda: begun)
        raise QueueConnectionError("the channel was closed")

    async def handler(m):
        begun.append(m)
        await gate.wait()

    async with provider_on(transport) as provider:
        transport.consume = consume
        before = asyncio.all_tasks()
        with pytest.raises(QueueConnectionError):
            await provider.subscribe("q", handler)
        assert provider.health().active_subscriptions == 0
        gate.set()
        await until(lambda: asyncio.all_tasks() == before)
        assert provider.health().subscription_states == {}


@pytest.mark.asyncio
async def test_nothing_that_consuming_raises_ends_the_consuming_again():
    """A subscription must come back by itself, while its connection lives and while it does not."""
    loop, told = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    transport = FakeTransport()
    attempts = []

    async def fail(_address):
        attempts.append(1)
        if len(attempts) <= 3:
            raise ZeroDivisionError("a client's own bug")

    async with provider_on(transport) as provider:
        await provider.subscribe("q", ack)
        transport.consume_hook = fail
        transport.lose()
        await until(lambda: provider.health().active_subscriptions == 1)
        assert len(attempts) == 4
        assert [type(error) for error in told] == [ZeroDivisionError] * 3
    loop.set_exception_handler(None)
