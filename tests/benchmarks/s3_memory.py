"""Memory of ``MinioStorageProvider``: ``python tests/benchmarks/s3_memory.py [--mib 2048] [--keys 1000000]``

A stream of ``--mib`` MiB goes up to a throw-away radosgw on 127.0.0.1 and comes down again, and ``--keys`` keys are listed from a
server in this process that makes up its pages. Prints how far the resident memory of this process rose above what it was before, at
its highest; exits with 1 where that is 100 MiB or more.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import boto3
from botocore.awsrequest import AWSResponse

from factflow_infra.storage.minio import MinioStorageProvider, S3Options
from factflow_infra_testing.storage.s3_requests import RawBody

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

sys.path.insert(0, str(Path(__file__).parents[1] / "live" / "servers"))
import radosgw

MIB = 1024 * 1024
BOUND = 100
PAGE = 1000
CHUNK = os.urandom(MIB)


def peak() -> float:
    """The highest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def stream(mib: int) -> tuple[float, float]:
    """MiB that the peak rose by on the way up, and on the way down."""
    keys = {"access_key": radosgw.ACCESS_KEY, "secret_key": radosgw.SECRET_KEY}
    with tempfile.TemporaryDirectory() as folder, radosgw.Radosgw(Path(folder)) as server:
        boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            region_name="us-east-1",
            aws_access_key_id=radosgw.ACCESS_KEY,
            aws_secret_access_key=radosgw.SECRET_KEY,
        ).create_bucket(Bucket="bucket")
        async with MinioStorageProvider("bucket", options=S3Options(endpoint_url=server.endpoint, **keys)) as storage:
            await storage.write("warm", CHUNK)
            await storage.read("warm")
            before = peak()
            digest = hashlib.sha256()

            async def pieces() -> AsyncIterator[bytes]:
                for _ in range(mib):
                    digest.update(CHUNK)
                    yield CHUNK

            info = await storage.write("large", pieces())
            up = peak()
            assert info.checksum == f"sha256:{digest.hexdigest()}"
            size = 0
            async for piece in storage.stream("large"):
                size += len(piece)
            assert size == mib * MIB
            return up - before, peak() - before


async def listing(keys: int) -> float:
    """MiB that the peak rose by while ``keys`` keys were listed."""
    options = S3Options(endpoint_url="http://127.0.0.1:1", access_key="a", secret_key="b")
    from factflow_infra.storage.minio.client import make_client

    client: Any = make_client(options)

    def page(request: Any, **_: Any) -> Any:
        after = parse_qs(urlsplit(request.url).query).get("start-after", ["k-1"])[0]
        first = int(after.removeprefix("k")) + 1
        names = range(first, min(first + PAGE, keys))
        entries = "".join(f"<Contents><Key>k{n:09}</Key><Size>1</Size></Contents>" for n in names)
        more = "true" if first + PAGE < keys else "false"
        body = f"<ListBucketResult><IsTruncated>{more}</IsTruncated>{entries}</ListBucketResult>".encode()
        headers: Any = {"content-type": "application/xml"}
        return AWSResponse(request.url, 200, headers, RawBody(body))

    client.meta.events.register_first("before-send.s3", page)
    async with MinioStorageProvider("bucket", client=client) as storage:
        async for _ in storage.list("k00000000"):
            break
        before, count = peak(), 0
        async for _ in storage.list():
            count += 1
        assert count == keys, count
        return peak() - before


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--keys", type=int, default=1_000_000)
    chosen = parser.parse_args()
    missing = radosgw.missing()
    if missing is not None:
        print(missing)
        return 2
    began = time.perf_counter()
    listed = asyncio.run(listing(chosen.keys))
    print(
        f"{chosen.keys:,} keys listed: {listed:.1f} MiB above the start, {time.perf_counter() - began:.0f} s",
        flush=True,
    )
    began = time.perf_counter()
    up, down = asyncio.run(stream(chosen.mib))
    print(f"{chosen.mib:,} MiB: up {up:.1f}, down {down:.1f} MiB above the start, {time.perf_counter() - began:.0f} s")
    return 0 if max(listed, up, down) < BOUND else 1


if __name__ == "__main__":
    sys.exit(main())
