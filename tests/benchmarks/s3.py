"""``MinioStorageProvider`` against bare boto3 in threads doing the same work, interleaved in one run.

    python tests/benchmarks/s3.py [rounds]

Both talk to one throw-away radosgw on 127.0.0.1, a server of its own processes, with the same client settings and
``THREADS`` calls in flight. A write: SHA-256, a HEAD that learns when the key was first written, one PUT with the record as
object metadata. A read: one GET, the record read, the SHA-256 compared. So bare boto3 does by hand what the provider
promises; *least* is boto3 with neither checksum nor record nor HEAD, for the price of all that. Neither side streams.
Ratios above 1: the provider is faster. The server and whatever else runs share the machine's cores, so the rounds are short
and many, and the ratio is the median of those of neighbouring runs; ``CPU`` is that of this process's own time, which noise
touches less.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from factflow_infra.storage.minio import MinioStorageProvider, S3Options

if TYPE_CHECKING:
    from collections.abc import Callable

sys.path.insert(0, str(Path(__file__).parents[1] / "live" / "servers"))
import radosgw

THREADS = 8
METADATA = {"execution_id": "e-1", "route_id": "r-7", "stage": "extract", "message_id": "m-123", "lineage_id": "l-9"}
SIZES = {"4 KiB": (4096, 48), "1 MiB": (1024 * 1024, 24)}


class Bare:
    """boto3 as one would use it by hand."""

    def __init__(self, endpoint: str, *, least: bool = False) -> None:
        self.least = least
        self.threads = ThreadPoolExecutor(THREADS)
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=radosgw.ACCESS_KEY,
            aws_secret_access_key=radosgw.SECRET_KEY,
            region_name="us-east-1",
            config=Config(
                max_pool_connections=THREADS,
                signature_version="s3v4",
                retries={"mode": "standard", "total_max_attempts": 4},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def write(self, key: str, data: bytes) -> None:
        metadata = {} if self.least else {"record": self.record(key, data)}
        self.client.put_object(
            Bucket="bucket", Key=key, Body=data, ContentType="application/octet-stream", Metadata=metadata
        )

    def record(self, key: str, data: bytes) -> str:
        now = datetime.now(UTC).isoformat()
        created = now
        try:
            answer = self.client.head_object(Bucket="bucket", Key=key)
            created = json.loads(answer["Metadata"]["record"])["created_at"]
        except (ClientError, KeyError):
            pass
        record = {"checksum": hashlib.sha256(data).hexdigest(), "created_at": created, "modified_at": now}
        return json.dumps({**record, "metadata": METADATA})

    def read(self, key: str) -> None:
        answer = self.client.get_object(Bucket="bucket", Key=key)
        data = answer["Body"].read()
        if not self.least:
            record = json.loads(answer["Metadata"]["record"])
            if hashlib.sha256(data).hexdigest() != record["checksum"]:
                raise RuntimeError("corrupt")

    def all(self, function: Callable[..., None], calls: list[tuple[Any, ...]]) -> float:
        began = time.perf_counter()
        list(self.threads.map(lambda arguments: function(*arguments), calls))
        return time.perf_counter() - began


async def provider_all(function: Callable[..., Any], calls: list[tuple[Any, ...]]) -> float:
    limit = asyncio.Semaphore(THREADS)

    async def one(arguments: tuple[Any, ...]) -> None:
        async with limit:
            await function(*arguments)

    began = time.perf_counter()
    await asyncio.gather(*(one(arguments) for arguments in calls))
    return time.perf_counter() - began


async def measure(endpoint: str, rounds: int) -> bool:
    bare, least = Bare(endpoint), Bare(endpoint, least=True)
    bare.client.create_bucket(Bucket="bucket")
    options = S3Options(
        endpoint_url=endpoint,
        access_key=radosgw.ACCESS_KEY,
        secret_key=radosgw.SECRET_KEY,
        max_concurrency=THREADS,
    )
    good = True
    async with MinioStorageProvider("bucket", "ours", options=options) as provider:
        for label, (size, count) in SIZES.items():
            data = [os.urandom(size) for _ in range(8)]
            keys = [f"{label}/{number}".replace(" ", "") for number in range(count)]
            writes = {
                side: [(f"{side}/{key}", data[n % 8]) for n, key in enumerate(keys)] for side in ("bare", "least")
            }
            ours = [(key, data[n % 8], METADATA) for n, key in enumerate(keys)]
            results: dict[str, list[tuple[float, float, float, float]]] = {"write": [], "read": []}
            for turn in range(rounds + 1):  # the first warms up
                for work, rows in results.items():
                    runs: dict[str, Any] = {
                        "provider": lambda work=work, ours=ours, keys=keys: provider_all(
                            provider.write if work == "write" else provider.read,
                            ours if work == "write" else [(key,) for key in keys],
                        ),
                        "bare": lambda work=work, writes=writes: asyncio.to_thread(
                            bare.all,
                            getattr(bare, work),
                            writes["bare"] if work == "write" else [(key,) for key, _ in writes["bare"]],
                        ),
                        "least": lambda work=work, writes=writes: asyncio.to_thread(
                            least.all,
                            getattr(least, work),
                            writes["least"] if work == "write" else [(key,) for key, _ in writes["least"]],
                        ),
                    }
                    order = list(runs) if turn % 2 else list(reversed(runs))
                    took, spent = {}, {}
                    for side in order:
                        began = time.process_time()
                        took[side] = await runs[side]()
                        spent[side] = time.process_time() - began
                    if turn:
                        rows.append((took["provider"], took["bare"], took["least"], spent["bare"] / spent["provider"]))
            for work, rows in results.items():
                provider_rate, bare_rate, least_rate = (
                    statistics.median(count / row[side] for row in rows) for side in range(3)
                )
                ratio = statistics.median(row[1] / row[0] for row in rows)
                processor = statistics.median(row[3] for row in rows)
                price = statistics.median(row[2] / row[0] for row in rows)
                print(
                    f"{label:>6} {work:<5}  provider {provider_rate:7.1f}/s   bare boto3 {bare_rate:7.1f}/s   "
                    f"ratio {ratio:.2f}, CPU {processor:.2f}   (least {least_rate:7.1f}/s, ratio {price:.2f})"
                )
                good &= size < 1024 * 1024 or ratio >= 0.9
    bare.client.close()
    least.client.close()
    return good


def main() -> int:
    missing = radosgw.missing()
    if missing is not None:
        print(missing)
        return 2
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 21
    with tempfile.TemporaryDirectory() as folder, radosgw.Radosgw(Path(folder)) as server:
        good = asyncio.run(measure(server.endpoint, rounds))
    print("at 1 MiB at least 0.9:", "yes" if good else "NO")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
