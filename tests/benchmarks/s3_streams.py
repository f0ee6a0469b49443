"""What a stream of 256 MiB from S3 takes, by the size of its pieces and what its caller does: ``python tests/benchmarks/s3_streams.py [rounds]``

Against the server in memory (``s3_server.py``). A caller that works holds the event loop for as long as an answer of the same
size would take to parse: half a second a GiB. To compare versions run it in the checkouts of both, by turns.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time

import boto3
from s3 import BUCKET, Provider, credentials, running

SIZE = 256 << 20
PIECES = (64 << 10, 1 << 20)
WORK = (0.0, 0.5)
"""Seconds a GiB."""


async def taken(provider: Provider, piece: int, work: float) -> float:
    began = time.perf_counter()
    async for data in provider.storage.stream("k", chunk_size=piece):
        if work:
            time.sleep(work * len(data) / (1 << 30))  # noqa: ASYNC251 - it is the loop that shall be busy
    return time.perf_counter() - began


async def main(endpoint: str, rounds: int) -> None:
    boto3.client("s3", **credentials(endpoint)).create_bucket(Bucket=BUCKET)
    provider = Provider(endpoint, 8)
    await provider.write("k", bytes(SIZE))
    seconds: dict[tuple[int, float], list[float]] = {(piece, work): [] for piece in PIECES for work in WORK}
    for _ in range(rounds + 1):  # the first warms up
        for case, values in seconds.items():
            values.append(await taken(provider, *case))
    for (piece, work), (_, *values) in seconds.items():
        spread = f"{min(values):.2f} to {max(values):.2f}"
        print(f"pieces of {piece >> 10} KiB, {work} s a GiB of work: {statistics.median(values):.2f} s ({spread})")
    await provider.storage.close()


if __name__ == "__main__":
    with running("memory") as s3:
        asyncio.run(main(s3, int(sys.argv[1]) if len(sys.argv) > 1 else 5))
