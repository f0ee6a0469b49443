"""Providers with one fault each: what the queue contract must notice. Each is the production engine but for a few lines."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import MappingProxyType

from factflow_infra.errors import InfraError, PublishUnconfirmedError, QueueConnectionError, QueueStoppedError
from factflow_infra.queue.backoff import Backoff
from factflow_infra.queue.engine import QueueProvider
from factflow_infra.queue.messages import DEAD_LETTER_HEADER_PREFIX, HealthState, MessageStatus, QueueMessage
from factflow_infra.queue.naming import AmqpNamingStrategy
from factflow_infra.queue.options import EngineOptions
from factflow_infra.queue.transport import Address, Envelope
from factflow_infra_testing.broker.transport import SimulatedTransport


class Wire(SimulatedTransport):
    """A transport to be made worse."""


class Provider(QueueProvider):
    """A provider to be made worse."""


def is_copy(envelope):
    return envelope.attempts > 0 or any(name.startswith(DEAD_LETTER_HEADER_PREFIX) for name in envelope.message.headers)


def changed(envelope, **changes):
    return Envelope(envelope.message.changed(**changes), envelope.attempts, envelope.deliveries)


# On the wire


class Proxy:
    """A delivery to be made worse."""

    def __init__(self, delivery):
        self._delivery = delivery

    def __getattr__(self, name):
        return getattr(self._delivery, name)


class Delivering(Wire):
    """Passes every delivery through ``proxied``."""

    proxied = Proxy

    async def consume(self, address, *, on_delivery, **how):
        return await super().consume(address, on_delivery=lambda d: on_delivery(self.proxied(d)), **how)


class AckIsNothing(Delivering):
    class proxied(Proxy):  # noqa: N801 - a class attribute
        async def ack(self):
            pass


class ForgetsTheFlag(Delivering):
    class proxied(Proxy):  # noqa: N801 - a class attribute
        redelivered = False
        delivery_count = None


class ReleaseAcks(Delivering):
    class proxied(Proxy):  # noqa: N801 - a class attribute
        async def release(self):
            await self._delivery.ack()


class Undecoded(Delivering):
    class proxied(Proxy):  # noqa: N801 - a class attribute
        undecodable = None


class DropsHeaders(Wire):
    async def publish(self, address, envelope, *, delay=0.0):
        await super().publish(address, changed(envelope, headers=MappingProxyType({})), delay=delay)


class DropsCorrelation(Wire):
    async def publish(self, address, envelope, *, delay=0.0):
        if is_copy(envelope):
            envelope = changed(envelope, correlation_id=None)
        await super().publish(address, envelope, delay=delay)


class BodyIsText(Wire):
    async def publish(self, address, envelope, *, delay=0.0):
        body = envelope.message.body.decode(errors="replace").encode()
        await super().publish(address, changed(envelope, body=body), delay=delay)


class WholeSeconds(Wire):
    async def publish(self, address, envelope, *, delay=0.0):
        timestamp = envelope.message.timestamp.replace(microsecond=0)
        await super().publish(address, changed(envelope, timestamp=timestamp), delay=delay)


class LosesRetries(Wire):
    async def publish(self, address, envelope, *, delay=0.0):
        if not envelope.attempts:
            await super().publish(address, envelope, delay=delay)


class AcksBeforeTheCopy(Wire):
    async def publish(self, address, envelope, *, delay=0.0):
        call = super().publish(address, envelope, delay=delay)
        if not is_copy(envelope):
            await call
            return
        task = asyncio.ensure_future(call)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())


class NeverWaitsForConfirms(Wire):
    async def publish(self, address, envelope, *, delay=0.0):
        task = asyncio.ensure_future(super().publish(address, envelope, delay=delay))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.sleep(0)


class SaysNotTaken(Wire):
    async def publish(self, address, envelope, *, delay=0.0):
        try:
            await super().publish(address, envelope, delay=delay)
        except PublishUnconfirmedError as error:
            raise QueueConnectionError(str(error)) from error


class PublishesTwice(Wire):
    async def publish(self, address, envelope, *, delay=0.0):
        await super().publish(address, envelope, delay=delay)
        await super().publish(address, envelope, delay=delay)


class ForgetsAttempts(Wire):
    async def publish(self, address, envelope, *, delay=0.0):
        await super().publish(address, Envelope(envelope.message), delay=delay)


class ForgetsDelay(Wire):
    async def publish(self, address, envelope, *, delay=0.0):
        del delay
        await super().publish(address, envelope)


class DelaysInMemory(Wire):
    async def publish(self, address, envelope, *, delay=0.0):
        if delay:
            asyncio.get_running_loop().call_later(
                delay, lambda: asyncio.ensure_future(super(DelaysInMemory, self).publish(address, envelope))
            )
        else:
            await super().publish(address, envelope)


class RetriesToTheTopic(Wire):
    async def publish(self, address, envelope, *, delay=0.0):
        await super().publish(Address(address.destination), envelope, delay=delay)


class Reorders(Wire):
    async def consume(self, address, *, on_delivery, **how):
        waiting = []

        def flush():
            while waiting:
                on_delivery(waiting.pop())

        def deliver(delivery):
            waiting.append(delivery)
            if len(waiting) == 2:
                flush()
            else:
                asyncio.get_running_loop().call_later(0.01, flush)

        return await super().consume(address, on_delivery=deliver, **how)


class IgnoresPrefetch(Wire):
    async def consume(self, address, *, on_delivery, **how):
        return await super().consume(address, on_delivery=on_delivery, **how | {"prefetch": 1000})


class IsLiveLater(Wire):
    async def consume(self, address, *, on_delivery, **how):
        call = super().consume(address, on_delivery=on_delivery, **how)

        async def later():
            await asyncio.sleep(0.1)
            return await call

        task = asyncio.ensure_future(later())

        class Consumer:
            async def cancel(self):
                await (await task).cancel()

            async def close(self):
                await (await task).close()

        return Consumer()


class NeverNoticesLoss(Wire):
    async def connect(self, on_lost):
        del on_lost
        await super().connect(lambda _: None)


class HammersTheBroker(Provider):
    def __init__(self, *args):
        super().__init__(*args, EngineOptions(reconnect_base=1.0, reconnect_cap=1.0))


class WaitsForConfirmsForever(Provider):
    def __init__(self, *args):
        super().__init__(*args, EngineOptions(publish_timeout=1e6))


class NeverSaysStalled(Provider):
    def __init__(self, *args):
        super().__init__(*args, EngineOptions(stall_after=1e6))


class NoJitter(Backoff):
    def next(self):
        ceiling = min(self._cap, self._base * 2.0 ** min(self._attempt, 64))
        self._attempt += 1
        return ceiling


class ComesBackInStep(Provider):
    async def subscribe(self, *args, **options):
        subscription = await super().subscribe(*args, **options)
        self._connection._backoff = NoJitter(0.5, 30.0)
        return subscription


# At the provider


class OneHandlerMore(Provider):
    async def subscribe(self, destination, handler, *, concurrency=1, **options):
        return await super().subscribe(destination, handler, concurrency=concurrency + 1, **options)


class RejectIsAck(Provider):
    async def subscribe(self, destination, handler, **options):
        async def wrapped(message):
            verdict = await handler(message)
            return MessageStatus.ACK if verdict is MessageStatus.REJECT else verdict

        return await super().subscribe(destination, wrapped, **options)


class AnyAnswerIsAck(Provider):
    async def subscribe(self, destination, handler, **options):
        async def wrapped(message):
            verdict = await handler(message)
            return verdict if verdict in {MessageStatus.RETRY, MessageStatus.REJECT} else None

        return await super().subscribe(destination, wrapped, **options)


class LateIsAck(Provider):
    async def subscribe(self, destination, handler, **options):
        async def wrapped(message):
            loop = asyncio.get_running_loop()
            started = loop.time()
            verdict = await handler(message)
            return verdict if loop.time() < started + 60 else None

        return await super().subscribe(destination, wrapped, **options)


class CatchesTooLittle(Provider):
    async def subscribe(self, destination, handler, **options):
        async def wrapped(message):
            try:
                return await handler(message)
            except (Exception, asyncio.CancelledError):
                raise
            except BaseException:  # noqa: BLE001 - the mistake
                return None

        return await super().subscribe(destination, wrapped, **options)


class CancellationIsFailure(Provider):
    async def subscribe(self, destination, handler, **options):
        async def wrapped(message):
            try:
                return await handler(message)
            except asyncio.CancelledError:
                return MessageStatus.RETRY

        return await super().subscribe(destination, wrapped, **options)


class TopicsCompete(Provider):
    async def subscribe(self, destination, handler, **options):
        return await super().subscribe(destination, handler, **{**options, "subscription": "all"})


class NothingIsDurable(Provider):
    async def subscribe(self, destination, handler, *, subscription=None, **options):
        if str(destination).startswith("/topic/"):
            subscription = None
        return await super().subscribe(destination, handler, subscription=subscription, **options)


class PauseIsNothing(Provider):
    async def subscribe(self, *args, **options):
        subscription = await super().subscribe(*args, **options)

        async def nothing():
            pass

        subscription.pause = nothing
        return subscription


class StopWaitsForNobody(Provider):
    async def stop(self, *, timeout=30.0):
        del timeout
        await super().stop(timeout=0)


class StopWaitsForever(Provider):
    async def stop(self, *, timeout=30.0):
        del timeout
        await super().stop(timeout=None)


class StopsOnce(Provider):
    _once = False

    async def stop(self, *, timeout=30.0):
        if self._once:
            raise QueueStoppedError("stopped already")
        self._once = True
        await super().stop(timeout=timeout)


class PublishesAfterStop(Provider):
    async def publish(self, destination, message, *, delay=0.0):
        try:
            return await super().publish(destination, message, delay=delay)
        except QueueStoppedError:
            return MessageStatus.ACCEPTED


class ConnectsFirst(Provider):
    async def publish(self, destination, message, *, delay=0.0):
        if not self.health().connected:
            await self.__aenter__()
        return await super().publish(destination, message, delay=delay)


class TakesAnything(Provider):
    async def publish(self, destination, message, *, delay=0.0):
        if not isinstance(message, QueueMessage):
            message = QueueMessage(body=repr(message).encode())
        return await super().publish(destination, message, delay=delay)


class BatchRaises(Provider):
    async def publish_batch(self, destination, messages):
        result = await super().publish_batch(destination, messages)
        for item in result.results:
            if item.error is not None:
                raise item.error
        return result


class BatchIsUnordered(Provider):
    async def publish_batch(self, destination, messages):
        return await super().publish_batch(destination, list(reversed(messages)))


class AcksTheWholeBatch(Provider):
    async def subscribe_batch(self, *args, **options):
        handle = await super().subscribe_batch(*args, **options)
        following, ack = handle.__class__.__anext__, handle.ack
        latest = []

        class Handle:
            def __aiter__(self):
                return self

            async def __anext__(self):
                batch = (
                    await following(handle) if hasattr(handle.__class__, "__anext__") else await anext(aiter(handle))
                )
                latest[:] = batch.messages
                return batch

            async def ack(self, _settled):
                rest, latest[:] = list(latest), []
                await ack(rest)

            def __getattr__(self, name):
                return getattr(handle, name)

        return Handle()


class AlwaysWell(Provider):
    def health(self):
        return replace(super().health(), connected=True, health_state=HealthState.HEALTHY, reconnect_in_progress=False)


class SubscribesDespiteErrors(Provider):
    async def subscribe(self, destination, handler, *, concurrency=1, **options):
        try:
            return await super().subscribe(destination, handler, concurrency=concurrency, **options)
        except InfraError:
            await super().subscribe(destination, handler)
            raise


def make(kind):
    """What ``SimulatedQueueHarness`` takes, for a mutant of either sort."""

    def build(broker, client):
        if issubclass(kind, Wire):
            return QueueProvider(kind(broker, client, exposed=True), AmqpNamingStrategy())
        return kind(SimulatedTransport(broker, client, exposed=True), AmqpNamingStrategy())

    return build


MUTANTS = {
    AckIsNothing: (
        "q2-acked-batch-is-gone",
        "q2-batch-of-a-killed-consumer-goes-to-another",
        "q2-acked-is-gone-after-a-lost-connection",
        "q11-handler-may-stop-its-own-provider",
        "q2-acked-is-gone",
        "q2-unsettled-message-holds-its-place",
    ),
    ForgetsTheFlag: (
        "q2-delivery-count-grows-with-redeliveries",
        "q2-message-that-kills-its-consumers-is-bounded",
        "q2-lost-connection-brings-the-message-again",
        "q2-killed-consumer-gives-way-to-another",
    ),
    ReleaseAcks: (
        "q2-closing-and-subscribing-again-loses-nothing",
        "q11-handler-that-cancels-itself-stops-nothing",
        "q5-close-waits-for-the-running-handler",
        "q8-stop-cancels-after-its-timeout-and-gives-back",
        "q2-cancelled-handling-gives-the-message-back-untouched",
    ),
    Undecoded: ("q10-undecodable-message-is-dead-lettered",),
    DropsHeaders: (
        "q10-unspeakable-errors-reach-the-dead-letter-queue",
        "q7-json-messages-are-convenient",
        "q7-messages-survive-delivery",
        "q1-published-before-any-subscriber-arrives",
    ),
    DropsCorrelation: ("q7-messages-survive-a-retry", "q7-messages-survive-the-dead-letter-queue"),
    BodyIsText: ("q7-messages-survive-delivery",),
    WholeSeconds: (
        "q7-messages-survive-a-delay",
        "q7-messages-survive-a-topic",
        "q7-messages-survive-delivery",
    ),
    LosesRetries: (
        "q2-retry-verdict-brings-the-message-again",
        "q3-waiting-retry-survives-a-broker-restart",
        "q3-unconfirmed-copy-duplicates-rather-than-loses",
        "q2-failed-message-comes-again",
        "q2-subscription-goes-on-after-errors",
    ),
    AcksBeforeTheCopy: (
        "q3-killed-at-any-point-of-a-retry-loses-nothing",
        "q3-copy-confirmed-before-ack",
        "q3-dead-letter-confirmed-before-ack",
    ),
    NeverWaitsForConfirms: (
        "q1-accepted-survives-a-broker-restart",
        "q1-nothing-is-lost-silently-while-connections-break",
        "q8-publish-that-outlasts-stop-is-unconfirmed",
        "q1-lost-confirmation-is-said-to-be-unconfirmed",
        "q1-refusal-raises",
    ),
    SaysNotTaken: ("q1-lost-confirmation-is-said-to-be-unconfirmed",),
    PublishesTwice: (
        "q5-subscribers-of-a-queue-compete-named-or-not",
        "q4-first-in-first-out",
        "q2-competing-providers-share-without-loss-or-copies",
    ),
    ForgetsAttempts: (
        "q2-batch-retries-are-bounded",
        "q2-delivery-count-grows-with-retries",
        "q2-max-deliveries-bounds-retries-too",
        "q10-poison-message-stops-nothing",
        "q2-retries-are-bounded",
        "q2-failure-count-travels-with-the-message",
    ),
    ForgetsDelay: ("q1-delay-holds-a-topic-message-back", "q1-delay-holds-a-message-back", "q2-retry-waits-its-delay"),
    DelaysInMemory: (
        "q8-stop-with-a-waiting-retry-keeps-it",
        "q3-waiting-retry-survives-its-consumer",
        "q1-delayed-message-survives-a-broker-restart",
    ),
    RetriesToTheTopic: (
        "q2-failed-topic-message-comes-again",
        "q3-retry-of-a-topic-reaches-its-own-subscription-only",
    ),
    Reorders: ("q4-first-in-first-out", "q4-topic-is-in-order-for-each-subscription"),
    IgnoresPrefetch: ("q6-prefetch-leaves-the-rest-to-others",),
    IsLiveLater: (
        "q2-batches-of-a-topic",
        "q5-subscription-is-live-when-subscribe-returns",
    ),
    NeverNoticesLoss: (
        "q9-batch-of-a-lost-connection-comes-again",
        "q2-prefetched-messages-come-back-after-a-lost-connection",
        "q2-broker-restart-brings-the-message-again",
        "q6-handler-of-a-lost-connection-counts-towards-concurrency",
        "q9-publishing-and-handling-survive-restarts",
        "q9-topic-subscriptions-come-back",
        "q9-subscriptions-come-back",
        "q9-health-tells-of-an-outage",
    ),
    WaitsForConfirmsForever: ("q1-publish-on-a-silent-connection-ends",),
    NeverSaysStalled: ("q9-health-tells-of-a-stall",),
    ComesBackInStep: ("q9-backoff-is-capped-and-patient",),
    HammersTheBroker: ("q9-backoff-is-capped-and-patient",),
    OneHandlerMore: ("q6-concurrency-is-reached-and-not-passed", "q6-one-at-a-time-by-default"),
    RejectIsAck: (
        "q2-dead-letter-queue-has-a-default",
        "q2-reject-goes-to-the-dead-letter-queue",
    ),
    AnyAnswerIsAck: ("q11-junk-from-a-handler-is-no-verdict",),
    LateIsAck: ("q11-handler-that-holds-up-the-event-loop-loses-nothing",),
    CatchesTooLittle: ("q11-base-exceptions-lose-nothing",),
    CancellationIsFailure: (
        "q5-close-with-a-timeout-gives-the-message-back",
        "q2-cancelled-handling-gives-the-message-back-untouched",
        "q8-stop-cancels-after-its-timeout-and-gives-back",
    ),
    TopicsCompete: (
        "q2-dead-letter-of-a-topic-names-its-subscription",
        "q5-subscription-tells-what-it-is",
        "q2-every-subscription-gets-a-copy",
        "q2-unnamed-subscription-ends-with-its-subscriber",
    ),
    NothingIsDurable: (
        "q9-named-subscription-misses-nothing-while-disconnected",
        "q2-named-subscription-survives-a-broker-restart",
        "q2-named-subscription-outlives-its-members",
        "q2-members-of-a-named-subscription-compete",
    ),
    PauseIsNothing: ("q5-pause-takes-no-more-until-resume",),
    StopWaitsForNobody: (
        "q11-running-handlers-are-cancelled-when-stop-runs-out-of-time",
        "q8-stop-lets-running-handlers-finish",
    ),
    StopWaitsForever: (
        "q11-handler-whose-thread-blocks-does-not-wedge-stop",
        "q11-handler-that-swallows-cancellation-does-not-wedge-stop",
        "q8-stop-at-once-waits-for-nobody",
        "q8-second-stop-may-be-less-patient",
        "q11-handler-that-never-ends-does-not-wedge-stop",
    ),
    StopsOnce: ("q8-stop-is-idempotent",),
    PublishesAfterStop: (
        "q5-provider-is-a-context-manager",
        "q8-calls-after-stop-raise",
    ),
    ConnectsFirst: ("q10-bad-destinations-are-refused", "q10-bad-delays-are-refused"),
    TakesAnything: ("q10-what-is-no-message-is-refused",),
    BatchRaises: ("q1-unconfirmed-in-a-batch-says-so", "q1-partial-batch-says-which", "q1-failed-batch-does-not-raise"),
    BatchIsUnordered: ("q1-batch-is-complete",),
    AcksTheWholeBatch: (
        "q2-settling-twice-raises",
        "q2-batch-is-settled-message-by-message",
        "q2-unsettled-goes-back-when-the-handle-closes",
    ),
    AlwaysWell: (
        "q8-stop-leaves-other-providers-alone",
        "q9-health-tells-of-an-outage",
        "q9-health-of-a-fresh-provider",
    ),
    SubscribesDespiteErrors: ("q5-refused-subscribe-leaves-nothing-behind",),
}
"""Each mutant, and the behaviours that must fail on it."""
