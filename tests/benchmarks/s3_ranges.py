"""What ranges gain: ``python tests/benchmarks/s3_ranges.py [--mib 64] [--limit 50] [--rounds 5]``

``MinioStorageProvider.get`` of one large object, in ranges and on one connection, from ``s3_server.py``, which gives each connection
``--limit`` MiB a second at most (0: as fast as it can). S3 gives one some 90 MB/s, as its guidelines say, however fast the network is.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time

import boto3
import s3_server

from factflow_infra.storage.minio import MinioStorageProvider, S3Options

MIB = 1024 * 1024


async def measure(endpoint: str, mib: int, rounds: int) -> None:
    keys = {"endpoint_url": endpoint, "access_key": "access", "secret_key": "secret"}
    boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1"
    ).create_bucket(Bucket="bucket")
    sides = {
        "ranges": MinioStorageProvider("bucket", options=S3Options(**keys)),
        "one connection": MinioStorageProvider("bucket", options=S3Options(**keys, multipart_threshold=1 << 32)),
    }
    await sides["ranges"].write("k", os.urandom(mib * MIB))
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, storage in sides.items():
            wall, cpu = time.perf_counter(), time.process_time()
            await storage.read("k")
            took[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    for name, times in took.items():
        wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{name:15} {mib / wall:7.1f} MiB/s, {1000 * cpu:.0f} ms of processor time")
        await sides[name].close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mib", type=int, default=64)
    parser.add_argument("--limit", type=float, default=50.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with s3_server.running(str(options.limit)) as endpoint:
        asyncio.run(measure(endpoint, options.mib, options.rounds))


if __name__ == "__main__":
    main()
