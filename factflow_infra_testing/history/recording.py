"""Recorders: the two protocols again, around any provider, that write the history as a process sees it.

They change nothing: same arguments, same results, same errors. Each also tells its process what it is busy with, so that
a kill can be aimed at "while it publishes to invoices" instead of at a step number.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from factflow_infra.errors import InfraError, PublishUnconfirmedError, WriteUnconfirmedError
from factflow_infra.protocols import ErrorHandling, MessageStatus, QueueMessage
from factflow_infra_testing.history.operations import FAIL, INFO, OK, REDELIVERED, History, Operation, subscribed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence
    from types import TracebackType
    from typing import Self

    from factflow_infra.protocols import (
        BatchHandleProtocol,
        BatchMessage,
        BatchResult,
        MessageHandler,
        QueueHealth,
        QueueProtocol,
        Subscription,
        SubscriptionStatus,
    )


T = TypeVar("T")


class Recorder(Protocol):
    """Who the operations belong to: a process of the simulation, or the test itself."""

    history: History

    @property
    def name(self) -> str: ...
    def time(self) -> float: ...
    def busy(self, activity: str) -> None:
        """What the process is doing now."""
        ...


def outcome_of(error: BaseException) -> str:
    """``FAIL`` where the error says that nothing happened, ``INFO`` where that cannot be known."""
    if isinstance(error, (PublishUnconfirmedError, WriteUnconfirmedError)) or not isinstance(error, InfraError):
        return INFO
    return FAIL


def name_of(error: BaseException) -> str:
    return type(error).__name__


def _all_messages(messages: object) -> bool:
    return isinstance(messages, (list, tuple)) and all(
        isinstance(message, QueueMessage) for message in cast("list[object]", messages)
    )


def _begin_handling(recorder: Recorder, target: str, message: QueueMessage, broker: str) -> Operation:
    detail = f"{REDELIVERED}, delivery {message.delivery_count}" if message.redelivered else ""
    operation = recorder.history.begin(recorder.time(), recorder.name, "handle", target, message.message_id, detail)
    operation.broker = broker
    return operation


def _behind(handling: Operation, how: str) -> str:
    """``how`` a handling ended, behind what was known of its message when it began."""
    begun = handling.detail.partition(":")[0]
    return f"{begun}: {how}" if begun.startswith(REDELIVERED) else how


class RecordedQueue:
    """A queue provider whose publishes and handlings are in the history. ``canonical`` gives destinations one spelling;
    ``subscribing`` is told how each subscription handles errors, ``failing`` what a handler raised, or returned that is no verdict, of
    which process and destination; ``broker`` is the profile that it is on.
    """

    def __init__(
        self,
        provider: QueueProtocol,
        recorder: Recorder,
        canonical: Callable[[str], str],
        subscribing: Callable[[ErrorHandling], None],
        failing: Callable[[str, str, object], None],
        broker: str = "",
    ) -> None:
        self.provider = provider
        self._broker = broker
        self._subscribing = subscribing
        self._failing = failing
        self._recorder = recorder
        self._canonical = canonical

    async def publish(self, destination: str, message: QueueMessage, *, delay: float = 0.0) -> MessageStatus:
        operation = self._begin_publish(destination, message)
        try:
            status = await self.provider.publish(destination, message, delay=delay)
        except BaseException as error:
            self._recorder.history.finish(operation, self._recorder.time(), outcome_of(error), name_of(error))
            raise
        self._recorder.history.finish(operation, self._recorder.time(), OK)
        return status

    async def publish_batch(self, destination: str, messages: Sequence[QueueMessage]) -> BatchResult:
        if not _all_messages(messages):
            return await self.provider.publish_batch(
                destination, messages
            )  # bad input: the provider says what is wrong
        operations = [self._begin_publish(destination, message) for message in messages]
        try:
            result = await self.provider.publish_batch(destination, messages)
        except BaseException as error:
            for operation in operations:
                self._recorder.history.finish(operation, self._recorder.time(), outcome_of(error), name_of(error))
            raise
        for operation, item in zip(operations, result.results, strict=True):
            if item.error is None:
                self._recorder.history.finish(operation, self._recorder.time(), OK)
            else:
                self._recorder.history.finish(
                    operation, self._recorder.time(), outcome_of(item.error), name_of(item.error)
                )
        return result

    def _begin_publish(self, destination: str, message: QueueMessage) -> Operation:
        recorder = self._recorder
        target = self._canonical(destination)
        recorder.busy(f"publish {target}")
        operation = recorder.history.begin(
            recorder.time(),
            recorder.name,
            "publish",
            target,
            getattr(message, "message_id", ""),
            getattr(message, "ordering_key", None) or "",
        )
        operation.broker = self._broker
        return operation

    async def subscribe(
        self,
        destination: str,
        handler: MessageHandler,
        *,
        subscription: str | None = None,
        concurrency: int = 1,
        prefetch: int | None = None,
        error_handling: ErrorHandling = ErrorHandling(),  # noqa: B008 - frozen
    ) -> Subscription:
        recorder = self._recorder
        self._subscribing(error_handling)
        target = subscribed(self._canonical(destination), subscription)

        async def recorded(message: QueueMessage) -> MessageStatus | None:
            recorder.busy(f"handle {target}")
            operation = _begin_handling(recorder, target, message, self._broker)
            try:
                verdict = await handler(message)
            except asyncio.CancelledError:
                recorder.history.finish(operation, recorder.time(), INFO, _behind(operation, "cancelled"))
                raise
            except BaseException as error:
                recorder.history.finish(operation, recorder.time(), FAIL, _behind(operation, name_of(error)))
                self._failing(recorder.name, target, error)
                raise
            acked = verdict is None or verdict is MessageStatus.ACK
            if not acked and not isinstance(verdict, MessageStatus):
                self._failing(recorder.name, target, verdict)
            told = _behind(operation, "ack" if acked else str(verdict))
            recorder.history.finish(operation, recorder.time(), OK if acked else FAIL, told)
            recorder.busy(f"settle {target}")
            return verdict

        return await self.provider.subscribe(
            destination,
            recorded if callable(handler) else handler,  # bad input: the provider says what is wrong
            subscription=subscription,
            concurrency=concurrency,
            prefetch=prefetch,
            error_handling=error_handling,
        )

    async def subscribe_batch(
        self,
        destination: str,
        *,
        max_messages: int,
        max_wait: float,
        subscription: str | None = None,
        error_handling: ErrorHandling = ErrorHandling(),  # noqa: B008 - frozen
    ) -> BatchHandleProtocol:
        self._subscribing(error_handling)
        handle = await self.provider.subscribe_batch(
            destination,
            max_messages=max_messages,
            max_wait=max_wait,
            subscription=subscription,
            error_handling=error_handling,
        )
        target = subscribed(self._canonical(destination), subscription)
        return _RecordedBatches(handle, self._recorder, target, self._broker)

    async def stop(self, *, timeout: float | None = 30.0) -> None:
        self._recorder.busy("stop")
        await self.provider.stop(timeout=timeout)

    def health(self) -> QueueHealth:
        return self.provider.health()

    async def __aenter__(self) -> Self:
        enter: Any = getattr(self.provider, "__aenter__", None)
        if enter is not None:
            await enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


class _RecordedBatches:
    """A batch handle: a message is being handled from its batch's arrival until it is settled."""

    def __init__(self, handle: BatchHandleProtocol, recorder: Recorder, target: str, broker: str) -> None:
        self._handle = handle
        self._broker = broker
        self._recorder = recorder
        self._target = target
        self._open: dict[int, Operation] = {}

    @property
    def destination(self) -> str:
        return self._handle.destination

    @property
    def name(self) -> str:
        return self._handle.name

    @property
    def status(self) -> SubscriptionStatus:
        return self._handle.status

    async def __aiter__(self) -> AsyncIterator[BatchMessage]:
        recorder = self._recorder
        async for batch in self._handle:
            recorder.busy(f"handle {self._target}")
            for message in batch:
                self._open[id(message)] = _begin_handling(recorder, self._target, message, self._broker)
            yield batch

    async def ack(self, settled: BatchMessage | QueueMessage | Iterable[QueueMessage]) -> None:
        await self._settle(self._handle.ack, settled, OK, "ack")

    async def retry(self, settled: BatchMessage | QueueMessage | Iterable[QueueMessage]) -> None:
        await self._settle(self._handle.retry, settled, FAIL, "retry")

    async def reject(self, settled: BatchMessage | QueueMessage | Iterable[QueueMessage]) -> None:
        await self._settle(self._handle.reject, settled, FAIL, "reject")

    async def _settle(self, settle: Any, settled: Any, outcome: str, detail: str) -> None:
        if hasattr(settled, "__next__"):
            settled = list(settled)  # an iterator can be read once
        messages = [settled] if isinstance(settled, QueueMessage) else settled
        taken: dict[int, Operation] = {}
        # What is no message is bad input, and the handle says what is wrong.
        if hasattr(messages, "__iter__") and _all_messages(messages := list(messages)):
            self._recorder.busy(f"settle {self._target}")
            for message in messages:
                operation = self._open.pop(id(message), None)
                if operation is not None:
                    taken[id(message)] = operation
        for operation in taken.values():
            if operation.completed is None:
                self._recorder.history.finish(operation, self._recorder.time(), outcome, _behind(operation, detail))
        settled_none = False
        try:
            await settle(settled)
        except BaseException as error:
            # Part of it may be unsettled still: a later verdict on that is the one that counts.
            self._open.update(taken)
            settled_none = isinstance(error, InfraError)
            raise
        finally:
            if not settled_none:
                for operation in taken.values():
                    told = _behind(operation, detail)
                    self._recorder.history.finish(operation, operation.completed or 0.0, outcome, told)

    async def close(self, *, timeout: float | None = 30.0) -> None:
        self._recorder.busy("stop")
        await self._handle.close(timeout=timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
