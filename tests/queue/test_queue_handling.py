"""Subscriptions with a handler: verdicts, retries, dead letters, concurrency, order, loss and closing."""

from __future__ import annotations

import asyncio
import contextvars

import pytest
from queue_fakes import FakeTransport, envelope, provider_on, turns, until

from factflow_infra.errors import (
    PublishRefusedError,
    PublishUnconfirmedError,
    QueueConnectionError,
    QueueStoppedError,
    SubscriptionClosedError,
)
from factflow_infra.queue.messages import ErrorHandling, MessageStatus, QueueMessage
from factflow_infra.queue.options import EngineOptions

NO_DELAY = ErrorHandling(retry_delay_seconds=0)


def message(text="x", **fields):
    return QueueMessage(text.encode(), message_id=text, **fields)


@pytest.mark.asyncio
async def test_handler_gets_what_was_published_and_none_acks():
    transport = FakeTransport()
    seen = []

    async def handler(m):
        seen.append(m)

    async with provider_on(transport) as provider:
        await provider.subscribe("orders", handler)
        sent = message("a", headers={"k": "v"}, correlation_id="c", ordering_key="o")
        assert await provider.publish("/queue/orders", sent) is MessageStatus.ACCEPTED
        await until(lambda: transport.count("acked", "a"))
    assert len(seen) == 1
    assert seen[0] == sent.changed(destination="orders", delivery_count=1, redelivered=False)


@pytest.mark.asyncio
async def test_retry_copy_is_confirmed_before_the_ack_and_counts():
    transport = FakeTransport()
    seen = []

    async def handler(m):
        seen.append((m.delivery_count, m.redelivered))
        if len(seen) == 1:
            return MessageStatus.RETRY
        if len(seen) == 2:
            raise ValueError("again")
        return MessageStatus.ACK

    async with provider_on(transport) as provider:
        await provider.subscribe("q", handler, error_handling=ErrorHandling(retry_delay_seconds=7.5))
        await provider.publish("q", message("a"))
        await until(lambda: len(seen) == 3)
        await until(lambda: transport.count("acked", "a") == 3)
    assert seen == [(1, False), (2, True), (3, True)]
    assert transport.delays == [0.0, 7.5, 7.5]
    assert transport.log == [("put", "queue:q", "a")] + [("put", "queue:q", "a"), ("acked", "a")] * 2 + [("acked", "a")]


@pytest.mark.asyncio
async def test_retries_exhausted_reject_and_undecodable_go_to_the_dead_letter_queue():
    transport = FakeTransport()

    async def handler(m):
        if m.message_id == "bad":
            raise ValueError("no amqp://user:secret@host\nplease")
        return MessageStatus.REJECT if m.message_id == "rejected" else None

    async with provider_on(transport) as provider:
        await provider.subscribe(
            "q", handler, subscription="workers", error_handling=ErrorHandling(max_retries=1, retry_delay_seconds=0)
        )
        for name in ("bad", "rejected", "fine"):
            await provider.publish("q", message(name, headers={"k": "v"}))
        transport.inject("queue:q", envelope(message("garbage")), undecodable="no JSON")
        await until(lambda: len(transport.waiting("dlq")) == 3)
        await until(lambda: transport.count("acked", "garbage"))
    dead = {e.message.message_id: e for e in transport.waiting("dlq")}
    heads = {
        name: {k.removeprefix("factflow-dead-letter-"): v for k, v in e.message.headers.items() if k != "k"}
        for name, e in dead.items()
    }
    for head in heads.values():
        assert head["source"] == "q"
        assert head["subscription"] == "workers"
        assert head["time"].endswith("+00:00")
    assert heads["bad"]["reason"] == "retries-exhausted"
    assert heads["bad"]["attempts"] == "2"
    assert heads["bad"]["error"] == "ValueError: no amqp://***@host please"
    assert heads["rejected"]["reason"] == "rejected"
    assert heads["rejected"]["attempts"] == "0"
    assert heads["garbage"]["reason"] == "undecodable"
    assert heads["garbage"]["error"] == "no JSON"
    assert all(e.attempts == 0 and e.deliveries == 0 for e in dead.values())
    assert dead["bad"].message.headers["k"] == "v"


@pytest.mark.parametrize(
    "error", [PublishRefusedError("full"), PublishUnconfirmedError("?"), QueueConnectionError("x")]
)
@pytest.mark.asyncio
async def test_never_an_ack_without_a_confirmed_copy(error):
    transport = FakeTransport()
    failures = [error] * 3
    seen = []

    async def refuse(address, _envelope):
        if address.destination.name == "dlq" and failures:
            assert not transport.count("acked", "poison")
            raise failures.pop()

    transport.publish_hook = refuse

    async def handler(m):
        seen.append(m.message_id)
        return MessageStatus.REJECT if m.message_id == "poison" else None

    async with provider_on(transport) as provider:
        await provider.subscribe("q", handler, error_handling=NO_DELAY)
        await provider.publish("q", message("poison"))
        await provider.publish("q", message("next"))
        await until(lambda: transport.count("acked", "next"))  # it stops nothing
        await until(lambda: transport.count("acked", "poison"))
    assert len(transport.waiting("dlq")) == 1
    assert seen == ["poison", "next"]


@pytest.mark.asyncio
@pytest.mark.parametrize("verdict", ["ack", MessageStatus.ACCEPTED, True, 0, b""])
async def test_a_wrong_verdict_is_a_failed_handling(verdict):
    transport = FakeTransport()

    async def handler(_m):
        return verdict

    async with provider_on(transport) as provider:
        await provider.subscribe("q", handler, error_handling=ErrorHandling(max_retries=0))
        await provider.publish("q", message("a"))
        await until(lambda: transport.count("acked", "a"))
    [dead] = transport.waiting("dlq")
    assert (
        "which is no verdict; return ACK, RETRY, REJECT or None" in dead.message.headers["factflow-dead-letter-error"]
    )


@pytest.mark.asyncio
async def test_a_handler_that_is_no_coroutine_function_fails_clearly():
    transport = FakeTransport()
    async with provider_on(transport) as provider:
        await provider.subscribe("q", lambda _m: None, error_handling=ErrorHandling(max_retries=0))
        await provider.publish("q", message("a"))
        await until(lambda: transport.count("acked", "a"))
    [dead] = transport.waiting("dlq")
    assert "await" in dead.message.headers["factflow-dead-letter-error"]


@pytest.mark.asyncio
async def test_concurrency_and_prefetch_are_bounds():
    transport = FakeTransport()
    gate = asyncio.Event()
    running = most = 0

    async def handler(_m):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1

    async with provider_on(transport) as provider:
        await provider.subscribe("q", handler, concurrency=3, prefetch=5)
        for n in range(20):
            await provider.publish("q", message(str(n)))
        await turns()
        assert running == 3
        assert len(transport.consumers[0].held) == 5
        gate.set()
        await until(lambda: sum(entry[0] == "acked" for entry in transport.log) == 20)
    assert most == 3


@pytest.mark.asyncio
async def test_order_with_one_worker_and_by_ordering_key_with_many():
    transport = FakeTransport()
    done = []
    busy = set()

    async def handler(m):
        assert m.ordering_key not in busy
        busy.add(m.ordering_key)
        await turns(int(m.body) % 3)
        busy.discard(m.ordering_key)
        done.append((m.ordering_key, int(m.body)))

    async with provider_on(transport) as provider:
        await provider.subscribe("q", handler, concurrency=4)
        for n in range(60):
            await provider.publish("q", message(str(n), ordering_key=f"k{n % 5}"))
        await until(lambda: len(done) == 60)
    for key in range(5):
        assert [n for k, n in done if k == f"k{key}"] == list(range(key, 60, 5))


@pytest.mark.asyncio
async def test_lost_connection_drops_the_late_verdict_and_never_runs_one_id_twice_at_once():
    transport = FakeTransport()
    gates = [asyncio.Event(), asyncio.Event()]
    seen = []
    running = 0

    async def handler(m):
        nonlocal running
        running += 1
        assert running == 1
        gate = gates[len(seen)] if len(seen) < 2 else None
        seen.append((m.message_id, m.delivery_count, m.redelivered))
        if gate is not None:
            await gate.wait()
        running -= 1

    async with provider_on(transport) as provider:
        await provider.subscribe("q", handler, concurrency=4)
        await provider.publish("q", message("a"))
        await until(lambda: len(seen) == 1)
        transport.lose()
        assert provider.health().reconnect_in_progress
        assert provider.health().health_state == "reconnecting"
        await until(lambda: transport.consumers and transport.consumers[0].held)
        assert provider.health().connected
        assert provider.health().reconnect_attempts == 0
        await turns()
        assert len(seen) == 1  # it waits for the old handling
        gates[0].set()
        await until(lambda: len(seen) == 2)
        assert not transport.count("acked", "a")  # the late verdict was dropped
        gates[1].set()
        await until(lambda: transport.count("acked", "a") == 1)
    assert seen == [("a", 1, False), ("a", 2, True)]


@pytest.mark.asyncio
async def test_max_deliveries_is_carried_where_the_broker_does_not_count():
    transport = FakeTransport()
    gate = asyncio.Event()
    seen = []

    async def handler(m):
        seen.append(m.delivery_count)
        await gate.wait()

    async with provider_on(transport) as provider:
        await provider.subscribe("q", handler, concurrency=5, error_handling=ErrorHandling(max_deliveries=2))
        await provider.publish("q", message("a"))
        await until(lambda: len(seen) == 1)
        transport.lose()
        await until(lambda: transport.consumers)
        gate.set()
        gate = asyncio.Event()
        await until(lambda: len(seen) == 2)
        transport.lose()
        gate.set()
        await until(lambda: transport.waiting("dlq"))
        await until(lambda: transport.count("acked", "a") == 2)
    assert seen == [1, 2]
    [dead] = transport.waiting("dlq")
    assert dead.message.headers["factflow-dead-letter-reason"] == "deliveries-exhausted"


@pytest.mark.asyncio
async def test_max_deliveries_with_a_broker_that_counts():
    transport = FakeTransport(counts=True)
    seen = []

    async def handler(m):
        seen.append(m.delivery_count)

    async with provider_on(transport) as provider:
        await provider.subscribe("q", handler, error_handling=ErrorHandling(max_deliveries=3))
        transport.inject("queue:q", envelope(message("a")), seen=2)
        transport.inject("queue:q", envelope(message("b")), seen=3)
        await until(lambda: transport.count("acked", "b"))
    assert seen == [3]
    assert [e.message.message_id for e in transport.waiting("dlq")] == ["b"]


@pytest.mark.asyncio
async def test_close_gives_back_what_is_not_done_and_cancels_what_runs():
    transport = FakeTransport()
    cancelled = []

    async def handler(m):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(m.message_id)
            raise

    async with provider_on(transport) as provider:
        subscription = await provider.subscribe("q", handler, prefetch=3)
        for n in range(4):
            await provider.publish("q", message(str(n)))
        await turns()
        await subscription.close(timeout=0)
        assert subscription.status == "closed"
        assert cancelled == ["0"]
        assert sorted(e.message.message_id for e in transport.waiting("q")) == ["0", "1", "2", "3"]
        assert all(e.attempts == 0 for e in transport.waiting("q"))
        await subscription.close()
        assert provider.health().active_subscriptions == 0


@pytest.mark.asyncio
async def test_stop_waits_for_handlers_and_lets_them_publish():
    transport = FakeTransport()
    gate = asyncio.Event()
    provider = provider_on(transport)
    started = asyncio.Event()

    async def handler(_m):
        started.set()
        await gate.wait()
        await provider.publish("out", message("result"))

    await provider.subscribe("q", handler)
    await provider.publish("q", message("a"))
    await started.wait()
    stopping = asyncio.create_task(provider.stop())
    again = asyncio.create_task(provider.stop(timeout=None))
    await turns()
    assert not stopping.done()
    with pytest.raises(QueueStoppedError):
        await provider.publish("q", message("b"))
    with pytest.raises(QueueStoppedError):
        await provider.subscribe("q", handler)
    gate.set()
    await asyncio.gather(stopping, again)
    assert transport.count("acked", "a") == 1
    assert len(transport.waiting("out")) == 1
    assert transport.closed == 1
    await provider.stop()


@pytest.mark.asyncio
async def test_handler_that_swallows_cancellation_is_abandoned_and_its_message_goes_back():
    transport = FakeTransport()
    release = asyncio.Event()
    provider = provider_on(transport)

    async def handler(_m):
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    await provider.subscribe("q", handler)
    await provider.publish("q", message("a"))
    await turns()
    await provider.stop(timeout=0)
    assert [e.message.message_id for e in transport.waiting("q")] == ["a"]
    release.set()
    await turns()
    assert not transport.count("acked", "a")


@pytest.mark.asyncio
@pytest.mark.parametrize("timeout", [0, None, 30.0])
async def test_stop_from_within_a_handler_applies_its_verdict(timeout):
    transport = FakeTransport()
    provider = provider_on(transport)
    returned = asyncio.Event()

    async def handler(_m):
        await provider.stop(timeout=timeout)
        returned.set()

    await provider.subscribe("q", handler, concurrency=2)
    await provider.publish("q", message("a"))
    await returned.wait()
    await provider.stop()
    assert transport.count("acked", "a") == 1
    assert transport.closed == 1


@pytest.mark.asyncio
async def test_close_from_within_a_handler():
    transport = FakeTransport()
    box = []

    async def handler(_m):
        await box[0].close()

    async with provider_on(transport) as provider:
        box.append(await provider.subscribe("q", handler))
        await provider.publish("q", message("a"))
        await until(lambda: box[0].status == "closed" and transport.count("acked", "a"))
        await until(lambda: not transport.consumers)


@pytest.mark.asyncio
async def test_cancelled_from_within_is_given_back_without_spinning():
    transport = FakeTransport()
    seen = []

    async def handler(m):
        seen.append(m.message_id)
        if m.message_id == "a":
            raise asyncio.CancelledError

    provider = provider_on(transport, EngineOptions(reconnect_base=1000, reconnect_cap=1000))
    await provider.subscribe("q", handler)
    await provider.publish("q", message("a"))
    await turns()
    assert seen == ["a", "a"]  # it comes back at once the first time, after a pause then
    await provider.publish("q", message("b"))
    await until(lambda: transport.count("acked", "b"))  # which holds nobody else up
    await provider.stop(timeout=0)
    assert seen == ["a", "a", "b"]
    [back] = transport.waiting("q")
    assert (back.message.message_id, back.attempts) == ("a", 0)


@pytest.mark.asyncio
async def test_cancelled_from_within_comes_again_until_it_is_handled():
    transport = FakeTransport()
    seen = []

    async def handler(_m):
        seen.append(1)
        if len(seen) < 5:
            raise asyncio.CancelledError

    async with provider_on(transport) as provider:
        await provider.subscribe("q", handler)
        await provider.publish("q", message("a"))
        await until(lambda: transport.count("acked", "a"))
    assert len(seen) == 5


class Worse(BaseException):
    pass


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [Worse("boom"), GeneratorExit()])
async def test_base_exceptions_are_failed_handlings(error):
    transport = FakeTransport()
    loop_errors = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: loop_errors.append(context))

    async def handler(m):
        if m.message_id == "a":
            raise error

    async with provider_on(transport) as provider:
        await provider.subscribe("q", handler, error_handling=ErrorHandling(max_retries=0))
        await provider.publish("q", message("a"))
        await provider.publish("q", message("b"))
        await until(lambda: transport.count("acked", "b") and transport.count("acked", "a"))
    assert len(transport.waiting("dlq")) == 1


@pytest.mark.asyncio
async def test_pause_gives_back_and_resume_takes_again():
    transport = FakeTransport()
    gate = asyncio.Event()
    seen = []

    async def handler(m):
        seen.append(m.message_id)
        await gate.wait()

    async with provider_on(transport) as provider:
        subscription = await provider.subscribe("q", handler, prefetch=2)
        for n in range(3):
            await provider.publish("q", message(str(n)))
        await turns()
        await subscription.pause()
        assert subscription.status == "paused"
        assert [e.message.message_id for e in transport.waiting("q")] == ["1", "2"]
        gate.set()
        await until(lambda: transport.count("acked", "0"))
        await turns()
        assert seen == ["0"]
        await subscription.resume()
        await until(lambda: transport.count("acked", "2"))
        assert subscription.status == "active"
    assert seen == ["0", "1", "2"]


@pytest.mark.asyncio
async def test_context_variables_do_not_leak_from_one_message_to_the_next():
    transport = FakeTransport()
    correlation = contextvars.ContextVar("correlation", default="none")
    seen = []

    async def handler(m):
        seen.append((m.message_id, correlation.get()))
        if m.message_id != "1":
            correlation.set(m.message_id)

    async with provider_on(transport) as provider:
        correlation.set("service")
        await provider.subscribe("q", handler)
        correlation.set("later")
        for n in range(4):
            await provider.publish("q", message(str(n)))
        await until(lambda: transport.count("acked", "3"))
    assert seen == [(str(n), "service") for n in range(4)]


@pytest.mark.asyncio
async def test_resume_while_handlers_run_never_holds_more_than_prefetch():
    transport = FakeTransport()
    gate = asyncio.Event()
    seen = []

    async def handler(m):
        seen.append(m.message_id)
        await gate.wait()

    async with provider_on(transport) as provider:
        subscription = await provider.subscribe("q", handler, prefetch=2, concurrency=2)
        for n in range(6):
            await provider.publish("q", message(str(n)))
        await turns()
        await subscription.pause()
        await subscription.resume()
        await subscription.pause()
        await subscription.resume()
        await turns()
        assert seen == ["0", "1"]
        assert sum(len(consumer.held) for consumer in transport.consumers) == 2
        assert subscription.status == "active"
        gate.set()
        await until(lambda: transport.count("acked", "5"))
        assert transport.consumers[0].most_held == 2
    assert seen == [str(n) for n in range(6)]


@pytest.mark.asyncio
async def test_pausing_a_closed_subscription_is_an_error():
    transport = FakeTransport()
    async with provider_on(transport) as provider:
        subscription = await provider.subscribe("q", lambda _m: None)
        await subscription.close()
        for call in (subscription.pause, subscription.resume):
            with pytest.raises(SubscriptionClosedError, match="'q' is closed"):
                await call()


@pytest.mark.asyncio
async def test_nothing_begins_while_stopping_and_a_handler_that_meets_that_is_not_at_fault():
    transport = FakeTransport()
    provider = provider_on(transport)
    gate, started = asyncio.Event(), asyncio.Event()

    async def handler(_m):
        started.set()
        await gate.wait()
        await provider.subscribe("other", handler)

    await provider.subscribe("q", handler, error_handling=ErrorHandling(max_retries=0))
    await provider.publish("q", message("a"))
    await started.wait()
    stopping = asyncio.create_task(provider.stop())
    await turns()
    gate.set()
    await stopping
    [back] = transport.waiting("q")
    assert back.attempts == 0
    assert not transport.waiting("dlq")


@pytest.mark.asyncio
async def test_a_subscribe_that_stop_overtakes_says_so():
    transport = FakeTransport()
    gate = asyncio.Event()

    async def wait(_address):
        await gate.wait()

    transport.consume_hook = wait
    provider = provider_on(transport)
    call = asyncio.create_task(provider.subscribe("q", lambda _m: None))
    await until(lambda: transport.connects)
    await turns()
    stopping = asyncio.create_task(provider.stop())
    await turns()
    gate.set()
    with pytest.raises(QueueStoppedError):
        await call
    await stopping
    assert transport.consumers == []


@pytest.mark.asyncio
async def test_a_more_impatient_stop_hurries_an_earlier_one():
    transport = FakeTransport()
    provider = provider_on(transport)

    async def handler(_m):
        await asyncio.Event().wait()

    await provider.subscribe("q", handler)
    await provider.publish("q", message("a"))
    await turns()
    patient = asyncio.create_task(provider.stop(timeout=None))
    await turns()
    assert not patient.done()
    await provider.stop(timeout=0)
    await patient
    assert len(transport.waiting("q")) == 1


@pytest.mark.asyncio
async def test_a_message_whose_copy_cannot_be_confirmed_goes_back_at_stop():
    transport = FakeTransport()

    async def refuse(address, _envelope):
        if address.destination.name == "dlq":
            raise PublishRefusedError("full")

    transport.publish_hook = refuse

    async def handler(_m):
        return MessageStatus.REJECT

    provider = provider_on(transport)
    await provider.subscribe("q", handler)
    await provider.publish("q", message("a"))
    await until(lambda: len(transport.sent_to("dlq")) > 2)
    await provider.stop(timeout=0)
    assert len(transport.waiting("q")) == 1
    assert not transport.count("acked", "a")


@pytest.mark.asyncio
@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_subscription_whose_handlers_never_suspend_gives_way(concurrency):
    transport = FakeTransport()
    seen = []

    async def handler(m):
        seen.append(m.message_id)

    async with provider_on(transport) as provider:
        for n in range(200):
            transport.inject("queue:q", envelope(message(str(n))))
        await provider.subscribe("q", handler, concurrency=concurrency, prefetch=1000)
        most = before = 0
        while len(seen) < 200:
            await asyncio.sleep(0)
            most = max(most, len(seen) - before)
            before = len(seen)
    assert most <= 16 * concurrency


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_handler_ends_the_program_and_the_message_goes_back(error):
    transport = FakeTransport()
    provider = provider_on(transport)
    seen = []

    async def handler(m):
        seen.append(m.message_id)
        if len(seen) == 1:
            raise error

    async def main():
        await provider.subscribe("q", handler, error_handling=ErrorHandling(max_retries=0))
        await provider.publish("q", message("a"))
        await asyncio.Event().wait()

    async def rest():
        await until(lambda: transport.count("acked", "a"))
        await provider.stop()

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _loop, _context: None)
    program = loop.create_task(main())
    try:
        with pytest.raises(error):
            loop.run_until_complete(program)
        loop.run_until_complete(rest())  # whoever goes on after all loses nothing
        program.cancel()
        loop.run_until_complete(asyncio.wait([program]))
    finally:
        loop.close()
    assert seen == ["a", "a"]
    assert not transport.waiting("dlq")


@pytest.mark.asyncio
@pytest.mark.parametrize("verdict", [MessageStatus.RETRY, MessageStatus.REJECT])
async def test_a_late_verdict_makes_no_copy(verdict):
    transport = FakeTransport()
    gate = asyncio.Event()
    seen = []

    async def handler(m):
        seen.append(m.message_id)
        if len(seen) > 1:
            return MessageStatus.ACK
        await gate.wait()
        return verdict

    async with provider_on(transport) as provider:
        await provider.subscribe("q", handler)
        await provider.publish("q", message("a"))
        await until(lambda: seen)
        transport.lose()
        await until(lambda: transport.consumers)
        gate.set()
        await until(lambda: transport.count("acked", "a"))
    assert seen == ["a", "a"]
    assert len(transport.published) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("end", ["pause", "close"])
async def test_what_is_delivered_while_the_consumer_is_being_cancelled_goes_back(end):
    transport = FakeTransport()
    gate = asyncio.Event()
    seen = []

    async def handler(m):
        seen.append(m.message_id)
        await gate.wait()

    async with provider_on(transport) as provider:
        subscription = await provider.subscribe("q", handler)
        await provider.publish("q", message("a"))
        await turns()
        late = [envelope(message("late"))]
        transport.cancel_hook = lambda: late and transport.inject("queue:q", late.pop())
        ending = asyncio.create_task(getattr(subscription, end)())
        await turns()
        assert [e.message.message_id for e in transport.waiting("q")] == ["late"]
        gate.set()
        await ending
        await until(lambda: not transport.consumers)
    assert seen == ["a"]


@pytest.mark.asyncio
async def test_a_pause_whose_caller_is_cancelled_strands_nothing():
    transport = FakeTransport()
    gate = asyncio.Event()
    seen = []

    async def handler(m):
        seen.append(m.message_id)
        await gate.wait()

    async with provider_on(transport) as provider:
        subscription = await provider.subscribe("q", handler, prefetch=3)
        for n in range(3):
            await provider.publish("q", message(str(n)))
        await turns()
        pausing = asyncio.create_task(subscription.pause())
        (consumer,) = transport.consumers
        cancel = consumer.cancel

        async def slow():
            pausing.cancel()  # while the broker is being told
            await asyncio.sleep(0)
            await cancel()

        consumer.cancel = slow
        await asyncio.wait([pausing])
        assert pausing.cancelled()
        gate.set()
        await turns()
        assert subscription.status == "paused"
        assert {e.message.message_id for e in transport.waiting("q")} == {"1", "2"}
        await subscription.resume()
        await until(lambda: transport.count("acked", "1") and transport.count("acked", "2"))
    assert sorted(seen) == ["0", "1", "2"]


@pytest.mark.asyncio
async def test_a_pause_before_the_consumer_is_confirmed_keeps_the_verdicts_of_what_came_already():
    transport = FakeTransport()
    seen = []

    async def handler(m):
        seen.append(m.message_id)
        if m.message_id == "0":
            await subscription.pause()
            confirmed.set()
            await turns()

    async with provider_on(transport) as provider:
        subscription = await provider.subscribe("q", handler, prefetch=2)
        await subscription.pause()
        await turns()
        for n in range(3):
            await provider.publish("q", message(str(n)))
        confirmed = asyncio.Event()
        consume = transport.consume

        async def slow(*args, **options):
            consumer = await consume(*args, **options)
            await confirmed.wait()  # the deliveries overtake the answer
            return consumer

        transport.consume = slow
        await subscription.resume()
        await until(lambda: transport.count("acked", "0"))
        await turns()
        assert {e.message.message_id for e in transport.waiting("q")} == {"1", "2"}
        assert not transport.consumers
        await subscription.resume()
        await until(lambda: transport.count("acked", "1") and transport.count("acked", "2"))
    assert sorted(seen) == ["0", "1", "2"]
