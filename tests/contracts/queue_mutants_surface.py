"""More providers with one fault each: in names, answers, checks, batches, dead letters, and what subscriptions and stops do."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections import deque
from dataclasses import replace
from itertools import count
from types import MappingProxyType, SimpleNamespace

from queue_mutants import Provider, Wire, changed, is_copy

from factflow_infra.errors import (
    InvalidDestinationError,
    InvalidMessageError,
    InvalidSubscriptionError,
    QueueConnectionError,
    QueueError,
    UnroutableError,
)
from factflow_infra.queue.batch import BatchSubscription
from factflow_infra.queue.messages import (
    DEAD_LETTER_HEADER_PREFIX,
    ErrorHandling,
    MessageStatus,
    QueueMessage,
    SubscriptionStatus,
)
from factflow_infra.queue.transport import Address, Envelope

# Names


class Renaming(Provider):
    """Messages say the name that they were published to, and go to ``renamed``."""

    def _address(self, destination):
        address = super()._address(destination)
        folded = super()._address(self.renamed(destination))
        return Address(replace(folded.destination, text=address.destination.text))


class FoldsNames(Renaming):
    def renamed(self, destination):
        return destination.lower().replace(".", ":")


class FoldsTopics(Renaming):
    def renamed(self, destination):
        if not destination.startswith("/topic/"):
            return destination
        return "/topic/" + destination.replace(":", "/").rpartition("/")[2]


class BareIsAnother(Renaming):
    def renamed(self, destination):
        return destination if destination.startswith("/") else f"bare-{destination}"


class QueuesAreTopics(Renaming):
    def renamed(self, destination):
        return "/topic/" + destination.rpartition("/")[2]


class OneQueueForAll(Renaming):
    def renamed(self, destination):
        return destination if destination.startswith("/topic/") else "/queue/all"


class NoScopes(Provider):
    def _address(self, destination):
        if ":" in destination:
            raise InvalidDestinationError(f"{destination!r} has a colon")
        return super()._address(destination)


class LosesOddNames(Provider):
    async def publish(self, destination, message, *, delay=0.0):
        return await super().publish(str(destination).replace(" ", "_"), message, delay=delay)


# Publishing


class SaysNothing(Provider):
    async def publish(self, destination, message, *, delay=0.0):
        await super().publish(destination, message, delay=delay)


class BuffersPublishes(Wire):
    async def publish(self, address, envelope, *, delay=0.0):
        later = super().publish
        asyncio.get_running_loop().call_later(0.5, lambda: asyncio.ensure_future(later(address, envelope, delay=delay)))


class DropsTheCrowd(Wire):
    _busy = False

    async def publish(self, address, envelope, *, delay=0.0):
        if self._busy:
            return
        self._busy = True
        try:
            await super().publish(address, envelope, delay=delay)
        finally:
            self._busy = False


class CancelWedges(Provider):
    async def publish(self, destination, message, *, delay=0.0):
        lock = self.__dict__.setdefault("_lock", asyncio.Lock())
        await lock.acquire()
        status = await super().publish(destination, message, delay=delay)
        lock.release()
        return status


class SaysAcceptedWhileAway(Provider):
    async def publish(self, destination, message, *, delay=0.0):
        try:
            return await super().publish(destination, message, delay=delay)
        except QueueConnectionError:
            return MessageStatus.ACCEPTED


class OneDelayQueue(Wire):
    _longest = 0.0

    async def publish(self, address, envelope, *, delay=0.0):
        self._longest = max(self._longest, delay)
        await super().publish(address, envelope, delay=self._longest if delay else 0.0)


class TopicsAreMandatory(Provider):
    async def publish(self, destination, message, *, delay=0.0):
        if str(destination).startswith("/topic/") and not self.health().active_subscriptions:
            raise UnroutableError("nobody listens")
        return await super().publish(destination, message, delay=delay)


class CutsLargeBodies(Wire):
    async def publish(self, address, envelope, *, delay=0.0):
        await super().publish(address, changed(envelope, body=envelope.message.body[: 1 << 20]), delay=delay)


class TooLargeSaysNoSize(Provider):
    async def publish(self, destination, message, *, delay=0.0):
        if len(message.body) > 1 << 20:
            raise InvalidMessageError("this message is too large")
        return await super().publish(destination, message, delay=delay)


class RefusesWhatWasDelivered(Provider):
    async def publish(self, destination, message, *, delay=0.0):
        if isinstance(message, QueueMessage) and message.destination is not None:
            raise InvalidMessageError("it was delivered already")
        return await super().publish(destination, message, delay=delay)


class KeepsDeadLetterHeaders(Provider):
    async def publish(self, destination, message, *, delay=0.0):
        if any(name.startswith(DEAD_LETTER_HEADER_PREFIX) for name in message.headers):
            await self._publisher.send(self._address(destination), Envelope(message), delay)
            return MessageStatus.ACCEPTED
        return await super().publish(destination, message, delay=delay)


class BatchNeedsOne(Provider):
    async def publish_batch(self, destination, messages):
        if not messages:
            raise InvalidMessageError("a batch needs a message")
        return await super().publish_batch(destination, messages)


class OneOfEachId(Provider):
    async def publish_batch(self, destination, messages):
        return await super().publish_batch(destination, list({m.message_id: m for m in messages}.values()))


class SendsTheGoodOnes(Provider):
    async def publish_batch(self, destination, messages):
        good = [message for message in messages if isinstance(message, QueueMessage)]
        if len(good) < len(messages):
            await super().publish_batch(destination, good)
        return await super().publish_batch(destination, messages)


# Checks


class NamesNoValue(Provider):
    async def subscribe(self, *args, **options):
        try:
            return await super().subscribe(*args, **options)
        except InvalidSubscriptionError:
            raise InvalidSubscriptionError("this must be an integer, or a string, and is not") from None

    async def subscribe_batch(self, *args, **options):
        try:
            return await super().subscribe_batch(*args, **options)
        except InvalidSubscriptionError:
            raise InvalidSubscriptionError("this must be an integer, or a float, and is not") from None


class AnyDeadLetterQueue(Provider):
    def _rules(self, destination, subscription, error_handling):
        if isinstance(error_handling, ErrorHandling) and error_handling.dead_letter_queue is not None:
            named = error_handling.dead_letter_queue
            if named.startswith("/topic/") or named == destination:
                error_handling = replace(error_handling, dead_letter_queue=None)
        return super()._rules(destination, subscription, error_handling)


class LongNamesAreCut(Provider):
    def _address(self, destination):
        return super()._address(destination[:150] if isinstance(destination, str) else destination)


# Handling


class Wrapping(Provider):
    """Passes every handling through ``handled``."""

    async def subscribe(self, destination, handler, **options):
        async def wrapped(message):
            return await self.handled(handler, message)

        self._errors = options.get("error_handling")
        return await super().subscribe(destination, wrapped if callable(handler) else handler, **options)


class PlainHandlersAck(Wrapping):
    async def handled(self, handler, message):
        answer = handler(message)
        return await answer if inspect.isawaitable(answer) else None


class RetriesInPlace(Wrapping):
    async def handled(self, handler, message):
        try:
            return await handler(message)
        except Exception:  # noqa: BLE001 - once more, at once: the mistake
            return await handler(message)


class LocksItself(Wrapping):
    async def handled(self, handler, message):
        async with self.__dict__.setdefault("_lock", asyncio.Lock()):
            return await handler(message)

    async def publish(self, destination, message, *, delay=0.0):
        async with self.__dict__.setdefault("_lock", asyncio.Lock()):
            return await super().publish(destination, message, delay=delay)


class LateFailuresAreDeadLettered(Wrapping):
    _losses = 0

    def _on_down(self):
        self._losses += 1
        super()._on_down()

    async def handled(self, handler, message):
        before = self._losses
        try:
            return await handler(message)
        except Exception:
            if self._losses > before:
                await self._connection.ensure()
                await super().publish(self._errors.dead_letter_queue, message)
            raise


class Hiding(Wrapping):
    """Hides a field of the message from the engine, in a header, and gives it back to the handler."""

    async def publish_batch(self, destination, messages):
        return await super().publish_batch(destination, [self.hidden(message) for message in messages])

    async def publish(self, destination, message, *, delay=0.0):
        return await super().publish(destination, self.hidden(message), delay=delay)

    def hidden(self, message):
        value = getattr(message, self.field)
        headers = {**message.headers, "test-hidden": str(value)}
        return message.changed(headers=MappingProxyType(headers), **{self.field: self.instead()})

    async def handled(self, handler, message):
        return await handler(message.changed(**{self.field: message.headers["test-hidden"]}))


class KeysAreNothing(Hiding):
    field = "ordering_key"

    def instead(self):
        return None


class OneKeyForAll(Hiding):
    field = "ordering_key"

    def instead(self):
        return "the same"


class IdsMayOverlap(Hiding):
    field = "message_id"
    _numbers_of_ids = count()

    def instead(self):
        return f"another-{next(self._numbers_of_ids)}"


class OtherErrorHandling(Provider):
    async def subscribe(self, destination, handler, **options):
        if isinstance(asked := options.get("error_handling"), ErrorHandling):
            options["error_handling"] = replace(asked, max_retries=self.retries(asked.max_retries))
        return await super().subscribe(destination, handler, **options)


class OneRetryMore(OtherErrorHandling):
    def retries(self, asked):
        return None if asked is None else asked + 1


class LimitOfTwenty(OtherErrorHandling):
    def retries(self, asked):
        return 20 if asked is None else asked


# Dead letters


class Burying(Wire):
    """Changes the headers of dead letters by ``facts``, and how long they wait."""

    wait = 0.0

    def facts(self, said):
        return said

    async def publish(self, address, envelope, *, delay=0.0):
        prefix = DEAD_LETTER_HEADER_PREFIX
        headers = envelope.message.headers
        said = {name.removeprefix(prefix): value for name, value in headers.items() if name.startswith(prefix)}
        if said:
            facts = {prefix + name: value for name, value in self.facts(said).items()}
            envelope, delay = changed(envelope, headers=MappingProxyType({**headers, **facts})), self.wait
        await super().publish(address, envelope, delay=delay)


class DeadSince1970(Burying):
    def facts(self, said):
        del said
        return {"time": "1970-01-01T00:00:00.000000+00:00"}


class CountsRejections(Burying):
    def facts(self, said):
        return {"attempts": str(int(said["attempts"]) + 1)} if said["reason"] == "rejected" else {}


class RejectsWait(Burying):
    wait = 60.0


class ForgetsWhence(Burying):
    def facts(self, said):
        return {"source": "", "subscription": ""} if said["reason"] == "undecodable" else {}


class EmptiesTheUndecodable(Wire):
    async def publish(self, address, envelope, *, delay=0.0):
        if envelope.message.headers.get(f"{DEAD_LETTER_HEADER_PREFIX}reason") == "undecodable":
            envelope = changed(envelope, body=b"")
        await super().publish(address, envelope, delay=delay)


class DropsWhatFailsInTheDeadLetterQueue(Wire):
    async def publish(self, address, envelope, *, delay=0.0):
        if address.destination.name.endswith("dlq") and not is_copy(envelope) and delay:
            return
        await super().publish(address, envelope, delay=delay)


# Subscriptions


class CancelLeavesAConsumer(Wire):
    async def consume(self, address, **how):
        return await asyncio.shield(asyncio.ensure_future(super().consume(address, **how)))


class PretendsToSubscribe(Provider):
    async def subscribe(self, destination, handler, **options):
        try:
            return await super().subscribe(destination, handler, **options)
        except QueueError as error:
            if not error.retryable:
                raise
            return SimpleNamespace(name="never", status=SubscriptionStatus.ACTIVE)


class CloseIsNothing(Provider):
    async def subscribe(self, *args, **options):
        subscription = await super().subscribe(*args, **options)

        async def nothing(*, timeout=None):
            pass

        subscription.close = nothing
        return subscription


class PausesOnce(Provider):
    async def subscribe(self, *args, **options):
        subscription = await super().subscribe(*args, **options)
        pause = subscription.pause

        async def once():
            if subscription.status is SubscriptionStatus.PAUSED:
                raise QueueError("it is paused")
            await pause()

        subscription.pause = once
        return subscription


class ReconnectResumes(Provider):
    def _on_up(self):
        for subscription in self._subscriptions:
            subscription.intake._paused = False
        super()._on_up()


class ClosedComesBack(Provider):
    async def subscribe(self, destination, handler, **options):
        subscription = await super().subscribe(destination, handler, **options)
        self.__dict__.setdefault("_asked", []).append((subscription, destination, handler))
        return subscription

    def _on_up(self):
        super()._on_up()
        for subscription, destination, handler in self.__dict__.get("_asked", []):
            if subscription.status is SubscriptionStatus.CLOSED:
                self._again = asyncio.ensure_future(super().subscribe(destination, handler))


class AgeIsNothing(Provider):
    def health(self):
        return replace(super().health(), last_message_age_seconds=0.0)


# Batches


class Batching(Provider):
    """Makes a batch subscription worse by ``spoil``, before it is live."""

    async def _start(self, live, rules, prefetch, concurrency):
        if isinstance(live, BatchSubscription):
            self.spoil(live)
        await super()._start(live, rules, prefetch, concurrency)


class SlidingWindow(Batching):
    def spoil(self, live):
        arrived = live.arrived

        def later(item):
            arrived(item)
            now = asyncio.get_running_loop().time()
            live._buffer = deque((item, now) for item, _ in live._buffer)
            live._wake()

        live.arrived = later


class FullBatchesWait(Batching):
    def spoil(self, live):
        live._max_messages *= 2


class CloseLeavesIterators(Batching):
    def spoil(self, live):
        live._wake = lambda: BatchSubscription._wake(live) if live._buffer else None


class SwallowsTheNext(Provider):
    async def subscribe_batch(self, *args, **options):
        handle = await super().subscribe_batch(*args, **options)

        class Handle:
            def __aiter__(self):
                return self

            async def __anext__(self):
                return await asyncio.shield(asyncio.ensure_future(anext(handle)))

            def __getattr__(self, name):
                return getattr(handle, name)

        return Handle()


class StopAcksBatches(Provider):
    async def stop(self, *, timeout=30.0):
        for live in list(self._subscriptions):
            if isinstance(live, BatchSubscription) and not live.closer.begun:
                await live.ack([message for message, _ in live._held.values()])
        await super().stop(timeout=timeout)


# Stopping


class StopCancelsSome(Provider):
    async def stop(self, *, timeout=30.0):
        if self._loop is not None:
            every_other = count()
            self._publisher.abort("the provider was stopped", but=lambda _: next(every_other) % 2 == 0)
        await super().stop(timeout=timeout)


class StopLeavesTheConnection(Wire):
    async def close(self):
        pass

    async def consume(self, address, **how):
        consumer = await super().consume(address, **how)
        consumer.close = consumer.cancel
        return consumer


class StopNeedsABroker(Provider):
    async def stop(self, *, timeout=30.0):
        if self._loop is not None and not self._stopped:
            await self._connection.ensure()
        await super().stop(timeout=timeout)


class StopDropsWhatItHolds(Wire):
    async def consume(self, address, *, on_delivery, **how):
        held = self.__dict__.setdefault("_held", [])

        def deliver(delivery):
            held.append(delivery)
            on_delivery(delivery)

        consumer = await super().consume(address, on_delivery=deliver, **how)
        consumer.close = self._drop
        return consumer

    async def _drop(self):
        for delivery in self.__dict__.get("_held", []):
            with contextlib.suppress(QueueError):
                await delivery.ack()

    async def close(self):
        await self._drop()
        await super().close()


MUTANTS = {
    FoldsNames: ("q10-different-names-are-different-queues",),
    FoldsTopics: ("q10-topic-names-may-be-scoped-too",),
    BareIsAnother: ("q10-bare-name-and-queue-prefix-are-the-same",),
    QueuesAreTopics: ("q10-topic-and-queue-of-one-name-are-two-things",),
    OneQueueForAll: ("q1-messages-reach-their-own-queue-only",),
    NoScopes: ("q10-execution-scoped-names-work",),
    LosesOddNames: ("q10-unusual-names-work-or-are-refused",),
    SaysNothing: ("q1-publish-answers-accepted",),
    BuffersPublishes: ("q1-accepted-survives-a-killed-publisher",),
    DropsTheCrowd: ("q1-concurrent-publishers-lose-nothing",),
    CancelWedges: ("q1-cancelled-publish-leaves-the-provider-usable",),
    SaysAcceptedWhileAway: ("q1-unreachable-broker-raises-connection-error",),
    OneDelayQueue: ("q1-delays-do-not-hold-up-each-other",),
    TopicsAreMandatory: ("q1-topic-without-subscriptions-drops",),
    CutsLargeBodies: ("q7-large-bodies-survive",),
    TooLargeSaysNoSize: ("q10-huge-bodies-survive-or-are-refused",),
    RefusesWhatWasDelivered: ("q7-delivered-message-may-be-published-as-it-is",),
    KeepsDeadLetterHeaders: ("q2-republished-dead-letter-starts-anew",),
    BatchNeedsOne: ("q1-empty-batch-is-complete",),
    OneOfEachId: ("q1-batch-with-an-id-twice-sends-both",),
    SendsTheGoodOnes: ("q10-batch-with-bad-input-sends-nothing",),
    NamesNoValue: ("q10-bad-subscriptions-are-refused", "q10-bad-batch-subscriptions-are-refused"),
    AnyDeadLetterQueue: ("q10-bad-dead-letter-queues-are-refused",),
    LongNamesAreCut: ("q10-bad-destinations-are-refused",),
    PlainHandlersAck: ("q11-handler-that-is-not-asynchronous-loses-nothing",),
    RetriesInPlace: ("q4-retried-message-goes-behind",),
    LocksItself: ("q11-handler-may-use-its-own-provider",),
    LateFailuresAreDeadLettered: ("q2-late-verdicts-are-dropped",),
    KeysAreNothing: ("q4-ordering-key-keeps-its-order-under-concurrency",),
    OneKeyForAll: ("q4-slow-key-holds-up-no-other",),
    IdsMayOverlap: ("q6-no-two-handlers-for-one-message-id",),
    OneRetryMore: ("q2-no-retries-means-none", "q2-retries-are-bounded"),
    LimitOfTwenty: ("q2-retries-without-limit-have-none",),
    DeadSince1970: ("q2-dead-letter-says-why-and-whence",),
    CountsRejections: ("q2-rejected-dead-letter-counts-its-attempts",),
    RejectsWait: ("q2-reject-goes-to-the-dead-letter-queue",),
    EmptiesTheUndecodable: ("q10-undecodable-message-is-dead-lettered",),
    ForgetsWhence: ("q10-undecodable-message-is-dead-lettered",),
    DropsWhatFailsInTheDeadLetterQueue: ("q2-what-fails-in-the-dead-letter-queue-comes-again",),
    CancelLeavesAConsumer: ("q5-cancelled-subscribe-leaves-nothing-behind",),
    PretendsToSubscribe: ("q5-subscribe-without-a-broker-is-honest",),
    CloseIsNothing: ("q5-closed-subscription-gets-nothing-more",),
    PausesOnce: ("q5-pause-and-resume-may-be-repeated",),
    ReconnectResumes: ("q9-paused-subscription-comes-back-paused",),
    ClosedComesBack: ("q9-subscription-closed-while-disconnected-stays-closed",),
    AgeIsNothing: ("q9-health-knows-the-age-of-the-last-message",),
    SlidingWindow: ("q2-partial-batch-comes-after-max-wait",),
    FullBatchesWait: ("q2-full-batch-comes-at-once",),
    CloseLeavesIterators: ("q8-iteration-ends-when-the-handle-closes",),
    SwallowsTheNext: ("q2-abandoned-iteration-loses-nothing",),
    StopAcksBatches: ("q2-unsettled-goes-back-when-the-handle-closes",),
    StopCancelsSome: ("q8-publishes-in-flight-finish",),
    StopLeavesTheConnection: ("q8-returned-messages-are-available-at-once",),
    StopNeedsABroker: ("q8-stop-works-without-a-broker",),
    StopDropsWhatItHolds: ("q2-concurrent-stops-lose-nothing",),
}
"""Each mutant, and the behaviours that must fail on it."""
