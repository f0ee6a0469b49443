"""Virtual time. One monotonic clock a run; a wall clock a host, which can jump."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from factflow_infra_testing.simulation.errors import LivelockError
from factflow_infra_testing.simulation.owners import OWNER

if TYPE_CHECKING:
    from collections.abc import Callable

ORIGIN = datetime(2026, 1, 1, tzinfo=UTC)
"""What the wall clock shows when a run begins, unless it is told otherwise."""

SPIN_LIMIT = 250_000
NANOSECONDS = 1_000_000_000
LOCAL_HOST = "localhost"


class Clock:
    """``now`` is the number of virtual seconds since the run began; only the loop moves it, and never back."""

    __slots__ = ("_jumps", "_origin", "_origin_ns", "now", "on_spin", "reads")

    def __init__(self, origin: datetime = ORIGIN) -> None:
        if origin.tzinfo is None:
            raise ValueError(f"origin must have a time zone, got {origin!r}; use e.g. datetime(2026, 1, 1, tzinfo=UTC)")
        self.now = 0.0
        self.reads = 0
        self.on_spin: Callable[[LivelockError], None] | None = None
        self._origin = origin.timestamp()
        self._origin_ns = int(self._origin) * NANOSECONDS + origin.microsecond * 1000
        self._jumps: dict[str, float] = {}

    def jump(self, seconds: float, *, host: str | None = None) -> None:
        """Move the wall clock of ``host`` (None: of every host) by ``seconds``.

        Only the wall clock: timers and ``time.monotonic`` go on as before, as they do on a real machine.
        """
        key = host if host is not None else ""
        self._jumps[key] = self._jumps.get(key, 0.0) + seconds

    def most_ahead(self) -> float:
        """How many seconds the wall clock of a host is ahead at most, of those that have jumped: 0 where none is."""
        return self._jumps.get("", 0.0) + max(0.0, *(ahead for host, ahead in self._jumps.items() if host), 0.0)

    def monotonic(self) -> float:
        """What ``time.monotonic`` says: virtual seconds, 0 at the start of the run."""
        self._count_read()
        return self.now

    def monotonic_ns(self) -> int:
        """As ``monotonic``, in nanoseconds."""
        self._count_read()
        return round(self.now * NANOSECONDS)

    def wall(self) -> float:
        """What ``time.time`` says to the running code: seconds since 1970 on its host."""
        self._count_read()
        return self._origin + self.now + (self._offset() if self._jumps else 0.0)

    def wall_ns(self) -> int:
        """As ``wall``, in nanoseconds."""
        self._count_read()
        return self._origin_ns + round((self.now + (self._offset() if self._jumps else 0.0)) * NANOSECONDS)

    def _offset(self) -> float:
        owner = OWNER.get()
        host = owner.host if owner is not None else LOCAL_HOST
        return self._jumps.get("", 0.0) + self._jumps.get(host, 0.0)

    def _count_read(self) -> None:
        # Code that spins until some time has come would never return here: time passes only between callbacks.
        self.reads += 1
        if self.reads > SPIN_LIMIT:
            self.reads = 0
            error = LivelockError(
                f"The clock was read {SPIN_LIMIT} times within one callback: code that spins until a time has come"
                " never sees it come. Wait with asyncio.sleep() (or time.sleep() in a thread) instead."
            )
            if self.on_spin is not None:
                self.on_spin(error)
            raise error
