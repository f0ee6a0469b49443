"""Every error that a provider raises, one class a cause.

    InfraError                          base; ``retryable`` says whether the same call may succeed later
    ├── SettingsError                   a setting, URI, scheme or query parameter that cannot be used
    │   └── ProviderUnavailableError    a known scheme whose provider this installation does not carry
    ├── QueueError
    │   ├── InvalidDestinationError     a destination or subscription name that no broker could hold
    │   ├── InvalidMessageError         a body, header, id, size or type that cannot be sent
    │   ├── InvalidSubscriptionError    an option of ``subscribe`` or ``ErrorHandling`` that cannot be used
    │   ├── QueueConnectionError        not connected; the message surely was not taken      (retryable)
    │   ├── PublishUnconfirmedError     the answer was lost; a copy may exist                (retryable)
    │   ├── PublishRefusedError         the broker refused the message
    │   │   └── UnroutableError         no queue takes it
    │   ├── QueueAuthenticationError    wrong credentials, or no permission
    │   ├── TopologyMismatchError       the queue exists with other properties
    │   ├── QueueStoppedError           the provider was stopped
    │   └── SubscriptionClosedError     the subscription or batch handle was closed, or the batch is settled
    └── StorageError
        ├── InvalidKeyError             a key that is no safe relative path
        ├── InvalidObjectError          data, metadata, a type or a range that cannot be stored or read
        ├── ObjectNotFoundError         no object under that key
        ├── KeyConflictError            one key is a path beneath another, and the backend cannot hold both
        ├── PreconditionFailedError     ``if_absent`` or ``if_match`` did not hold
        ├── WriteUnconfirmedError       the answer was lost; old or new, whole               (retryable)
        ├── CorruptObjectError          bytes that do not match their checksum
        ├── UnsupportedOperationError   the server does not honour what was asked
        ├── StorageFullError            no space, or over quota
        ├── StoragePermissionError      permission denied
        ├── StorageAuthenticationError  wrong or expired credentials
        ├── BucketNotFoundError         the bucket or root folder does not exist
        ├── StorageUnreachableError     no answer from the endpoint                          (retryable)
        ├── ThrottledError              asked to slow down, retries used up                  (retryable)
        ├── StorageIOError              the device or the server failed
        └── StorageClosedError          the provider was closed

Bad input (``Invalid...`` and ``SettingsError``) is also a ``ValueError``, and is raised before any I/O.
The original exception, where there is one, is the ``__cause__``. No message holds a secret.
"""

from __future__ import annotations


class InfraError(Exception):
    """Base of every error here. ``retryable``: the same call may succeed later, unchanged."""

    retryable: bool = False

    def __init__(self, message: str, *, retryable: bool | None = None) -> None:
        super().__init__(message)
        if retryable is not None:
            self.retryable = retryable


class SettingsError(InfraError, ValueError):
    """A setting, URI, scheme or query parameter that cannot be used."""


class ProviderUnavailableError(SettingsError):
    """A known scheme whose provider this installation does not carry."""


class QueueError(InfraError):
    """Base of the queue errors."""


class InvalidDestinationError(QueueError, ValueError):
    """A destination or subscription name that no broker could hold."""


class InvalidMessageError(QueueError, ValueError):
    """A body, header, id, size or type that cannot be sent."""


class InvalidSubscriptionError(QueueError, ValueError):
    """An option of ``subscribe``, ``subscribe_batch`` or ``ErrorHandling`` that cannot be used."""


class QueueConnectionError(QueueError):
    """Not connected: the message surely was not taken."""

    retryable = True


class PublishUnconfirmedError(QueueError):
    """The broker's answer was lost: the message may have been taken. Publishing again may make a copy."""

    retryable = True


class PublishRefusedError(QueueError):
    """The broker refused the message and does not hold it."""


class UnroutableError(PublishRefusedError):
    """No queue takes the message."""


class QueueAuthenticationError(QueueError):
    """Wrong credentials, or no permission on the broker."""


class TopologyMismatchError(QueueError):
    """A queue or exchange exists already with other properties."""


class QueueStoppedError(QueueError):
    """The provider was stopped; it takes no more calls."""


class SubscriptionClosedError(QueueError):
    """The subscription or batch handle was closed, or what is to be settled is settled already."""


class StorageError(InfraError):
    """Base of the storage errors."""


class InvalidKeyError(StorageError, ValueError):
    """A key that is no safe relative path."""


class InvalidObjectError(StorageError, ValueError):
    """Data, metadata, a type or a range that cannot be stored or read."""


class ObjectNotFoundError(StorageError):
    """No object under that key."""


class KeyConflictError(StorageError):
    """One key is a path beneath another object's key (``a`` and ``a/b``), and this backend cannot hold both."""


class PreconditionFailedError(StorageError):
    """``if_absent`` or ``if_match`` did not hold; nothing was changed."""


class WriteUnconfirmedError(StorageError):
    """The answer to a write, copy or delete was lost: it was done or it was not, and never in part."""

    retryable = True


class CorruptObjectError(StorageError):
    """Bytes that do not match the checksum they were written with."""


class UnsupportedOperationError(StorageError):
    """The server does not honour what was asked, so it was not trusted with it."""


class StorageFullError(StorageError):
    """No space left, or over quota."""


class StoragePermissionError(StorageError):
    """Permission denied."""


class StorageAuthenticationError(StorageError):
    """Wrong or expired credentials."""


class BucketNotFoundError(StorageError):
    """The bucket, or the root folder, does not exist."""


class StorageUnreachableError(StorageError):
    """No answer from the endpoint; the request surely changed nothing."""

    retryable = True


class ThrottledError(StorageError):
    """The server asked to slow down, and the retries are used up."""

    retryable = True


class StorageIOError(StorageError):
    """The device or the server failed."""


class StorageClosedError(StorageError):
    """The provider was closed; it takes no more calls."""
