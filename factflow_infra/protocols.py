"""The contract: what services are written against, and what every provider and every fake keeps.

``docs/contract.md`` states the promises, Q1-Q11 and S1-S10. These are ``typing.Protocol``s: a class from elsewhere that
has the methods satisfies them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from factflow_infra.queue.messages import (
    BatchItemResult,
    BatchMessage,
    BatchResult,
    BatchStatus,
    DeadLetterReason,
    ErrorHandling,
    HealthState,
    MessageHandler,
    MessageStatus,
    QueueHealth,
    QueueMessage,
    SubscriptionStatus,
)
from factflow_infra.storage.objects import Metadata, ObjectInfo, ObjectPage, StoredObject

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
    from types import TracebackType
    from typing import Self

__all__ = [
    "BatchHandle",
    "BatchHandleProtocol",
    "BatchItemResult",
    "BatchMessage",
    "BatchResult",
    "BatchStatus",
    "DeadLetterReason",
    "ErrorHandling",
    "HealthState",
    "MessageHandler",
    "MessageStatus",
    "Metadata",
    "ObjectInfo",
    "ObjectPage",
    "QueueHealth",
    "QueueMessage",
    "QueueProtocol",
    "StorageProtocol",
    "StoredObject",
    "Subscription",
    "SubscriptionStatus",
]

DEFAULT_CHUNK_SIZE = 1024 * 1024
"""Bytes of each piece that ``StorageProtocol.stream`` yields, but for the last."""

_DEFAULT_ERROR_HANDLING = ErrorHandling()


@runtime_checkable
class Subscription(Protocol):
    """A live subscription of one handler."""

    @property
    def destination(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def status(self) -> SubscriptionStatus: ...

    async def close(self, *, timeout: float | None = 30.0) -> None:
        """Take no more messages, let handlers finish for ``timeout`` seconds (``None``: as long as they need), then cancel
        them; what they held goes back to the broker. Idempotent.
        """
        ...

    async def pause(self) -> None:
        """Take no more messages until ``resume``; handlers that run go on."""
        ...

    async def resume(self) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class BatchHandleProtocol(Protocol):
    """A batch subscription: ``async for batch in handle``, then settle; what is unsettled at ``close`` goes back."""

    @property
    def destination(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def status(self) -> SubscriptionStatus: ...

    def __aiter__(self) -> AsyncIterator[BatchMessage]: ...

    async def ack(self, settled: BatchMessage | QueueMessage | Iterable[QueueMessage]) -> None: ...
    async def retry(self, settled: BatchMessage | QueueMessage | Iterable[QueueMessage]) -> None: ...
    async def reject(self, settled: BatchMessage | QueueMessage | Iterable[QueueMessage]) -> None: ...
    async def close(self, *, timeout: float | None = 30.0) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


BatchHandle = BatchHandleProtocol


@runtime_checkable
class QueueProtocol(Protocol):
    """A queue provider. It connects on first use, or in ``async with provider:``, which also stops it."""

    async def publish(self, destination: str, message: QueueMessage, *, delay: float = 0.0) -> MessageStatus:
        """Send ``message``; ``ACCEPTED`` once the broker has confirmed that it holds it durably (Q1).

        ``destination``: ``/queue/name`` or a bare name (point to point), ``/topic/name`` (a copy to every subscription).
        ``delay``: seconds before it may be delivered. Raises ``QueueConnectionError`` (surely not taken),
        ``PublishUnconfirmedError`` (cannot be known), ``PublishRefusedError``, ``QueueStoppedError``, and for bad input
        ``InvalidDestinationError`` or ``InvalidMessageError`` before any I/O.
        """
        ...

    async def publish_batch(self, destination: str, messages: Sequence[QueueMessage]) -> BatchResult:
        """Send several; never raises for some of them. Raises when nothing was attempted (bad input, stopped)."""
        ...

    async def subscribe(
        self,
        destination: str,
        handler: MessageHandler,
        *,
        subscription: str | None = None,
        concurrency: int = 1,
        prefetch: int | None = None,
        error_handling: ErrorHandling = _DEFAULT_ERROR_HANDLING,
    ) -> Subscription:
        """Have ``handler`` called for each message; returns once the subscription is live (Q5).

        ``subscription`` names a group whose members compete; on a topic a named one is durable. ``concurrency``: handlers
        at once. ``prefetch``: messages held at once, running ones included. The handler's verdict settles: ``ACK`` or
        ``None``, ``RETRY`` or an exception, ``REJECT``.
        """
        ...

    async def subscribe_batch(
        self,
        destination: str,
        *,
        max_messages: int,
        max_wait: float,
        subscription: str | None = None,
        error_handling: ErrorHandling = _DEFAULT_ERROR_HANDLING,
    ) -> BatchHandleProtocol:
        """Take batches of up to ``max_messages``, or what has come within ``max_wait`` seconds of the first."""
        ...

    async def stop(self, *, timeout: float | None = 30.0) -> None:
        """Take no more messages, let handlers and publishes finish until ``timeout`` seconds, then cancel them (Q8)."""
        ...

    def health(self) -> QueueHealth: ...


@runtime_checkable
class StorageProtocol(Protocol):
    """A storage provider: objects under POSIX-like keys."""

    async def write(
        self,
        key: str,
        data: bytes | AsyncIterable[bytes],
        metadata: Metadata | None = None,
        *,
        content_type: str | None = None,
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> ObjectInfo: ...
    async def get(self, key: str) -> StoredObject: ...
    async def read(self, key: str) -> bytes: ...
    def stream(
        self, key: str, *, start: int = 0, end: int | None = None, chunk_size: int = DEFAULT_CHUNK_SIZE
    ) -> AsyncIterator[bytes]: ...
    async def stat(self, key: str) -> ObjectInfo: ...
    async def exists(self, key: str) -> bool: ...
    def list(self, prefix: str = "") -> AsyncIterator[str]: ...
    async def list_page(
        self, prefix: str = "", *, delimiter: str | None = None, limit: int = 1000, after: str | None = None
    ) -> ObjectPage: ...
    async def copy(self, source: str, target: str) -> ObjectInfo: ...
    async def delete(self, key: str, *, if_match: str | None = None) -> None: ...
    async def close(self) -> None: ...
