"""What a call of storage asked and what it was told, as far as the checkers need it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from factflow_infra.storage.metadata import DEFAULT_CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from factflow_infra.protocols import ObjectInfo


@dataclass(frozen=True, slots=True)
class Value:
    """What a key holds: digests of the content, and of the content type and metadata. ``None``: not known."""

    content: str | None
    rest: str | None

    def agrees(self, other: Value) -> bool:
        """Whether both may be the same, as far as either is known."""
        return (self.content is None or other.content is None or self.content == other.content) and (
            self.rest is None or other.rest is None or self.rest == other.rest
        )

    def __str__(self) -> str:
        return f"{(self.content or 'unknown')[:8]}/{(self.rest or 'unknown')[:8]}"


def disk_of(host: str) -> str:
    """The ``store`` that is the filesystem of ``host``."""
    return f"filesystem of {host}"


@dataclass(slots=True)
class StorageCall:
    """Beside an operation on storage. ``store``: which one, as the history's targets do not tell hosts apart.

    ``absent`` and ``match`` are the condition; ``value`` is what was written or read, ``etag`` what was told of it;
    ``found`` is the answer of ``exists``; ``names`` those of a listing, which went from behind ``after`` to its end or, where
    it was not ``whole``, to its last name. ``source`` is that of a copy.
    """

    store: str
    absent: bool = False
    match: str | None = None
    value: Value | None = None
    etag: str = ""
    found: bool | None = None
    names: tuple[str, ...] | None = None
    after: str = ""
    whole: bool = True
    source: str = ""

    def told(self, info: ObjectInfo) -> None:
        """A version that the provider described."""
        self.value = value_of(info.checksum, info.content_type, info.metadata)
        self.etag = info.etag

    def written(self, info: ObjectInfo) -> None:
        """As ``told``, of a write: what was asked for stays what must be read, whatever the provider says that it wrote."""
        asked = self.value
        self.told(info)
        if asked is not None and self.value is not None:
            self.value = Value(asked.content or self.value.content, asked.rest or self.value.rest)


def value_of(checksum: str, content_type: str | None, metadata: Mapping[str, Any] | None) -> Value:
    """``checksum``: ``sha256:<hex>``, or empty where it is not known."""
    text = json.dumps([content_type or DEFAULT_CONTENT_TYPE, dict(metadata or {})], sort_keys=True, default=repr)
    return Value(checksum.removeprefix("sha256:") or None, hashlib.blake2b(text.encode(), digest_size=16).hexdigest())


def checksum_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
