"""The values that storage providers take and give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    Metadata = Mapping[str, Any]
    """A JSON object: provenance fields (``execution_id``, ``route_id``, ``stage``, ``message_id``, ``adapter``,
    ``config_hash``, ``lineage_id``, ``correlation_id``) and custom ones; unknown fields survive."""
else:
    Metadata = "Mapping[str, Any]"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """What is known of one version of an object.

    ``size`` in bytes; ``etag`` names the content (equal content may have an equal etag) and is what ``if_match`` takes;
    ``checksum`` is ``sha256:<hex>`` of the content; both times are aware, ``created_at`` is that of the key's first write.
    """

    key: str
    size: int
    content_type: str
    etag: str
    checksum: str
    created_at: datetime
    modified_at: datetime
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class StoredObject:
    """The content and the info of one and the same version."""

    data: bytes
    info: ObjectInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectPage:
    """A page of a listing, in UTF-8 byte order: the keys, and with a delimiter the common prefixes.

    ``next_after`` goes into the next call's ``after``; ``None`` on the last page.
    """

    keys: tuple[str, ...]
    prefixes: tuple[str, ...] = ()
    next_after: str | None = None
