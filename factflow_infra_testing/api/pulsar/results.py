"""Outcomes, by the names that ``_pulsar.Result`` has for them, and which of them are tried again."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from factflow_infra_testing.wire.pulsar.values import ServerError

OK: Final = "Ok"
TIMEOUT: Final = "Timeout"
ALREADY_CLOSED: Final = "AlreadyClosed"
NOT_CONNECTED: Final = "NotConnected"
QUEUE_IS_FULL: Final = "ProducerQueueIsFull"
CHECKSUM: Final = "ChecksumError"
NOT_ALLOWED: Final = "NotAllowedError"
MESSAGE_TOO_BIG: Final = "MessageTooBig"
CUMULATIVE_NOT_ALLOWED: Final = "CumulativeAcknowledgementNotAllowedError"
RETRYABLE: Final = "Retryable"
DISCONNECTED: Final = "Disconnected"
"""These two are the client's own; ``_pulsar.Result`` has no name for them."""

_UNNAMED: Final = {RETRYABLE: 46, DISCONNECTED: 47}

_OF_SERVER: Final = {
    ServerError.METADATA: "BrokerMetadataError",
    ServerError.PERSISTENCE: "BrokerPersistenceError",
    ServerError.AUTHENTICATION: "AuthenticationError",
    ServerError.AUTHORIZATION: "AuthorizationError",
    ServerError.CONSUMER_BUSY: "ConsumerBusy",
    ServerError.SERVICE_NOT_READY: "ServiceUnitNotReady",
    ServerError.CHECKSUM: CHECKSUM,
    ServerError.UNSUPPORTED_VERSION: "UnsupportedVersionError",
    ServerError.TOPIC_NOT_FOUND: "TopicNotFound",
    ServerError.SUBSCRIPTION_NOT_FOUND: "SubscriptionNotFound",
    ServerError.CONSUMER_NOT_FOUND: "ConsumerNotFound",
    ServerError.PRODUCER_BUSY: "ProducerBusy",
    ServerError.INVALID_TOPIC_NAME: "InvalidTopicName",
    ServerError.INCOMPATIBLE_SCHEMA: "IncompatibleSchema",
    ServerError.CONSUMER_ASSIGN: "ConsumerAssignError",
    ServerError.NOT_ALLOWED: NOT_ALLOWED,
}

_FATAL: Final = frozenset(
    {
        "ConnectError",
        TIMEOUT,
        "AuthenticationError",
        "AuthorizationError",
        "InvalidUrl",
        "InvalidConfiguration",
        "IncompatibleSchema",
        "TopicNotFound",
        "OperationNotSupported",
        NOT_ALLOWED,
        CHECKSUM,
        "CryptoError",
        "ConsumerAssignError",
        "ProducerBusy",
        "ConsumerBusy",
        "LookupError",
        "TooManyLookupRequestException",
        "ProducerBlockedQuotaExceededException",
        "ProducerBlockedQuotaExceededError",
    }
)
"""``isResultRetryable`` of ``ResultUtils.h``: everything else is."""


def of_server(code: int) -> str:
    """The outcome that a broker's error code means."""
    try:
        return _OF_SERVER[ServerError(code)]
    except (KeyError, ValueError):
        return "UnknownError"


def is_retryable(result: str) -> bool:
    """Whether the client tries again by itself, until its operation timeout."""
    return result not in _FATAL


def result_value(result: str) -> Any:
    """The member of ``_pulsar.Result``."""
    enumeration: Any = import_module("_pulsar").Result
    return enumeration(_UNNAMED[result]) if result in _UNNAMED else enumeration.__members__[result]


class ClientError:
    """What the callbacks of the newer calls get for a failure, as ``_pulsar.Error``."""

    __slots__ = ("error", "message")

    def __init__(self, result: str, message: str = "") -> None:
        self.error = result_value(result)
        self.message = message
