"""What the benchmarks of the providers share: rates, work in flight, rounds that alternate, and a server to run against."""

from __future__ import annotations

import asyncio
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
    def __init__(self, messages: int) -> None:
        self._left = messages
        self.over = asyncio.Event()

    def one(self) -> None:
        self._left -= 1
        if not self._left:
            self.over.set()


async def compare(
    title: str, runs: dict[str, Callable[[int], Awaitable[tuple[Rate, Rate]]]], messages: int, rounds: int
) -> bool:
    """Run ``bare`` and ``ours`` in turn, print the medians, and say whether the ratios are as wanted."""
    print(f"{title}, {messages} messages a round, {rounds} rounds; messages/s")
    results: dict[str, list[tuple[Rate, Rate]]] = {name: [] for name in runs}
    for run in runs.values():
        await run(messages // 4)
    for number in range(rounds):
        for name in ("bare", "ours") if number % 2 else ("ours", "bare"):
            results[name].append(await runs[name](messages))
    good = True
    for position, work in enumerate(("publish, 100 in flight", "consume and ack")):
        wall = {name: statistics.median(pair[position].wall for pair in pairs) for name, pairs in results.items()}
        cpu = {name: statistics.median(pair[position].cpu for pair in pairs) for name, pairs in results.items()}
        ratio, cpu_ratio = wall["ours"] / wall["bare"], cpu["ours"] / cpu["bare"]
        good &= ratio >= WANTED
        print(
            f"{work:24} bare {wall['bare']:8,.0f}   ours {wall['ours']:8,.0f}   ratio {ratio:.2f}   by CPU {cpu_ratio:.2f}"
        )
    return good


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
