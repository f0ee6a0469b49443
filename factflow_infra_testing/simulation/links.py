"""Links between hosts: how long bytes travel, and whether they arrive at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

SYN_TIMEOUT = 127.0
"""Virtual seconds until a connect over a dead link gives up (Linux' default of six retries)."""


@dataclass(slots=True)
class Link:
    """One direction between two hosts. ``latency`` in virtual seconds; ``chunk`` the most bytes that arrive at once."""

    latency: float = 0.0
    chunk: int = 0
    up: bool = True


class Links:
    """All links; those never mentioned are as ``default``."""

    def __init__(self) -> None:
        self.default = Link()
        self._links: dict[tuple[str, str], Link] = {}
        self._on_heal: list[Callable[[], None]] = []

    def get(self, source: str, target: str) -> Link:
        """What bytes from ``source`` to ``target`` travel on."""
        return self._links.get((source, target), self.default) if self._links else self.default

    def set(self, source: str, target: str, *, latency: float | None = None, chunk: int | None = None) -> None:
        """Change one direction."""
        link = self._own(source, target)
        link.latency = link.latency if latency is None else latency
        link.chunk = link.chunk if chunk is None else chunk

    def cut(self, one: str, other: str) -> None:
        """Partition: nothing passes between the two in either direction until ``heal``. Nobody is told."""
        for pair in ((one, other), (other, one)):
            self._own(*pair).up = False

    def heal(self, one: str, other: str) -> None:
        """End the partition: what was under way arrives now, as retransmission has it."""
        for pair in ((one, other), (other, one)):
            self._own(*pair).up = True
        waiting, self._on_heal = self._on_heal, []
        for callback in waiting:
            callback()

    def when_healed(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once, at the next ``heal`` of any pair."""
        self._on_heal.append(callback)

    async def healed(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for the next ``heal`` of any pair."""
        future: asyncio.Future[None] = loop.create_future()
        self.when_healed(lambda: None if future.done() else future.set_result(None))
        await future

    def _own(self, source: str, target: str) -> Link:
        found = self._links.get((source, target))
        if found is None:
            found = Link(self.default.latency, self.default.chunk, self.default.up)
            self._links[source, target] = found
        return found
