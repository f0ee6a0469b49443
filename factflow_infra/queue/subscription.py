"""A subscription with a handler: up to ``concurrency`` workers, each message's turn, and what its verdict leads to.

A worker takes the next message itself and awaits the handler in its own task: no task and no timer for each message.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any, Final

from factflow_infra.errors import QueueStoppedError
from factflow_infra.queue.live import LiveSubscription
from factflow_infra.queue.messages import MessageStatus
from factflow_infra.queue.settling import deliveries
from factflow_infra.queue.timestamps import utc_now
from factflow_infra.queue.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from factflow_infra.queue.intake import Item, Session
    from factflow_infra.queue.messages import MessageHandler, QueueMessage
    from factflow_infra.queue.options import EngineOptions
    from factflow_infra.queue.settling import Decision, Rules
    from factflow_infra.queue.tasks import Tasks

_YIELD_EVERY: Final = 16
"""Messages that a worker may handle in a row without giving way: handlers and acks need not suspend."""
_CANCELLED_REMEMBERED: Final = 256
"""Message ids whose handlers cancelled themselves that are remembered, for longer and longer pauses."""

HANDLING: contextvars.ContextVar[object] = contextvars.ContextVar("factflow_queue_handling", default=None)
"""The provider in one of whose handlers the code runs: a handler may still publish while its provider stops."""


class _Worker:
    """A task that handles messages, and what it has in hand."""

    __slots__ = ("item", "task")

    def __init__(self) -> None:
        self.item: Item | None = None
        self.task: asyncio.Task[Any] | None = None


class HandlerSubscription(LiveSubscription):
    """What ``subscribe`` returns."""

    def __init__(
        self,
        *,
        owner: object,
        name: str,
        handler: MessageHandler,
        concurrency: int,
        rules: Rules,
        options: EngineOptions,
        tasks: Tasks,
        on_closed: Callable[[HandlerSubscription], None],
    ) -> None:
        super().__init__(name=name, rules=rules, options=options, tasks=tasks, on_closed=on_closed)
        self._handler = handler
        self._concurrency = concurrency
        self._options = options
        self._turns = Turns()
        self._workers: dict[_Worker, None] = {}
        self._idle: list[asyncio.Future[None]] = []
        self._self_cancelled: dict[str, int] = {}
        self._over = False
        self._context = contextvars.copy_context()
        self._context.run(HANDLING.set, owner)

    # Taking in

    def arrived(self, item: Item) -> None:
        self._turns.add(item)
        if self._idle:
            self._wake()
        elif len(self._workers) < self._concurrency:
            self._hire()

    def withdraw(self, session: Session) -> list[Item]:
        items = self._turns.withdraw(session)
        if self._turns.ready:
            self._wake()
        return items

    def _wake(self) -> None:
        while self._idle:
            waiter = self._idle.pop()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _hire(self) -> None:
        worker = _Worker()
        self._workers[worker] = None
        worker.task = self._tasks.start(self._work(worker), f"factflow-queue-worker {self._name}", self._context)
        worker.task.add_done_callback(lambda task: self._left(worker, task))

    def _left(self, worker: _Worker, task: asyncio.Task[Any]) -> None:
        """A worker's task has ended. Only what escapes the handler ends it with a message in hand."""
        self._workers.pop(worker, None)
        item, worker.item = worker.item, None
        if item is not None:
            error = None if task.cancelled() else task.exception()
            if isinstance(error, GeneratorExit):
                self._later(item, self._settle(item, self._decide(item, error)))
            else:
                self._later(item, self._release(item))
        if self._turns.ready and not self._over and len(self._workers) < self._concurrency:
            self._hire()

    # Handling

    async def _work(self, worker: _Worker) -> None:
        turns, tasks = self._turns, self._tasks
        fresh = contextvars.copy_context()
        in_a_row = 0
        while not self._over:
            item = turns.take()
            if item is None:
                if self.closer.begun:
                    return
                waiter = tasks.loop.create_future()
                self._idle.append(waiter)
                try:
                    await waiter
                except asyncio.CancelledError:
                    if waiter in self._idle:
                        self._idle.remove(waiter)
                    else:
                        self._wake()  # it was woken for a message that another must take now
                    raise
                in_a_row = 0
                continue
            worker.item = item
            done = await self._handle(item)
            worker.item = None
            if done:
                self._done(item)
            if contextvars.copy_context() != fresh:
                return  # the handler has set context variables, which must not leak into the next message's
            in_a_row += 1
            if in_a_row >= _YIELD_EVERY:
                in_a_row = 0
                await asyncio.sleep(0)

    def _done(self, item: Item) -> None:
        """``item`` is settled or given back: whoever waited for it may go."""
        self._turns.done(item)
        session = item.session
        session.held -= 1
        if not session.taking:
            self._intake.room(session)
        if self._idle and self._turns.ready:
            self._wake()

    async def _handle(self, item: Item) -> bool:
        """Handle one message and settle it. False where settling goes on in the background."""
        delivery = item.delivery
        self.last_progress = self._tasks.loop.time()
        if (decision := self._unhandled(item)) is not None:
            return await self._settle_or_later(item, decision)
        envelope = delivery.envelope
        count = deliveries(envelope, redelivered=delivery.redelivered, counted=delivery.delivery_count)
        message = envelope.message.delivered(self._destination, count, redelivered=count > 1)
        try:
            outcome: object = await self._handler(message)
        except asyncio.CancelledError:
            return await self._handling_cancelled(item, message)
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise  # the task's end settles the message; see _left
        except BaseException as error:  # noqa: BLE001  # the handler is not ours: whatever it raises is a failed handling
            if isinstance(error, QueueStoppedError) and self.closer.begun:
                # It could not finish because its provider is stopping: that is not the message's fault.
                await self._intake.release_begun(item)
                return True
            outcome = error
        if self._self_cancelled:
            self._self_cancelled.pop(message.message_id, None)
        if outcome is None or outcome is MessageStatus.ACK:
            if item.session.alive:
                await self._settler.ack(item)
            return True
        return await self._settle_or_later(item, self._rules.after(envelope, count, outcome, utc_now()))

    async def _handling_cancelled(self, item: Item, message: QueueMessage) -> bool:
        task = asyncio.current_task()
        if self.closer.begun or (task is not None and task.cancelling()):
            await self._intake.release_begun(item)
            if not self.closer.begun:
                raise asyncio.CancelledError
            return True
        # Nobody cancelled the worker: something within the handler did. The message goes back all the same, but a handler
        # that does so each time must not spin.
        times = self._self_cancelled.pop(message.message_id, 0)
        if len(self._self_cancelled) >= _CANCELLED_REMEMBERED:
            del self._self_cancelled[next(iter(self._self_cancelled))]
        self._self_cancelled[message.message_id] = times + 1
        if times:
            pause = min(self._options.reconnect_cap, self._options.reconnect_base * 2.0 ** min(times - 1, 64))
            self._later(item, self._release(item, pause))
            return False
        await self._intake.release_begun(item)
        return True

    # Settling

    async def _settle_or_later(self, item: Item, decision: Decision) -> bool:
        if await self._settler.try_once(item, decision):
            return True
        # The worker goes on with the next message: one that cannot be settled now must not stop the rest.
        self._later(item, self._settle(item, decision, tried=True))
        return False

    async def _settle(self, item: Item, decision: Decision, *, tried: bool = False) -> None:
        if tried or not await self._settler.try_once(item, decision):
            await self._settler.until_done(item, decision)

    async def _release(self, item: Item, pause: float = 0.0) -> None:
        if pause:
            await asyncio.wait([item.session.ended], timeout=pause)
        await self._intake.release_begun(item)

    def _later(self, item: Item, work: Coroutine[Any, Any, None]) -> None:
        """Settle ``item`` in the background; it keeps its turn, and counts as held, until ``work`` has ended."""
        self._settle_in_background(work, lambda: self._done(item))

    # Pausing and closing

    async def pause(self) -> None:
        await self._intake.pause()

    async def resume(self) -> None:
        self._intake.resume()

    def _running(self) -> list[asyncio.Task[Any]]:
        return [*(worker.task for worker in self._workers if worker.task is not None), *super()._running()]

    def _stop_taking(self) -> Coroutine[Any, Any, None]:
        while self._idle:
            self._wake()
        return super()._stop_taking()

    async def _end(self) -> None:
        self._over = True
        await super()._end()
