"""How long the behaviours wait: as written on virtual time, where waiting is free, and scaled down on real brokers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """``scale``: seconds of the loop's clock for a second in a behaviour. ``patience``: seconds of the loop's clock after
    which something that must happen counts as not happening.
    """

    scale: float
    patience: float

    def seconds(self, nominal: float) -> float:
        return nominal * self.scale


VIRTUAL_PACE: Final = Pace(scale=1.0, patience=1800.0)
LIVE_PACE: Final = Pace(scale=0.02, patience=30.0)


class Signal:
    """Wakes those who wait for a condition, each time something may have changed."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._waiting: list[asyncio.Future[None]] = []

    def notify(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def wait_for(self, holds: Callable[[], bool], describe: Callable[[], str]) -> None:
        """Return once ``holds()``; after ``patience`` seconds raise ``AssertionError`` with ``describe()``."""
        try:
            async with asyncio.timeout(self._patience):
                while not holds():
                    future = asyncio.get_running_loop().create_future()
                    self._waiting.append(future)
                    await future
        except TimeoutError:
            raise AssertionError(f"{describe()} (waited {self._patience:g} s)") from None
