"""Pauses between attempts: growing, capped, jittered, and forgotten only after things have gone well for a while."""

from __future__ import annotations

import random


class Backoff:
    """Gives the pauses before the first, second, third ... attempt, in seconds.

    Each is drawn from the upper half of ``base * 2**n``, at most ``cap``, so that clients which lost one broker together do
    not come back together.
    """

    def __init__(self, base: float, cap: float) -> None:
        self._base = base
        self._cap = cap
        self._attempt = 0
        self._well_since: float | None = None

    def next(self) -> float:
        """The pause before the next attempt."""
        # 2.0**1024 overflows, and the cap is reached long before 64 doublings.
        ceiling = min(self._cap, self._base * 2.0 ** min(self._attempt, 64))
        self._attempt += 1
        return random.uniform(ceiling / 2, ceiling)  # noqa: S311  # jitter, no secret

    def succeeded(self, now: float) -> None:
        """An attempt worked, at loop time ``now``."""
        self._well_since = now

    def failed(self, now: float) -> None:
        """What worked is lost again. The pauses start anew only if it had lasted longer than the longest of them."""
        if self._well_since is not None and now - self._well_since > self._cap:
            self._attempt = 0
        self._well_since = None
