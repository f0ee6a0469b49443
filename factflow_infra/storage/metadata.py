"""Metadata, content types and ranges: what is accepted, and the canonical JSON that is stored.

Shared by the providers, so that what one accepts the other does. Everything raises ``InvalidObjectError``, before any I/O,
and names the value. ``Record`` is what a sidecar says of one version of an object.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from factflow_infra.errors import InvalidObjectError
from factflow_infra.storage.keys import shown
from factflow_infra.storage.objects import ObjectInfo

if TYPE_CHECKING:
    from typing import Self

DEFAULT_CONTENT_TYPE = "application/octet-stream"
MAX_METADATA_BYTES = 1024 * 1024
MAX_METADATA_DEPTH = 64
MAX_CONTENT_TYPE = 255
MAX_PAGE = 100_000
"""Names on one page of a listing: a page is held in memory."""


def validate_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """A deep copy of ``metadata`` in plain JSON types, ``{}`` for ``None``; else ``InvalidObjectError``.

    A JSON object: keys are ``str``; values ``None``, ``bool``, ``int``, finite ``float``, ``str``, ``list`` and ``dict``,
    nested up to 64 deep. Tuples, sets, bytes and dates are refused, because they would not come back as they were.
    """
    if metadata is None:
        return {}
    if not isinstance(cast("object", metadata), Mapping):
        raise InvalidObjectError(f"metadata must be a JSON object (a dict), not {type(metadata).__name__}")
    plain: dict[str, Any] = _plain(metadata, "metadata", 0)
    size = len(canonical_json(plain))
    if size > MAX_METADATA_BYTES:
        raise InvalidObjectError(f"metadata takes {size} bytes as JSON, at most {MAX_METADATA_BYTES} are allowed")
    return plain


def canonical_json(value: object) -> bytes:
    """``value`` as UTF-8 JSON with sorted keys and no spaces: equal values give equal bytes."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
        return text.encode()
    except ValueError as error:  # an int beyond the interpreter's digit limit
        raise InvalidObjectError(f"metadata cannot be written as JSON: {error}") from error


def validate_content_type(content_type: str | None) -> str:
    """``content_type`` itself, ``application/octet-stream`` for ``None``; else ``InvalidObjectError``."""
    if content_type is None:
        return DEFAULT_CONTENT_TYPE
    if not isinstance(cast("object", content_type), str):
        raise InvalidObjectError(f"content_type must be a str, not {type(content_type).__name__}")
    if (
        not 0 < len(content_type) <= MAX_CONTENT_TYPE
        or "/" not in content_type
        or not (content_type.isascii() and content_type.isprintable())
        or content_type != content_type.strip()
    ):
        raise InvalidObjectError(
            f"content_type {shown(content_type)} is no media type: use printable ASCII such as 'application/json', "
            f"at most {MAX_CONTENT_TYPE} characters"
        )
    return content_type


def validate_range(start: int, end: int | None, chunk_size: int) -> None:
    """Check a stream's range: ``start`` from 0, ``end`` exclusive and not before it, ``chunk_size`` from 1, all in bytes.

    What lies beyond the object's end is cut off, as with a slice: it gives fewer bytes, or none.
    """
    for name, value, least in (("start", start, 0), ("end", end, 0), ("chunk_size", chunk_size, 1)):
        if value is None and name == "end":
            continue
        if value is None or not isinstance(cast("object", value), int) or isinstance(value, bool):
            raise InvalidObjectError(f"{name} must be a whole number of bytes, not {shown(value)}")
        if value < least:
            raise InvalidObjectError(f"{name} must be at least {least}, not {value}")
    if end is not None and end < start:
        raise InvalidObjectError(f"the range ends before it starts: start {start}, end {end}")


def validate_page(delimiter: str | None, limit: int) -> None:
    """Check a page's ``delimiter``, a text that keys can hold, and its ``limit``, from 1 to 100,000 names."""
    if delimiter is not None and (not isinstance(cast("object", delimiter), str) or not delimiter or "\0" in delimiter):
        raise InvalidObjectError(f"delimiter must be a text such as '/', or None, not {shown(delimiter)}")
    if not isinstance(cast("object", limit), int) or isinstance(limit, bool) or not 1 <= limit <= MAX_PAGE:
        raise InvalidObjectError(f"limit must be a whole number from 1 to {MAX_PAGE}, not {shown(limit)}")


def validate_age(older_than: float) -> None:
    """Check the age in seconds from which something left behind may be removed."""
    number = isinstance(cast("object", older_than), (int, float)) and not isinstance(older_than, bool)
    if not number or not 0 <= older_than < math.inf:
        raise InvalidObjectError(f"older_than must be a number of seconds from 0, not {shown(older_than)}")


def validate_conditions(*, if_absent: bool, if_match: str | None) -> None:
    """Check a write's or a delete's conditions; both at once contradict each other."""
    if not isinstance(cast("object", if_absent), bool):
        raise InvalidObjectError(f"if_absent must be True or False, not {shown(if_absent)}")
    if if_match is not None and (not isinstance(cast("object", if_match), str) or not if_match):
        raise InvalidObjectError(f"if_match must be the etag of an ObjectInfo, not {shown(if_match)}")
    if if_absent and if_match is not None:
        raise InvalidObjectError(f"if_absent and if_match={shown(if_match)} cannot both hold: give one of them")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a sidecar says of one version of an object: ``ObjectInfo`` without the key, and which file it belongs to.

    ``checksum`` is ``sha256:<hex>``. ``inode`` and ``mtime_ns`` are those of the file that holds the content: they tell
    two versions with equal content apart, and spare ``stat`` the reading. They are hints; the checksum has the last word.
    """

    size: int
    checksum: str
    content_type: str
    created_at: datetime
    modified_at: datetime
    metadata: dict[str, Any]
    inode: int = 0
    mtime_ns: int = 0

    @property
    def etag(self) -> str:
        """The content's name: the hexadecimal part of its checksum."""
        return etag_of(self.checksum)

    def info(self, key: str) -> ObjectInfo:
        return ObjectInfo(
            key=key,
            size=self.size,
            content_type=self.content_type,
            etag=self.etag,
            checksum=self.checksum,
            created_at=self.created_at,
            modified_at=self.modified_at,
            metadata=self.metadata,
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "size": self.size,
            "checksum": self.checksum,
            "content_type": self.content_type,
            "created_at": self.created_at.isoformat(),
            "modified_at": self.modified_at.isoformat(),
            "metadata": self.metadata,
            "inode": self.inode,
            "mtime_ns": self.mtime_ns,
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The record that ``as_json`` gave; ``ValueError`` for anything else."""
        if not isinstance(value, dict):
            raise ValueError("a record is a JSON object")  # noqa: TRY004 - one error class for whatever is wrong with it
        fields = cast("dict[str, Any]", value)
        try:
            record = cls(
                size=fields["size"],
                checksum=fields["checksum"],
                content_type=fields["content_type"],
                created_at=datetime.fromisoformat(fields["created_at"]),
                modified_at=datetime.fromisoformat(fields["modified_at"]),
                metadata=fields["metadata"],
                inode=fields["inode"],
                mtime_ns=fields["mtime_ns"],
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"the record lacks a field or has a wrong type: {error}") from error
        whole = all(type(number) is int for number in (record.size, record.inode, record.mtime_ns))
        texts = all(isinstance(cast("object", text), str) for text in (record.checksum, record.content_type))
        aware = record.created_at.tzinfo is not None and record.modified_at.tzinfo is not None
        if not (whole and texts and aware and isinstance(cast("object", record.metadata), dict)):
            raise ValueError("a field of the record has a wrong type")
        return record


def etag_of(checksum: str) -> str:
    """The etag of content with this ``sha256:<hex>`` checksum."""
    return checksum.removeprefix("sha256:")


def utc_from_ns(nanoseconds: int) -> datetime:
    """The aware time of a POSIX timestamp in nanoseconds, exact to the microsecond."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)


def _plain(value: object, where: str, depth: int) -> Any:
    if depth > MAX_METADATA_DEPTH:
        raise InvalidObjectError(
            f"{where[:80]}…: nested more than {MAX_METADATA_DEPTH} deep; a value that contains itself is no JSON"
        )
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidObjectError(f"{where} is {value}: JSON has no NaN and no infinity")
        return float(value)
    if isinstance(value, str):
        return _text(value, where)
    if isinstance(value, Mapping):
        plain: dict[str, Any] = {}
        for name, item in cast("Mapping[object, object]", value).items():
            if not isinstance(name, str):
                raise InvalidObjectError(f"{where} has the key {shown(name)}: JSON keys are str")
            plain[_text(name, f"a key of {where}")] = _plain(item, f"{where}[{shown(name)}]", depth + 1)
        return plain
    if isinstance(value, list):
        items = cast("list[object]", value)
        return [_plain(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(items)]
    raise InvalidObjectError(
        f"{where} is {shown(value)}, a {type(value).__name__}: "
        "only None, bool, int, float, str, list and dict come back from JSON as they were"
    )


def _text(value: str, where: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidObjectError(f"{where} holds a lone surrogate, which has no UTF-8 form: {shown(value)}") from error
    return str(value)
