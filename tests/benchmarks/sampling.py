"""Whose code the processor's time goes to: a sampling profiler by package, cheap enough not to distort the shares.

A profiler that traces calls makes code of many small calls, such as a parser that goes byte by byte, look dearer than it is.
"""

from __future__ import annotations

import signal
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

INTERVAL = 0.001
"""Seconds of processor time between two samples."""


def owner_of(filename: str) -> str:
    """The package that a source file belongs to: a library, one of ours, or Python's own."""
    for marker in ("site-packages/", "factflow_infra_testing/", "factflow_infra/"):
        head, found, tail = filename.rpartition(marker)
        if found:
            name = tail.partition("/")[0] if marker == "site-packages/" else marker.rstrip("/")
            return name.removesuffix(".py")
        del head
    return "the benchmark" if "benchmarks/" in filename else "Python's library"


@contextmanager
def sampled(by: str = "package") -> Iterator[Counter[str]]:
    """Count samples of the main thread inside, by package, or with ``by="function"`` by the function that was running.

    What a function written in C takes is its caller's.
    """
    counts: Counter[str] = Counter()

    def take(_: int, frame: FrameType | None) -> None:
        if frame is not None:
            code = frame.f_code
            name = owner_of(code.co_filename)
            counts[name if by == "package" else f"{name}: {code.co_qualname}"] += 1

    before = signal.signal(signal.SIGPROF, take)
    signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
    try:
        yield counts
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def shares(counts: Counter[str], most: int = 6) -> str:
    """The largest shares in percent, largest first."""
    total = counts.total() or 1
    return ", ".join(f"{name} {100 * count / total:.0f} %" for name, count in counts.most_common(most))
