"""Acks and nacks as the client keeps them before the broker hears of them: both resolve at once, and are sent later."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from factflow_infra_testing.api.pulsar.values import Key
    from factflow_infra_testing.broker.entries import Position

GROUPING: Final = 0.1
"""Seconds between two lists of acks."""
LARGEST_GROUP: Final = 1000
SHORTEST_NACK_DELAY: Final = 0.1

_BEHIND_ALL: Final = 1 << 31


class AckGrouping:
    """``AckGroupingTrackerEnabled``: acks are sent every 100 ms since the consumer began, all in one list.

    ``send`` sends one and says whether there was a connection to send it on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, send: Callable[[list[Position], bool], bool]) -> None:
        self._loop = loop
        self._send = send
        self._begun = loop.time()
        self._waiting: dict[Key, None] = {}
        self._cumulative: Key | None = None
        self._cumulative_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def add(self, key: Key) -> None:
        """Ack one entry."""
        self._waiting[key] = None
        if len(self._waiting) >= LARGEST_GROUP:
            self.flush()
        self._arm()

    def add_cumulative(self, key: Key) -> None:
        """Ack all up to an entry."""
        if self._cumulative is None or _order(key) > _order(self._cumulative):
            self._cumulative = key
            self._cumulative_due = True
            self._arm()

    def is_duplicate(self, key: Key) -> bool:
        """Whether an ack of it is under way: then it is not shown again."""
        if self._cumulative is not None and _order(key) <= _order(self._cumulative):
            return True
        return key in self._waiting

    def flush(self) -> None:
        """Send what waits; without a connection it goes on waiting."""
        cumulative = self._cumulative
        if self._cumulative_due and cumulative is not None and self._send([cumulative[:2]], True):
            self._cumulative_due = False
        waiting = sorted(self._waiting, key=_order)
        if waiting and self._send([key[:2] for key in waiting], False):
            self._waiting.clear()

    def forget(self) -> None:
        """Send what waits, and know nothing any more: the cursor goes elsewhere."""
        self.flush()
        self._waiting.clear()
        self._cumulative = None
        self._cumulative_due = False

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.flush()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._timer is None and not self._closed and (self._waiting or self._cumulative_due):
            ticks = ceil((self._loop.time() - self._begun) / GROUPING + 1e-9)
            self._timer = self._loop.call_at(self._begun + ticks * GROUPING, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.flush()
        self._arm()


class NackTimer:
    """``NegativeAcksTracker``: looks every third of the delay for what has waited long enough.

    Each nack starts that third anew, so nacks in quick succession put off the redelivery of all of them.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, delay: float, redeliver: Callable[[list[Position]], None]
    ) -> None:
        self._loop = loop
        self._delay = max(SHORTEST_NACK_DELAY, delay)
        self._redeliver = redeliver
        self._due: dict[Position, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def add(self, position: Position) -> None:
        """Nack an entry; of a batch that is the whole of it."""
        self._due[position] = self._loop.time() + self._delay
        self._arm()

    def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._closed:
            self._timer = self._loop.call_later(self._delay / 3, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._due:
            return
        now = self._loop.time()
        ripe = sorted(position for position, due in self._due.items() if due <= now)
        for position in ripe:
            del self._due[position]
        if ripe:
            self._redeliver(ripe)
        self._arm()


def _order(key: Key) -> Key:
    """A whole entry comes behind the messages of its batch."""
    return (key[0], key[1], _BEHIND_ALL if key[2] < 0 else key[2])
