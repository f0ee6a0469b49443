"""Delays, rounded up to few enough steps that each can have a queue of its own.

RabbitMQ delays a message by letting it expire in a queue without consumers. Every message in such a queue has to have the
same delay: only the head expires, so a longer delay at the head would hold up shorter ones behind it. Hence a queue for
each target and step, and the steps are few: at most a third (below 50 ms: 10 ms) too long, exact for what people write.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import Final

_MINUTE: Final = 60_000
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
DELAY_STEPS_MS: Final = (
    *(10, 20, 30, 40, 50, 75, 100, 125, 150, 200, 250, 300, 400, 500, 600, 750),
    *(second * 1000 for second in (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 45, 50)),
    *(minute * _MINUTE for minute in (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 45, 50)),
    *(hour * _HOUR for hour in (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12, 15, 18, 20)),
    *(day * _DAY for day in (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 10, 12, 14, 17, 21, 24, 28, 30)),
)
"""Milliseconds."""
MAX_DELAY_SECONDS: Final = DELAY_STEPS_MS[-1] / 1000


def delay_step(delay: float) -> int:
    """The milliseconds that a message with a delay of ``delay`` seconds waits: 0, or the first step that is not shorter.

    Raises ``ValueError`` for what is no delay or longer than ``MAX_DELAY_SECONDS``.
    """
    if not math.isfinite(delay) or delay < 0 or delay > MAX_DELAY_SECONDS:
        raise ValueError(f"a delay must be from 0 to {MAX_DELAY_SECONDS:,.0f} seconds (30 days), got {delay!r}")
    if delay == 0:
        return 0
    # A microsecond of tolerance: 0.1 + 0.2 seconds are 300 ms, not the step after.
    return int(DELAY_STEPS_MS[bisect_left(DELAY_STEPS_MS, delay * 1000 - 1e-3)])
