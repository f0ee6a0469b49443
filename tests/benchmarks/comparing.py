"""What the benchmarks of the providers share: rates, work in flight, rounds that alternate, and a server to run against."""

from __future__ import annotations

import asyncio
import gc
import importlib
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

IN_FLIGHT = 100
PREFETCH = 100
BODY = b"x" * 256
WANTED = 0.85
FEWEST_FOR_QUARTILES = 5


@dataclass
class Rate:
    """Messages a second of wall time, and of this process' CPU time."""

    wall: float
    cpu: float


class Meter:
    """Measures one stretch of work."""

    def __init__(self, messages: int) -> None:
        self._messages = messages
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def rate(self) -> Rate:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return Rate(self._messages / wall, self._messages / cpu)


async def in_flight(messages: int, publish: Callable[[], Awaitable[object]]) -> Rate:
    numbers = iter(range(messages))

    async def work() -> None:
        for _ in numbers:
            await publish()

    meter = Meter(messages)
    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return meter.rate()


class Countdown:
    """Counts handled messages: the first starts the clock, and is followed by ``messages`` more."""

    def __init__(self, messages: int) -> None:
        self._messages = self._left = messages
        self._meter: Meter | None = None
        self.over = asyncio.Event()

    def one(self) -> None:
        if self._meter is None:
            self._meter = Meter(self._messages)
            return
        self._left -= 1
        if not self._left:
            self.over.set()

    async def rate(self) -> Rate:
        await self.over.wait()
        assert self._meter is not None
        return self._meter.rate()


async def compare(
    title: str,
    runs: dict[str, Callable[[int], Awaitable[tuple[Rate, Rate]]]],
    messages: int,
    rounds: int,
    *,
    warm_up: int = 1,
    each: bool = False,
) -> bool:
    """Run ``bare`` and ``ours`` by turns, each first in every other round, and print how they compare.

    A machine that is shared, and a broker that warms up and collects its garbage, change within minutes: so each round has a
    ratio of its own, of neighbours in time, and what counts is the median of the rounds' ratios. ``warm_up`` rounds before are
    not counted; all others are. ``each``: print every round. Returns whether the ratios by the clock are as wanted.
    """
    print(f"{title}, {messages} messages a round, {rounds} rounds after {warm_up} to warm up; messages/s")
    results: dict[str, list[tuple[Rate, Rate]]] = {name: [] for name in runs}
    for number in range(-warm_up, rounds):
        for name in ("bare", "ours") if number % 2 else ("ours", "bare"):
            gc.collect()
            rates = await runs[name](messages)
            if number >= 0:
                results[name].append(rates)
    good = True
    for position, work in enumerate((f"publish, {IN_FLIGHT} in flight", "consume and ack")):
        pairs = [(bare[position], ours[position]) for bare, ours in zip(results["bare"], results["ours"], strict=True)]
        wall = [ours.wall / bare.wall for bare, ours in pairs]
        cpu = [ours.cpu / bare.cpu for bare, ours in pairs]
        good &= statistics.median(wall) >= WANTED
        bare_rate, our_rate = (statistics.median(pair[side].wall for pair in pairs) for side in (0, 1))
        print(
            f"{work:24} bare {bare_rate:8,.0f}   ours {our_rate:8,.0f}   ratio {_spread(wall)}   by CPU {_spread(cpu)}",
            flush=True,
        )
        for number, (bare, ours) in enumerate(pairs if each else ()):
            print(
                f"  round {number:2}   bare {bare.wall:8,.0f}   ours {ours.wall:8,.0f}   ratio {wall[number]:.2f}"
                f"   by CPU {cpu[number]:.2f}"
            )
    return good


def _spread(ratios: list[float]) -> str:
    """The median, and the quartiles where there are enough for them."""
    median = f"{statistics.median(ratios):.2f}"
    if len(ratios) < FEWEST_FOR_QUARTILES:
        return median
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{median} ({low:.2f} to {high:.2f})"


def server_module(name: str) -> Any:
    """The module of the live tests that starts such servers."""
    live = str(Path(__file__).parents[1] / "live")
    if live not in sys.path:
        sys.path.insert(0, live)
    return importlib.import_module(f"servers.{name}")


@contextmanager
def running_server(uri: str | None, start: Callable[[Path], Any]) -> Iterator[str]:
    """``uri``, or that of a throw-away server that ``start`` makes in a folder."""
    if uri is not None:
        yield uri
        return
    with tempfile.TemporaryDirectory() as folder:
        server = start(Path(folder))
        server.start()
        try:
            yield server.uri
        finally:
            server.stop()
