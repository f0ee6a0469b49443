"""Listings: in S3's own order, which is that of the UTF-8 bytes, without what is hidden."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from factflow_infra.errors import StorageIOError
from factflow_infra.storage.keys import shown
from factflow_infra.storage.minio.failures import RequestError, code_of, translate
from factflow_infra.storage.objects import ObjectPage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from factflow_infra.storage.minio.calls import Calls

PAGE_KEYS = 1000
"""What S3 gives in one answer."""
_CONTROL = re.compile(r"[\x01-\x1f]")
_OTHER_LIMITS = (0, 1, 7)
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


def first_position(calls: Calls, after: str | None, prefix: str, delimiter: str | None) -> str:
    """The S3 key behind which a listing begins."""
    if after is None:
        return ""
    position = calls.layout.root + after
    if delimiter is not None and after.endswith(delimiter) and after.startswith(prefix) and len(after) > len(prefix):
        return position + _LAST  # behind everything that this common prefix stands for
    return position


def chunk(calls: Calls, prefix: str, delimiter: str | None, limit: int, position: str) -> Chunk:
    """One request of about ``limit`` names behind ``position``, which it passes. Blocks.

    Of at least two: one may be a common prefix that is shown already.
    """
    layout = calls.layout
    arguments: dict[str, Any] = {"Bucket": calls.bucket, "MaxKeys": max(2, min(limit, PAGE_KEYS))}
    if layout.root + prefix:
        arguments["Prefix"] = layout.root + prefix
    if delimiter is not None:
        arguments["Delimiter"] = delimiter
    if position:
        arguments["StartAfter"] = position
    answer = _listed(calls, arguments, prefix)
    # S3 gives the two kinds apart, each in order. A common prefix that the last page ended with may come again.
    names = sorted(name for name in _names(answer) if _end(name) > position)
    entries: list[Entry] = []
    last = position
    whole = layout.root + prefix
    for full, is_prefix in names:
        if not full.startswith(whole):  # of a page that was asked for with a shorter prefix
            if full > whole:
                return Chunk(tuple(entries), None)
            last = full
            continue
        name = layout.inner(full)
        last = _end((full, is_prefix))
        if layout.is_listed_prefix(name) if is_prefix else layout.is_listed(name):
            entries.append(Entry(name, is_prefix))
    if not answer.get("IsTruncated") or not names:
        return Chunk(tuple(entries), None)
    past = layout.past_hidden(names[-1][0])
    if past is not None:
        last = max(last, past)  # over all sidecars at once, however many there are
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


def _listed(calls: Calls, arguments: dict[str, Any], prefix: str) -> Mapping[str, Any]:
    """One answer. radosgw fails, without S3's error, where it begins behind or ends with a key with control characters.

    Such a page is asked for with other limits: from before the control character, and to another key. It fails of such a
    prefix, too, which is then cut before the control character: the answer has more names than were asked for.
    """
    position = arguments.get("StartAfter", "")
    control = _CONTROL.search(position)
    before = position if control is None else position[: control.start()]
    others: list[dict[str, Any]] = [
        {**arguments, "StartAfter": before, "MaxKeys": PAGE_KEYS - less} for less in _OTHER_LIMITS
    ]
    wanted = arguments.get("Prefix", "")
    broken = _CONTROL.search(wanted)
    if broken is not None and "Delimiter" not in arguments:
        cut = wanted[: broken.start()]
        others = [{**other, "Prefix": cut, "StartAfter": max(other["StartAfter"], cut)} for other in others]
    failure: BaseException | None = None
    for attempt in (arguments, *others):
        try:
            answer: Mapping[str, Any] = calls.client.list_objects_v2(**attempt)
        except RequestError as error:
            failure = error
            if code_of(error) != "500":
                break
        else:
            if not answer.get("IsTruncated") or any(_end(name) > position for name in _names(answer)):
                return answer
    if failure is None:
        raise StorageIOError(
            f"listing {shown(prefix)} in bucket {calls.bucket!r}: this server cannot go on behind {shown(position)}, "
            "because of its control character"
        )
    raise translate(failure, bucket=calls.bucket, what=f"listing {shown(prefix)}") from failure


def _end(name: tuple[str, bool]) -> str:
    """The last S3 key that a listed name stands for."""
    full, is_prefix = name
    return full + _LAST if is_prefix else full


def _names(answer: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    for item in answer.get("Contents", ()):
        yield item["Key"], False
    for item in answer.get("CommonPrefixes", ()):
        yield item["Prefix"], True
