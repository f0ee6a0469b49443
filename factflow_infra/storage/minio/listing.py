"""Listings: in S3's own order, which is that of the UTF-8 bytes, without what is hidden."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from factflow_infra.errors import InvalidObjectError
from factflow_infra.storage.keys import shown
from factflow_infra.storage.minio.failures import RequestError, translate
from factflow_infra.storage.objects import ObjectPage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from factflow_infra.storage.minio.calls import Calls

PAGE_KEYS = 1000
"""What S3 gives in one answer."""
_LAST = "\U0010ffff"
"""No character comes after it."""


class Entry(NamedTuple):
    """A key, or with a delimiter a common prefix."""

    name: str
    is_prefix: bool


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one request gave, hidden names left out; ``position`` is where the next goes on, ``None`` at the end."""

    entries: tuple[Entry, ...]
    position: str | None


def validate_page(delimiter: str | None, limit: int) -> None:
    if delimiter is not None and (not isinstance(cast("object", delimiter), str) or not delimiter or "\0" in delimiter):
        raise InvalidObjectError(f"delimiter must be text such as '/', or None, not {shown(delimiter)}")
    if not isinstance(cast("object", limit), int) or isinstance(limit, bool) or limit < 1:
        raise InvalidObjectError(f"limit must be a whole number from 1, not {shown(limit)}")


def first_position(calls: Calls, after: str | None, prefix: str, delimiter: str | None) -> str:
    """The S3 key behind which a listing begins."""
    if after is None:
        return ""
    position = calls.layout.root + after
    if delimiter is not None and after.endswith(delimiter) and after.startswith(prefix) and len(after) > len(prefix):
        return position + _LAST  # behind everything that this common prefix stands for
    return position


def chunk(calls: Calls, prefix: str, delimiter: str | None, limit: int, position: str) -> Chunk:
    """One request of up to ``limit`` names behind ``position``. Blocks."""
    layout = calls.layout
    arguments: dict[str, Any] = {"Bucket": calls.bucket, "MaxKeys": min(limit, PAGE_KEYS)}
    if layout.root + prefix:
        arguments["Prefix"] = layout.root + prefix
    if delimiter is not None:
        arguments["Delimiter"] = delimiter
    if position:
        arguments["StartAfter"] = position
    try:
        answer: Mapping[str, Any] = calls.client.list_objects_v2(**arguments)
    except RequestError as error:
        raise translate(error, bucket=calls.bucket, what=f"listing {shown(prefix)}") from error
    names = sorted(_names(answer))  # S3 gives the two kinds apart, each in order
    entries: list[Entry] = []
    last = position
    for full, is_prefix in names:
        name = layout.inner(full)
        last = full + _LAST if is_prefix else full
        visible = layout.is_listed_prefix(name) if is_prefix else layout.is_listed(name)
        if visible and last > position:
            entries.append(Entry(name, is_prefix))
    if not answer.get("IsTruncated") or not names:
        return Chunk(tuple(entries), None)
    if last.startswith(layout.hidden):
        last = max(last, layout.past_hidden)  # over all sidecars at once, however many there are
    return Chunk(tuple(entries), last)


def page(calls: Calls, prefix: str, delimiter: str | None, limit: int, after: str | None) -> ObjectPage:
    """A page of exactly ``limit`` names, or the last. Blocks."""
    taken: list[Entry] = []
    position: str | None = first_position(calls, after, prefix, delimiter)
    while position is not None and len(taken) <= limit:  # one more than asked says whether there is another page
        found = chunk(calls, prefix, delimiter, limit + 1 - len(taken), position)
        taken += found.entries
        position = found.position
    more = len(taken) > limit
    taken = taken[:limit]
    return ObjectPage(
        keys=tuple(entry.name for entry in taken if not entry.is_prefix),
        prefixes=tuple(entry.name for entry in taken if entry.is_prefix),
        next_after=taken[-1].name if more else None,
    )


def _names(answer: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    for item in answer.get("Contents", ()):
        yield item["Key"], False
    for item in answer.get("CommonPrefixes", ()):
        yield item["Prefix"], True
