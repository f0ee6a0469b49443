"""What the client raises, as our errors. Its results are known by name: see ``pulsar.Result``."""

from __future__ import annotations

from typing import Final

from factflow_infra.errors import (
    InvalidMessageError,
    PublishRefusedError,
    PublishUnconfirmedError,
    QueueAuthenticationError,
    QueueConnectionError,
    QueueError,
    TopologyMismatchError,
)

_DENIED: Final = frozenset({"AuthenticationError", "AuthorizationError", "ErrorGettingAuthenticationData"})
_QUOTA: Final = frozenset({"ProducerBlockedQuotaExceededError", "ProducerBlockedQuotaExceededException"})
_NEVER_SENT: Final = frozenset({"ProducerQueueIsFull", "MemoryBufferIsFull", "AlreadyClosed", "ProducerNotInitialized"})


def result_of(error: BaseException) -> str | None:
    """The name of the client's result that ``error`` carries, or ``None`` where it is none of the client's errors."""
    result = getattr(error, "error", None)
    if not callable(result):
        return None
    name = getattr(result(), "name", None)
    return name if isinstance(name, str) else None


def request_error(error: BaseException, what: str) -> QueueError:
    """For a failed request about ``what``, such as ``the topic 'x'``."""
    result = result_of(error)
    text = str(error) or type(error).__name__
    if result in _DENIED:
        return QueueAuthenticationError(f"Pulsar refused {what}: {text}; check the token and the permissions")
    if result == "ConsumerBusy":
        return TopologyMismatchError(
            f"{what} has consumers of another kind ({text}); all consumers of a queue must have the same subscription_type",
            retryable=True,
        )
    if result == "Timeout":
        # The client tries again whatever was said to it, a refused login included (PUL-13, PUL-27).
        return QueueConnectionError(f"{what}: no answer in time; nobody is there, or the login was refused")
    return QueueConnectionError(f"{what}: {text}")


def publish_error(error: BaseException, what: str) -> QueueError:
    """For a failed publish of ``what``."""
    result = result_of(error)
    text = str(error) or type(error).__name__
    if result == "MessageTooBig":
        return InvalidMessageError(f"{what} is larger than the broker takes (its maxMessageSize): {text}")
    if result in _DENIED:
        return QueueAuthenticationError(f"{what}: no permission: {text}")
    if result in _QUOTA:
        return PublishRefusedError(f"{what}: the backlog quota of its namespace is used up: {text}", retryable=True)
    if result in ("TopicTerminated", "NotAllowedError", "IncompatibleSchema"):
        return PublishRefusedError(f"{what}: {text}")
    if result in _NEVER_SENT:
        return QueueConnectionError(f"{what}: {text}")
    return PublishUnconfirmedError(f"{what}: no confirmation came: {text}")
