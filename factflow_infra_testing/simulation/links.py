"""Links between hosts: how long bytes travel, and whether they arrive at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from contextvars import Context

SYN_TIMEOUT = 127.0
"""Virtual seconds until a connect over a dead link gives up (Linux' default of six retries)."""


@dataclass(slots=True)
class Link:
    """One direction between two hosts. ``latency`` in virtual seconds; ``chunk`` the most bytes that arrive at once."""

    latency: float = 0.0
    chunk: int = 0
    up: bool = True


class Links:
    """All links; those never mentioned or used are as ``default``."""

    def __init__(self) -> None:
        self.default = Link()
        self._links: dict[tuple[str, str], Link] = {}
        self._on_heal: list[Callable[[], None]] = []
        self._watchers: list[Callable[[str, str], None]] = []
        self._cut_until: dict[tuple[str, str], float] = {}

    def get(self, source: str, target: str) -> Link:
        """What bytes from ``source`` to ``target`` travel on."""
        return self._links.get((source, target), self.default) if self._links else self.default

    def set(self, source: str, target: str, *, latency: float | None = None, chunk: int | None = None) -> None:
        """Change one direction."""
        link = self.own(source, target)
        link.latency = link.latency if latency is None else latency
        link.chunk = link.chunk if chunk is None else chunk

    def cut(self, one: str, other: str) -> None:
        """Partition: nothing passes between the two in either direction until ``heal``. Nobody is told."""
        self._cut_until.pop((min(one, other), max(one, other)), None)
        for pair in ((one, other), (other, one)):
            self.own(*pair).up = False
        self._changed(one, other)

    def cut_for(
        self, one: str, other: str, seconds: float, *, loop: asyncio.AbstractEventLoop, context: Context
    ) -> None:
        """``cut`` that heals by itself, unless a later one lasts longer."""
        pair = (min(one, other), max(one, other))
        until = loop.time() + seconds
        if not self.passable(one, other):
            if self._cut_until.get(pair, until) >= until:
                return  # it lasts longer already, or until somebody heals it
        else:
            self.cut(one, other)
        self._cut_until[pair] = until
        loop.call_at(until, self._rejoin, pair, until, context=context)

    def _rejoin(self, pair: tuple[str, str], until: float) -> None:
        if self._cut_until.get(pair) == until and not self.passable(*pair):
            self.heal(*pair)

    def heal(self, one: str, other: str) -> None:
        """End the partition: what was under way arrives now, as retransmission has it."""
        for pair in ((one, other), (other, one)):
            self.own(*pair).up = True
        self._changed(one, other)
        self._wake()

    def _wake(self) -> None:
        waiting, self._on_heal = self._on_heal, []
        for callback in waiting:
            callback()

    def heal_all(self) -> None:
        """End every partition, and wake all who wait for that."""
        for one, other in [pair for pair, link in self._links.items() if not link.up]:
            if not self.own(one, other).up:
                self.heal(one, other)
        self._wake()

    def passable(self, one: str, other: str) -> bool:
        """Whether bytes pass in both directions."""
        return self.get(one, other).up and self.get(other, one).up

    def watch(self, callback: Callable[[str, str], None]) -> None:
        """Have ``callback`` called with the two hosts after each ``cut`` and ``heal``."""
        self._watchers.append(callback)

    def _changed(self, one: str, other: str) -> None:
        for callback in self._watchers:
            callback(one, other)

    def when_healed(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once, at the next ``heal`` of any pair."""
        self._on_heal.append(callback)

    async def healed(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for the next ``heal`` of any pair."""
        future: asyncio.Future[None] = loop.create_future()
        self.when_healed(lambda: None if future.done() else future.set_result(None))
        await future

    def own(self, source: str, target: str) -> Link:
        """What bytes from ``source`` to ``target`` travel on from now on, to hold on to: changes are made in place."""
        found = self._links.get((source, target))
        if found is None:
            found = Link(self.default.latency, self.default.chunk, self.default.up)
            self._links[source, target] = found
        return found
