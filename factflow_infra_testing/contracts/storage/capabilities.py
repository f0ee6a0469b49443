"""What a storage harness, or the backend behind it, can do. A behaviour that needs more is skipped, and says so."""

from __future__ import annotations

from enum import StrEnum


class StorageCapability(StrEnum):
    """Declared is promised: a declared capability that does not work is a failure, not a skip."""

    CONDITIONAL_CREATE = "conditional-create"
    """``if_absent`` of ``write``."""
    CONDITIONAL_WRITE = "conditional-write"
    """``if_match`` of ``write``."""
    CONDITIONAL_STREAM = "conditional-stream"
    """``if_absent`` and ``if_match`` of a stream that is too long for one request."""
    CONDITIONAL_DELETE = "conditional-delete"
    """``if_match`` of ``delete``."""
    FLAT_KEYS = "flat-keys"
    """``a`` and ``a/b`` can both be objects: not on a filesystem."""
    LONG_SEGMENTS = "long-segments"
    """A segment of a key may have 1,000 bytes: not on a filesystem."""
    CORRUPT = "corrupt"
    """The harness can flip a byte of an object's content at rest."""
    CORRUPT_ANSWER = "corrupt-answer"
    """The harness can flip a byte of the next content that is read, on its way."""
    LOSE_ANSWER = "lose-answer"
    """The harness can have the next write, copy or delete applied, and lose the answer."""
    RESIDUE = "residue"
    """The harness can name what a failed write left behind: temporary files, unfinished uploads."""
    SYMLINK = "symlink"
    """The harness can plant a symbolic link that leads out of the root."""
    DENY = "deny"
    """The harness can take the permission to write away."""
    FULL = "full"
    """The harness can fill the disk."""
    MISSING_ROOT = "missing-root"
    """The harness can make a provider whose bucket or root folder does not exist."""
    UNREACHABLE = "unreachable"
    """The harness can make a provider whose endpoint does not answer."""
    CREDENTIALS = "credentials"
    """The harness can make a provider whose credentials are wrong."""
    THROTTLE = "throttle"
    """The harness can have every request answered with "slow down"."""
    REAL_LOOP = "real-loop"
    """The loop runs in real time beside the provider's threads, so that blocking it would show."""


ALL_STORAGE_CAPABILITIES = frozenset(StorageCapability)
