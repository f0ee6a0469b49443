"""Wall-clock time, and the one text form that timestamps have on a wire.

``2026-04-22T18:30:00.123456+00:00``: always microseconds, always a numeric offset. Artemis drops frames whose timestamp
headers look otherwise, and text of one length sorts as time does.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Final

from factflow_infra.errors import InvalidMessageError

_FORM: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d(:\d\d(\.\d{6})?)?", re.ASCII)


def utc_now() -> datetime:
    """Now, aware, in UTC. Reads ``time.time``, so that whoever replaces the clock replaces it here too."""
    return datetime.fromtimestamp(time.time(), UTC)


def format_timestamp(moment: datetime) -> str:
    """``moment`` with microseconds and a numeric offset. Raises ``InvalidMessageError`` where it has no time zone."""
    if moment.tzinfo is not UTC and moment.utcoffset() is None:
        raise InvalidMessageError(f"timestamp must have a time zone, got {moment!r}")
    # The shorter call writes them too where there are some, in two thirds of the time.
    return moment.isoformat() if moment.microsecond else moment.isoformat(timespec="microseconds")


def parse_timestamp(text: str) -> datetime:
    """The moment that ``format_timestamp`` wrote. Raises ``InvalidMessageError`` for any other form."""
    if _FORM.fullmatch(text) is None:
        raise InvalidMessageError(
            f"timestamp must look like 2026-04-22T18:30:00.123456+00:00 (microseconds, numeric offset), got {text!r}"
        )
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidMessageError(f"timestamp names no moment: {text!r} ({error})") from error
