"""Publishing: checks before any I/O, a bound on the time that an answer may take, and truth about the outcome."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from factflow_infra.errors import InfraError, InvalidMessageError, PublishUnconfirmedError
from factflow_infra.queue.messages import (
    DEAD_LETTER_HEADER_PREFIX,
    BatchItemResult,
    BatchResult,
    MessageStatus,
    QueueMessage,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterator
    from typing import Any

    from factflow_infra.queue.options import EngineOptions
    from factflow_infra.queue.transport import Address, Envelope, Transport


class Publisher:
    """Sends over a transport, and knows what is in flight."""

    def __init__(self, transport: Transport, options: EngineOptions, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._timeout = options.publish_timeout
        self._loop = loop
        self._time = loop.time
        # When each began; in the order of beginning, so the first is the next to time out.
        self._in_flight: dict[asyncio.Task[Any], float] = {}
        self._aborted: dict[asyncio.Task[Any], str] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._idle: asyncio.Future[None] | None = None
        self._expected = 0

    @contextmanager
    def expected(self) -> Generator[None]:
        """What runs within is about to send: it counts as in flight."""
        self._expected += 1
        try:
            yield
        finally:
            self._expected -= 1
            self._check_idle()

    def _check_idle(self) -> None:
        if self._idle is not None and not self._in_flight and not self._expected:
            self._idle.set_result(None)
            self._idle = None

    async def send(self, address: Address, envelope: Envelope, delay: float) -> None:
        """Return once the broker holds the message.

        Raises what ``Transport.publish`` raises, and ``PublishUnconfirmedError`` when the answer takes too long, when
        ``abort`` is called, or when the client library cancels by itself. The caller's own cancellation propagates.
        """
        task = cast("asyncio.Task[Any]", asyncio.current_task(self._loop))
        cancels = task.cancelling()
        self._in_flight[task] = self._time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout, self._expire)
        try:
            await self._transport.publish(address, envelope, delay=delay)
        except asyncio.CancelledError as error:
            if (reason := self._aborted.pop(task, None)) is not None:
                if task.uncancel() > cancels:
                    raise
            elif task.cancelling() > cancels:
                raise
            else:
                reason = "the client library cancelled the publish by itself"
            raise _unconfirmed(envelope, address, reason) from error
        finally:
            del self._in_flight[task]
            if self._aborted and self._aborted.pop(task, None) is not None:
                task.uncancel()  # it ended in another way before the abort reached it
            if self._idle is not None:
                self._check_idle()

    def _expire(self) -> None:
        # One timer for all, not one each: most publishes are confirmed long before, and a timer costs more than they do.
        self._timer = None
        now = self._time()
        for task, since in self._in_flight.items():
            if task in self._aborted:
                continue
            left = since + self._timeout - now
            if left > 0:
                self._timer = self._loop.call_later(left, self._expire)
                return
            self._abort(task, f"no confirmation within {self._timeout} s")

    def _abort(self, task: asyncio.Task[Any], reason: str) -> None:
        self._aborted[task] = reason
        task.cancel()

    def abort(self, reason: str, *, but: Callable[[asyncio.Task[Any]], bool]) -> None:
        """End what is in flight with ``PublishUnconfirmedError``, except in the tasks for which ``but`` is true."""
        for task in list(self._in_flight):
            if task not in self._aborted and not but(task):
                self._abort(task, reason)

    def in_flight(self) -> list[asyncio.Future[None]]:
        """A future that is done once nothing is in flight; none where nothing is."""
        if not self._in_flight and not self._expected:
            return []
        if self._idle is None:
            self._idle = self._loop.create_future()
        return [self._idle]

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _unconfirmed(envelope: Envelope, address: Address, reason: str) -> PublishUnconfirmedError:
    return PublishUnconfirmedError(
        f"message {envelope.message.message_id!r} to {address.destination.text!r} may or may not have been taken: {reason}"
    )


def outgoing(message: object, max_bytes: int) -> QueueMessage:
    """``message`` as it is to be sent: checked, and without what an earlier delivery left on it.

    Raises ``InvalidMessageError``.
    """
    if not isinstance(message, QueueMessage):
        raise InvalidMessageError(
            f"message must be a QueueMessage, got {type(message).__name__}; QueueMessage.from_json(obj) makes one of JSON"
        )
    headers = message.headers
    size = len(message.body) + len(message.message_id.encode()) + len(message.content_type.encode())
    if message.correlation_id is not None:
        size += len(message.correlation_id.encode())
    if message.ordering_key is not None:
        size += len(message.ordering_key.encode())
    if headers:
        for name, value in headers.items():
            size += len(name.encode()) + len(value.encode())
            if name.startswith(DEAD_LETTER_HEADER_PREFIX):
                kept = {k: v for k, v in headers.items() if not k.startswith(DEAD_LETTER_HEADER_PREFIX)}
                return outgoing(message.changed(headers=MappingProxyType(kept)), max_bytes)
    if size > max_bytes:
        raise InvalidMessageError(
            f"message {message.message_id[:80]!r} has {size} bytes of body, headers and ids; at most {max_bytes} are allowed"
        )
    if message.delivery_count or message.destination is not None or message.redelivered:
        return message.changed(destination=None, delivery_count=0, redelivered=False)
    return message


def checked_delay(delay: object) -> float:
    """``delay`` as seconds. Raises ``InvalidMessageError``."""
    if isinstance(delay, bool) or not isinstance(delay, (int, float)) or not math.isfinite(delay) or delay < 0:
        raise InvalidMessageError(f"delay must be a finite number of seconds, 0 or more, got {delay!r}")
    return float(delay)


def checked_batch(messages: object, max_bytes: int) -> list[QueueMessage]:
    """The messages of a batch, ready to send. Raises ``InvalidMessageError``, naming the first that is not."""
    if not isinstance(messages, Sequence) or isinstance(messages, (str, bytes)):
        kind: type[object] = type(cast("object", messages))
        raise InvalidMessageError(f"messages must be a sequence of QueueMessage, such as a list; got {kind.__name__}")
    ready: list[QueueMessage] = []
    for index, message in enumerate(cast("Sequence[object]", messages)):
        try:
            ready.append(outgoing(message, max_bytes))
        except InvalidMessageError as error:
            raise InvalidMessageError(f"messages[{index}]: {error}") from error
    return ready


async def publish_all(
    messages: Sequence[QueueMessage], send: Callable[[QueueMessage], Awaitable[None]], *, window: int
) -> BatchResult:
    """Send each, ``window`` at once, begun in order; one that fails is a result, not the end of the rest."""
    results: list[BatchItemResult | None] = [None] * len(messages)

    async def run(turns: Iterator[tuple[int, QueueMessage]]) -> None:
        for index, message in turns:
            try:
                await send(message)
            except InfraError as error:
                results[index] = BatchItemResult(message.message_id, error=error)
            else:
                results[index] = BatchItemResult(message.message_id, MessageStatus.ACCEPTED)

    # The runners share one iterator: each takes the next message when its last is settled, so sending keeps the order.
    turns = iter(enumerate(messages))
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(window, len(messages))):
                group.create_task(run(turns))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    return BatchResult(tuple(cast("list[BatchItemResult]", results)))
