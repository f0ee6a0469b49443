"""``PulsarQueueProvider`` made, used and closed again and again: no hang, and no thread or descriptor left.

    python tests/benchmarks/pulsar_cycles.py [--cycles 500] [--uri pulsar://127.0.0.1:6650]

Without ``--uri`` the server is that of the wire tier, in this process, so that its own descriptors count too. A cycle: connect,
subscribe to a queue, to a topic by name and without, publish to both, wait for all three, stop. Every tenth is cut off in the
middle instead: its session is lost and it stops without having come back.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

# A file beside this one has the name of the client: the folder they are in must not come first.
sys.path.append(sys.path.pop(0))

from factflow_infra import create_queue_provider
from factflow_infra.queue.messages import QueueMessage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WARM = 20
"""Cycles before anything is counted: what is loaded once is loaded then."""
SECONDS = 30.0
"""A cycle that takes longer hangs."""
REST = 1.0
"""Seconds in which threads that have ended disappear."""


def counted() -> tuple[int, int]:
    """Threads and descriptors of this process."""
    return len([*Path("/proc/self/task").iterdir()]), len([*Path("/proc/self/fd").iterdir()])


@contextlib.asynccontextmanager
async def server(uri: str | None) -> AsyncIterator[str]:
    if uri is not None:
        yield uri
        return
    from factflow_infra_testing.wire.serving import serve

    async with await serve(profile="pulsar") as serving:
        yield f"pulsar://127.0.0.1:{serving.port}"


async def cycle(uri: str, *, cut: bool) -> None:
    came = asyncio.Semaphore(0)

    async def take(_: QueueMessage) -> None:
        came.release()

    async with create_queue_provider(uri) as provider:
        await provider.subscribe("cycles", take)
        await provider.subscribe("/topic/cycles", take, subscription="named")
        await provider.subscribe("/topic/cycles", take)
        if cut:
            session: Any = provider._transport._live.session
            session.lose("cut off in the middle")
            return
        await provider.publish("cycles", QueueMessage(b"x"))
        await provider.publish("/topic/cycles", QueueMessage(b"x"))
        for _ in range(3):
            await came.acquire()


async def run(uri: str | None, cycles: int) -> bool:
    slowest, before = 0.0, (0, 0)
    async with server(uri) as where:
        for number in range(WARM + cycles):
            if number == WARM:
                before = await settled()
            start = time.monotonic()
            async with asyncio.timeout(SECONDS):
                await cycle(where, cut=number % 10 == 4)
            slowest = max(slowest, time.monotonic() - start)
        after = await settled()
    print(f"{cycles} cycles, the slowest {slowest:.2f} s; threads {before[0]} -> {after[0]}", end="")
    print(f", descriptors {before[1]} -> {after[1]}")
    return after[0] <= before[0] and after[1] <= before[1]


async def settled() -> tuple[int, int]:
    gc.collect()
    await asyncio.sleep(REST)
    return counted()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--uri")
    parser.add_argument("--cycles", type=int, default=500)
    options = parser.parse_args()
    return 0 if asyncio.run(run(options.uri, options.cycles)) else 1


if __name__ == "__main__":
    sys.exit(main())
