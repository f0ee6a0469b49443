"""A batch subscription: messages gathered up to a number or a time, and settled by whoever took them."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from factflow_infra.errors import InvalidMessageError, SubscriptionClosedError
from factflow_infra.queue.live import LiveSubscription
from factflow_infra.queue.messages import BatchMessage, MessageStatus, QueueMessage
from factflow_infra.queue.settling import deliveries

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from typing import Self

    from factflow_infra.queue.intake import Item, Session
    from factflow_infra.queue.options import EngineOptions
    from factflow_infra.queue.settling import Decision, Rules
    from factflow_infra.queue.tasks import Tasks


class BatchSubscription(LiveSubscription):
    """What ``subscribe_batch`` returns."""

    def __init__(
        self,
        *,
        name: str,
        max_messages: int,
        max_wait: float,
        rules: Rules,
        options: EngineOptions,
        tasks: Tasks,
        on_closed: Callable[[BatchSubscription], None],
    ) -> None:
        super().__init__(name=name, rules=rules, options=options, tasks=tasks, on_closed=on_closed)
        self._max_messages = max_messages
        self._max_wait = max_wait
        self._buffer: deque[tuple[Item, float]] = deque()
        # What was given out, by identity: two messages may be equal. The message is kept so that its id() stays its own.
        self._held: dict[int, tuple[QueueMessage, Item]] = {}
        self._lost: dict[int, None] = {}
        self._remember = 4 * max_messages
        self._waiters: list[asyncio.Future[None]] = []

    # Taking in

    def arrived(self, item: Item) -> None:
        if (decision := self._unhandled(item)) is not None:
            self._settle_in_background(self._settle_one(item, decision))
            return
        self._buffer.append((item, self._tasks.loop.time()))
        if len(self._buffer) == 1 or len(self._buffer) >= self._max_messages:
            self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def withdraw(self, session: Session) -> list[Item]:
        taken = [item for item, _ in self._buffer if item.session is session]
        self._buffer = deque(entry for entry in self._buffer if entry[0].session is not session)
        if not session.alive:
            self._forget_lost(session)
        return taken

    def _forget_lost(self, session: Session) -> None:
        """A verdict on a lost message is dropped without an error, while it is remembered which they are."""
        self._lost.update((key, None) for key, (_, item) in self._held.items() if item.session is session)
        while len(self._lost) > self._remember:
            oldest = next(iter(self._lost))
            del self._lost[oldest], self._held[oldest]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> BatchMessage:
        """The next batch. Cancelled while it waits, it has taken nothing."""
        loop = self._tasks.loop
        while not self.closer.begun:
            if self._buffer:
                left = self._buffer[0][1] + self._max_wait - loop.time()
                if left <= 0 or len(self._buffer) >= self._max_messages:
                    return self._batch()
            else:
                left = None
            waiter = loop.create_future()
            self._waiters.append(waiter)
            timer = None if left is None else loop.call_later(left, _set, waiter)
            try:
                await waiter
            finally:
                if timer is not None:
                    timer.cancel()
                if waiter in self._waiters:  # it was cancelled, or its time is over
                    self._waiters.remove(waiter)
        raise StopAsyncIteration

    def _batch(self) -> BatchMessage:
        self.last_progress = self._tasks.loop.time()
        messages: list[QueueMessage] = []
        while self._buffer and len(messages) < self._max_messages:
            item, _ = self._buffer.popleft()
            delivery = item.delivery
            count = deliveries(delivery.envelope, redelivered=delivery.redelivered, counted=delivery.delivery_count)
            message = delivery.envelope.message.delivered(self._destination, count, redelivered=count > 1)
            self._held[id(message)] = (message, item)
            messages.append(message)
        if self._buffer:
            self._wake()  # for another who iterates
        return BatchMessage(tuple(messages))

    # Settling

    async def ack(self, settled: BatchMessage | QueueMessage | Iterable[QueueMessage]) -> None:
        """These are done. Raises ``SubscriptionClosedError``, settling none, if one is not held here (any more)."""
        await self._settle(settled, MessageStatus.ACK)

    async def retry(self, settled: BatchMessage | QueueMessage | Iterable[QueueMessage]) -> None:
        """The handling of these failed: each comes again, or goes to the dead-letter queue. Raises as ``ack``."""
        await self._settle(settled, MessageStatus.RETRY)

    async def reject(self, settled: BatchMessage | QueueMessage | Iterable[QueueMessage]) -> None:
        """These go to the dead-letter queue. Raises as ``ack``."""
        await self._settle(settled, MessageStatus.REJECT)

    async def _settle(self, settled: object, verdict: MessageStatus) -> None:
        if self.closer.begun:
            raise SubscriptionClosedError(
                f"the batch handle of {self._destination!r} is closed; what was not settled went back to the broker"
            )
        chosen = self._claim(settled)
        work = self._settle_in_background(self._settle_all(chosen, verdict))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError as error:
            if work.cancelled():
                raise SubscriptionClosedError(
                    f"the batch handle of {self._destination!r} was closed before all was settled; the rest went back"
                ) from error
            work.cancel()
            await asyncio.wait([work])
            raise

    def _claim(self, settled: object) -> dict[int, tuple[QueueMessage, Item]]:
        chosen: dict[int, tuple[QueueMessage, Item]] = {}
        for message in _messages(settled):
            held = self._held.get(id(message))
            if held is None:
                raise SubscriptionClosedError(
                    f"message {message.message_id!r} is not held by this batch handle: it is settled already, or is not"
                    " the very message that a batch of this handle gave"
                )
            chosen[id(message)] = held
        for key in chosen:
            del self._held[key]
            self._lost.pop(key, None)  # once the message is freed, another may have its id()
        return chosen

    async def _settle_all(self, chosen: dict[int, tuple[QueueMessage, Item]], verdict: MessageStatus) -> None:
        try:
            for key, (_, item) in list(chosen.items()):
                await self._settle_one(item, self._decide(item, verdict))
                del chosen[key]
        finally:
            self._held.update(chosen)  # the rest of a settling that was cancelled is held still
            self._lost.update((key, None) for key, (_, item) in chosen.items() if not item.session.alive)
            self.last_progress = self._tasks.loop.time()

    async def _settle_one(self, item: Item, decision: Decision) -> None:
        if not await self._settler.try_once(item, decision):
            await self._settler.until_done(item, decision)
        self._intake.settled(item.session)

    # Closing

    def _stop_taking(self) -> Coroutine[Any, Any, None]:
        self._wake()
        return super()._stop_taking()

    async def _end(self) -> None:
        self._wake()
        await super()._end()


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _messages(settled: object) -> list[QueueMessage]:
    if isinstance(settled, QueueMessage):
        return [settled]
    if not isinstance(settled, (str, bytes)) and hasattr(settled, "__iter__"):
        messages = list(cast("Iterable[object]", settled))
        for message in messages:
            if not isinstance(message, QueueMessage):
                break
        else:
            return cast("list[QueueMessage]", messages)
    raise InvalidMessageError(
        f"what is settled must be a BatchMessage, a QueueMessage or several, got {type(settled).__name__}: {settled!r}"
    )
