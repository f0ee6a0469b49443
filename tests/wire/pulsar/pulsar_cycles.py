"""Create, use and close a Pulsar provider on the wire tier, again and again.

``python tests/wire/pulsar/pulsar_cycles.py --cycles 500``

Each cycle connects the real client to the simulated broker, publishes and consumes a message, and closes; every tenth has its
connection broken first, and every tenth a publish under way. Prints the seconds, and the threads and descriptors before and
after; exits with 1 if a cycle hangs or anything is left.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import time
from pathlib import Path

from pulsar_clients import run_loop, url_of

from factflow_infra.errors import QueueError
from factflow_infra.protocols import QueueMessage
from factflow_infra.queue.pulsar import PulsarQueueProvider
from factflow_infra.queue.settings import QueueSettings
from factflow_infra_testing.wire.serving import serve

PATIENCE = 30.0
WARM_UP = 5
"""Cycles before the first count: what the library keeps for the whole process is there then."""


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) - 1  # without the one that lists them


async def cycle(server, number: int) -> None:
    provider = PulsarQueueProvider(QueueSettings(uri=url_of(server)))
    arrived = asyncio.Event()

    async def handle(_: QueueMessage) -> None:
        arrived.set()

    queue = f"cycle-{number % 7}"
    await provider.subscribe(queue, handle)
    await provider.publish(queue, QueueMessage(b"x"))
    await arrived.wait()
    under_way = None
    if number % 10 == 3:
        server.broker.restart()
        server.broker.up_at = 0.0
    elif number % 10 == 7:
        under_way = asyncio.ensure_future(provider.publish(queue, QueueMessage(b"y")))
        await asyncio.sleep(0)
    await provider.stop(timeout=5)
    if under_way is not None:
        with contextlib.suppress(QueueError):  # it was cut off, and says so
            await under_way


async def cycles(count: int) -> tuple[float, tuple[int, int], tuple[int, int]]:
    """The seconds of ``count`` cycles, and threads and descriptors before and after."""
    async with await serve(profile="pulsar") as server:
        for number in range(WARM_UP):
            await asyncio.wait_for(cycle(server, number), PATIENCE)
        gc.collect()
        await asyncio.sleep(0.5)
        before = threads(), descriptors()
        started = time.perf_counter()
        for number in range(count):
            await asyncio.wait_for(cycle(server, number), PATIENCE)
        seconds = time.perf_counter() - started
        after = before
        gc.collect()  # the library lets go of a client's last thread when nothing refers to its producers any more
        for _ in range(50):  # threads that have been told to end take a moment
            after = threads(), descriptors()
            if after[0] <= before[0] and after[1] <= before[1]:
                break
            await asyncio.sleep(0.1)
        return seconds, before, after


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cycles", type=int, default=500)
    count = parser.parse_args().cycles
    seconds, before, after = run_loop(cycles(count))
    print(
        f"{count} cycles in {seconds:.0f} s, {1000 * seconds / count:.0f} ms each; threads {before[0]} before, {after[0]} after; "
        f"descriptors {before[1]} before, {after[1]} after"
    )
    raise SystemExit(after[0] > before[0] or after[1] > before[1])


if __name__ == "__main__":
    main()
