"""What the benchmarks of the wire tiers share: a bare client and the provider by turns, their ratio, and whose time it is."""

from __future__ import annotations

import statistics
import sys
import time
from typing import TYPE_CHECKING

from sampling import sampled, shares

from factflow_infra_testing.simulation.runner import run

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    Traffic = Callable[[], Coroutine[Any, Any, None]]

MESSAGES = 3_000
WIDTH = 200
"""Publishes in flight."""
ROUNDS = 5


def seconds(traffic: Traffic) -> float:
    """Processor time that a run of ``traffic`` takes: all of it is in one thread, and nothing waits."""
    began = time.process_time()  # outside the run: inside, it is virtual
    run(traffic).result()
    return time.process_time() - began


def compare(client: str, bare: Traffic, provider: Traffic, *, wanted: float, idle: Traffic) -> None:
    """Print messages a second of both in interleaved rounds, the ratio of each pair, and the packages that the time goes to."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    for traffic in (bare, provider, idle):
        seconds(traffic)
    pairs: list[tuple[float, float]] = []
    for number in range(rounds):
        first, second = (bare, provider) if number % 2 else (provider, bare)
        one, two = MESSAGES / seconds(first), MESSAGES / seconds(second)
        pairs.append((one, two) if number % 2 else (two, one))
    print(f"Python {sys.version.split()[0]}, {rounds} interleaved rounds of {MESSAGES} messages, by processor time")
    for name, rates in ((f"bare {client}", [one for one, _ in pairs]), ("the provider", [two for _, two in pairs])):
        print(f"{name:24} {statistics.median(rates):8,.0f} messages/s  ({min(rates):,.0f} to {max(rates):,.0f})")
    ratios = [two / one for one, two in pairs]
    print(f"{'ratio, pair by pair':24} {statistics.median(ratios):8.2f}  ({min(ratios):.2f} to {max(ratios):.2f})")
    best = max(one for one, _ in pairs)
    print(f"wanted of the bare client {wanted:,.0f}: {'reached' if best >= wanted else 'missed'} by the best round")
    for name, traffic in ((f"bare {client}", bare), ("the provider", provider)):
        with sampled() as counts:
            seconds(traffic)
        print(f"time of {name}: {shares(counts)}")
    print(f"an hour of heart-beats   {1000 * min(seconds(idle) for _ in range(rounds)):8.0f} ms")
