"""What an ``OSError`` means to the caller: its own error class, and whether the same call may succeed later (S10)."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

from factflow_infra.errors import (
    BucketNotFoundError,
    StorageError,
    StorageFullError,
    StorageIOError,
    StoragePermissionError,
)
from factflow_infra.storage.keys import shown

if TYPE_CHECKING:
    from collections.abc import Generator

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
# What passes by itself: other work gives its descriptors or memory back, a server or a mount returns.
_PASSING = {
    errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.ETIMEDOUT, errno.ENOLCK,
    errno.ESTALE, errno.ETXTBSY,
}  # fmt: skip


@contextmanager
def explained(action: str, key: str) -> Generator[None, None, None]:
    """Turn an ``OSError`` from within into the ``StorageError`` that says what could not be done, and to which key."""
    try:
        yield
    except OSError as error:
        raise translate(error, f"cannot {action} {shown(key)}") from error


def translate(error: OSError, what: str) -> StorageError:
    """The error to raise for ``error``; ``what`` begins its message: what could not be done."""
    reason = f"{what}: {error.strerror or error}"
    if error.errno in _FULL:
        return StorageFullError(f"{reason}; free some space, or raise the quota or the file size limit")
    if error.errno in _DENIED:
        return StoragePermissionError(f"{reason}; the process needs to read and write everything below the root folder")
    if error.errno in _PASSING:
        return StorageIOError(f"{reason}; this may pass: try again", retryable=True)
    return StorageIOError(f"{reason}; look at the system's log for the state of the device")


def root_missing(root: str, error: OSError) -> StorageError:
    """The error for a root folder that cannot be opened."""
    if error.errno == errno.ENOENT:
        return BucketNotFoundError(f"the root folder {shown(root)} does not exist: create it, or set create_root=True")
    if error.errno == errno.ENOTDIR:
        return BucketNotFoundError(f"the root {shown(root)} is no folder")
    return translate(error, f"cannot open the root folder {shown(root)}")


def link_refused(key: str) -> StorageError:
    """The error for a key whose path meets a symbolic link, or something that is neither a file nor a folder."""
    return StoragePermissionError(
        f"{shown(key)} leads to a symbolic link or a special file, which is never followed: replace it by a plain file"
    )
