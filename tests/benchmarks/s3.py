"""``MinioStorageProvider`` against its peers, interleaved in one run.

    python tests/benchmarks/s3.py [--server memory|radosgw] [--size 1MiB] [--at-once 64] [--side boto3] [--rounds N] [--profile]

All talk to one local S3 server, of its own processes. ``memory`` is ``s3_server.py``, which costs less than any of its clients, so
that those are what is measured; ``radosgw`` is a throw-away one, whose own work hides some of theirs. ``boto3`` does in threads what the
provider promises: SHA-256, a HEAD that learns when the key was first written, one PUT with the record as object metadata; a GET, the
record read, the SHA-256 compared. ``plain`` is boto3 without all that. The others (aioboto3, obstore, s3fs) only move bytes, too.
256 MiB go up in parts wherever a client can; ``boto3`` and ``plain`` use its transfer manager, which also reads in ranges. 64 objects
of 256 MiB at once are 16 GiB: all put the same few, and read them as streams of 1 MiB, once, without a round to warm up; s3fs, which
reads whole objects only, does not take part. The event loop gets each piece; in a row of its own ``boto3`` and ``plain`` keep the pieces
in their threads, and hand over nothing.

It prints a table: the provider's calls a second, and how much faster it is than each peer, a ratio above 1; in brackets the same by
this process' own processor time, which noise touches less. The server and whatever else runs share the machine's cores, so the
rounds are many, and a ratio is the median of those of neighbouring runs. ``--size``, ``--at-once`` and ``--side`` choose rows and
peers, each as often as wanted, and a peer that is not chosen need not be installed (aioboto3 holds boto3 back): all of it takes about twenty minutes, half of them the row of 64 large objects.

``--profile``: where the processor time of a call goes, which is the distance to obstore.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import hashlib
import io
import json
import os
import pstats
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from factflow_infra.storage.minio import MinioStorageProvider, S3Options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

sys.path.insert(0, str(Path(__file__).parents[1] / "live" / "servers"))
import radosgw
import s3_server

BUCKET = "bucket"
METADATA = {"execution_id": "e-1", "route_id": "r-7", "stage": "extract", "message_id": "m-123", "lineage_id": "l-9"}
KIB, MIB = 1024, 1024 * 1024
LARGE = 16 * MIB
ROUNDS, ROUNDS_OF_LARGE = 12, 3
SIDES = ("provider", "boto3", "plain", "aioboto3", "obstore", "s3fs")
WORK = {
    ("4KiB", 1): (4 * KIB, 24),
    ("4KiB", 64): (4 * KIB, 192),
    ("1MiB", 1): (MIB, 12),
    ("1MiB", 64): (MIB, 96),
    ("256MiB", 1): (256 * MIB, 1),
    ("256MiB", 4): (256 * MIB, 4),
    ("256MiB", 64): (256 * MIB, 64),
}
"""Size and number of calls, by size and calls at once."""
IN_MEMORY = 4 * 1024 * MIB
"""What is more at once is read as streams."""
ACTIONS = {"write": "write", "read": "read"}
STREAMED = {"write": "write", "read": "stream", "read, boto3 hands nothing over": "keep"}
"""The rows of a size, and what is called for each of them; a side that lacks it does not take part."""


class Boto3:
    """boto3 as one would use it by hand, in threads; ``plain``: without checksum, record and HEAD."""

    def __init__(self, endpoint: str, threads: int, *, plain: bool) -> None:
        self.plain = plain
        self.folder = "plain/" if plain else "boto3/"
        self.threads = ThreadPoolExecutor(threads)
        config = Config(
            max_pool_connections=threads,
            signature_version="s3v4",
            retries={"mode": "standard", "total_max_attempts": 4},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        self.client: Any = boto3.client("s3", **credentials(endpoint), config=config)

    async def write(self, key: str, data: bytes) -> None:
        await asyncio.get_running_loop().run_in_executor(self.threads, self._write, self.folder + key, data)

    async def read(self, key: str) -> None:
        await asyncio.get_running_loop().run_in_executor(self.threads, self._read, self.folder + key)

    async def stream(self, key: str) -> None:
        loop = asyncio.get_running_loop()
        pieces = self._pieces(self.folder + key)
        while await loop.run_in_executor(self.threads, next, pieces, None):
            pass

    async def keep(self, key: str) -> None:
        await asyncio.get_running_loop().run_in_executor(self.threads, all, self._pieces(self.folder + key))

    def _write(self, key: str, data: bytes) -> None:
        metadata = {} if self.plain else {"record": self._record(key, data)}
        if len(data) > LARGE:
            self.client.upload_fileobj(io.BytesIO(data), BUCKET, key, ExtraArgs={"Metadata": metadata})
        else:
            self.client.put_object(Bucket=BUCKET, Key=key, Body=data, Metadata=metadata)

    def _record(self, key: str, data: bytes) -> str:
        created = now = datetime.now(UTC).isoformat()
        try:
            answer = self.client.head_object(Bucket=BUCKET, Key=key)
            created = json.loads(answer["Metadata"]["record"])["created_at"]
        except (ClientError, KeyError):
            pass
        record = {"checksum": hashlib.sha256(data).hexdigest(), "created_at": created, "modified_at": now}
        return json.dumps({**record, "metadata": METADATA})

    def _read(self, key: str) -> None:
        if "256MiB" in key:
            sink = io.BytesIO()
            self.client.download_fileobj(BUCKET, key, sink)
            data: Any = sink.getbuffer()
            metadata = {} if self.plain else self.client.head_object(Bucket=BUCKET, Key=key)["Metadata"]
        else:
            answer = self.client.get_object(Bucket=BUCKET, Key=key)
            data, metadata = answer["Body"].read(), answer["Metadata"]
        if not self.plain and hashlib.sha256(data).hexdigest() != json.loads(metadata["record"])["checksum"]:
            raise RuntimeError("corrupt")

    def _pieces(self, key: str) -> Iterator[bytes]:
        answer = self.client.get_object(Bucket=BUCKET, Key=key)
        digest = hashlib.sha256()
        for piece in answer["Body"].iter_chunks(MIB):
            if not self.plain:
                digest.update(piece)
            yield piece
        if not self.plain and digest.hexdigest() != json.loads(answer["Metadata"]["record"])["checksum"]:
            raise RuntimeError("corrupt")


class Provider:
    def __init__(self, endpoint: str, threads: int) -> None:
        self.storage = MinioStorageProvider(
            BUCKET,
            "provider",
            options=S3Options(
                endpoint_url=endpoint,
                access_key=radosgw.ACCESS_KEY,
                secret_key=radosgw.SECRET_KEY,
                max_concurrency=threads,
            ),
        )

    async def write(self, key: str, data: bytes) -> None:
        await self.storage.write(key, data, METADATA)

    async def read(self, key: str) -> None:
        await self.storage.read(key)

    async def stream(self, key: str) -> None:
        async for _ in self.storage.stream(key, chunk_size=MIB):
            pass

    keep = stream


class Aioboto3:
    def __init__(self, client: Any) -> None:
        self.client = client

    async def write(self, key: str, data: bytes) -> None:
        if len(data) > LARGE:
            await self.client.upload_fileobj(io.BytesIO(data), BUCKET, f"aioboto3/{key}")
        else:
            await self.client.put_object(Bucket=BUCKET, Key=f"aioboto3/{key}", Body=data)

    async def read(self, key: str) -> None:
        answer = await self.client.get_object(Bucket=BUCKET, Key=f"aioboto3/{key}")
        async with answer["Body"] as body:
            await body.read()

    async def stream(self, key: str) -> None:
        answer = await self.client.get_object(Bucket=BUCKET, Key=f"aioboto3/{key}")
        async with answer["Body"] as body:
            async for _ in body.content.iter_chunked(MIB):
                pass


class Obstore:
    def __init__(self, endpoint: str) -> None:
        import obstore
        from obstore.store import S3Store

        self.calls: Any = obstore
        self.store = S3Store(
            BUCKET,
            prefix="obstore",
            endpoint=endpoint,
            access_key_id=radosgw.ACCESS_KEY,
            secret_access_key=radosgw.SECRET_KEY,
            region="us-east-1",
            client_options={"allow_http": True},
        )

    async def write(self, key: str, data: bytes) -> None:
        await self.calls.put_async(self.store, key, data)

    async def read(self, key: str) -> None:
        await (await self.calls.get_async(self.store, key)).bytes_async()

    async def stream(self, key: str) -> None:
        async for _ in (await self.calls.get_async(self.store, key)).stream(min_chunk_size=MIB):
            pass


class S3fs:
    def __init__(self, endpoint: str) -> None:
        import s3fs

        self.files: Any = s3fs.S3FileSystem(
            key=radosgw.ACCESS_KEY,
            secret=radosgw.SECRET_KEY,
            endpoint_url=endpoint,
            asynchronous=True,
            config_kwargs={"request_checksum_calculation": "when_required"},
        )

    async def write(self, key: str, data: bytes) -> None:
        await self.files._pipe_file(f"{BUCKET}/s3fs/{key}", data)

    async def read(self, key: str) -> None:
        await self.files._cat_file(f"{BUCKET}/s3fs/{key}")

    async def close(self) -> None:
        await (await self.files.set_session()).close()


def credentials(endpoint: str) -> dict[str, str]:
    return {
        "endpoint_url": endpoint,
        "aws_access_key_id": radosgw.ACCESS_KEY,
        "aws_secret_access_key": radosgw.SECRET_KEY,
        "region_name": "us-east-1",
    }


async def run(call: Callable[..., Any], calls: list[tuple[Any, ...]], at_once: int) -> tuple[float, float]:
    limit = asyncio.Semaphore(at_once)

    async def one(arguments: tuple[Any, ...]) -> None:
        async with limit:
            await call(*arguments)

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one(arguments) for arguments in calls))
    return time.perf_counter() - wall, time.process_time() - cpu


async def measure(endpoint: str, rounds: int | None, sizes: list[str], at: list[int], peers: list[str]) -> bool:
    good = True
    boto3.client("s3", **credentials(endpoint)).create_bucket(Bucket=BUCKET)
    chosen = [side for side in SIDES if not peers or side in ("provider", *peers)]
    print(f"| | {' | '.join(chosen)} |\n|{'---|' * (len(chosen) + 1)}", flush=True)
    async with AsyncExitStack() as stack:
        pool = Config(max_pool_connections=64, request_checksum_calculation="when_required")
        aio: Any = None
        if "aioboto3" in chosen:
            import aioboto3

            session: Any = aioboto3.Session()
            aio = await stack.enter_async_context(session.client("s3", **credentials(endpoint), config=pool))
        for (label, at_once), (size, count) in WORK.items():
            if (sizes and label not in sizes) or (at and at_once not in at):
                continue
            threads = max(8, at_once)
            makers: dict[str, Callable[[], Any]] = {
                "provider": partial(Provider, endpoint, threads),
                "boto3": partial(Boto3, endpoint, threads, plain=False),
                "plain": partial(Boto3, endpoint, threads, plain=True),
                "aioboto3": partial(Aioboto3, aio),
                "obstore": partial(Obstore, endpoint),
                "s3fs": partial(S3fs, endpoint),
            }
            sides = {side: makers[side]() for side in chosen if side != "s3fs" or count * size <= IN_MEMORY}
            turns = rounds or (ROUNDS if size < LARGE else ROUNDS_OF_LARGE)
            for action, rows in (await compared(sides, label, size, count, at_once, turns)).items():
                ahead = report(f"{label[:-3]} {label[-3:]}, {at_once} at once, {action}", rows, count, chosen[1:])
                good &= ahead or action not in ACTIONS  # where boto3 does less it may be ahead
            await sides["provider"].storage.close()
            if "s3fs" in sides:
                await sides["s3fs"].close()
    return good


async def compared(
    sides: dict[str, Any], label: str, size: int, count: int, at_once: int, rounds: int
) -> dict[str, list[dict[str, tuple[float, float]]]]:
    """Wall and processor time of each side in each round, by action; the sides take turns in going first."""
    data = [os.urandom(size) for _ in range(min(count, 4))]
    streamed = count * size > IN_MEMORY
    names = [f"{label}/{number}" for number in range(count)]
    written: list[tuple[Any, ...]] = [(name, data[n % len(data)]) for n, name in enumerate(names)]
    actions = STREAMED if streamed else ACTIONS
    results: dict[str, list[dict[str, tuple[float, float]]]] = {action: [] for action in actions}
    for turn in range(1) if streamed else range(rounds + 1):  # the first of several warms up
        for action, method in actions.items():
            calls = {side: getattr(made, method) for side, made in sides.items() if hasattr(made, method)}
            took = {
                side: await run(calls[side], written if action == "write" else [(n,) for n in names], at_once)
                for side in (list(calls) if turn % 2 else list(reversed(calls)))
            }
            if turn or streamed:
                results[action].append(took)
    return results


def report(label: str, rows: list[dict[str, tuple[float, float]]], count: int, others: list[str]) -> bool:
    """Print the row of the table, and say whether the provider is not below boto3 by the wall clock."""
    own = [row["provider"] for row in rows]
    rate, cost = (statistics.median(x) for x in ([count / wall for wall, _ in own], [cpu / count for _, cpu in own]))
    ratios = {
        side: [statistics.median(row[side][which] / row["provider"][which] for row in rows) for which in (0, 1)]
        for side in others
        if side in rows[0]
    }
    told = " | ".join("{:.2f} ({:.2f})".format(*ratios[side]) if side in ratios else "-" for side in others)
    print(f"| {label} | {rate:.1f}/s ({1000 * cost:.2f} ms) | {told} |", flush=True)
    return "boto3" not in ratios or ratios["boto3"][0] >= 1.0


GROUPS = {
    "signing": ("botocore/auth.py", "botocore/signers.py", "hashlib", "hmac", "sha256"),
    "endpoint rules, user agent, events": (
        "botocore/regions.py",
        "botocore/endpoint_provider.py",
        "botocore/useragent.py",
        "botocore/hooks.py",
        "botocore/handlers.py",
        "botocore/context.py",
    ),
    "serialising and parsing": (
        "botocore/serialize.py",
        "botocore/validate.py",
        "botocore/parsers.py",
        "botocore/model.py",
        "botocore/response.py",
        "dateutil",
    ),
    "the rest of botocore": ("botocore/", "boto3/"),
    "HTTP: urllib3, http.client, email": ("urllib3/", "http/client.py", "email/"),
    "sockets": ("_socket.socket", "socket.py", "select.poll", "_io."),
    "the provider": ("factflow_infra/",),
    "threads and asyncio": ("asyncio/", "concurrent/", "threading.py", "_thread", "_asyncio", "select.epoll", "_queue"),
}


def profile(endpoint: str) -> None:
    """Shares of the time of one call after the other, 4 KiB: of the calling thread's and of its worker's."""
    boto3.client("s3", **credentials(endpoint)).create_bucket(Bucket=BUCKET)
    storage = Provider(endpoint, 1)
    profilers: list[cProfile.Profile] = []

    def watched(function: Callable[[], Any]) -> Any:
        """In the worker, which has no profiler of its own."""
        if not profilers:
            profilers.append(cProfile.Profile(time.thread_time))
        return profilers[0].runcall(function)

    async def work() -> None:
        pool: Any = storage.storage._pool
        start = pool.start
        pool.start = lambda function, *args: start(lambda: watched(lambda: function(*args)))
        for number in range(300):
            await storage.write(f"{number}", b"x" * 4096)
            await storage.read(f"{number}")

    own = cProfile.Profile(time.thread_time)
    own.runcall(asyncio.run, work())
    shares: dict[str, float] = dict.fromkeys((*GROUPS, "else"), 0.0)
    for one in (own, profilers[0]):
        for (path, _, name), (_, _, inside, _, _) in pstats.Stats(one).stats.items():  # pyright: ignore[reportAttributeAccessIssue]
            place = f"{path} {name}"
            group = next((group for group, signs in GROUPS.items() if any(sign in place for sign in signs)), "else")
            shares[group] += inside
    total = sum(shares.values())
    for group, seconds in sorted(shares.items(), key=lambda item: -item[1]):
        print(f"{group:36} {100 * seconds / total:5.1f} %")


@contextmanager
def running(server: str) -> Iterator[str]:
    if server == "memory":
        with s3_server.running() as endpoint:
            yield endpoint
        return
    with tempfile.TemporaryDirectory() as folder, radosgw.Radosgw(Path(folder)) as started:
        yield started.endpoint


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--server", choices=("memory", "radosgw"), default="memory")
    parser.add_argument("--rounds", type=int, help=f"{ROUNDS}, of large objects {ROUNDS_OF_LARGE}, unless told")
    parser.add_argument("--size", action="append", choices=sorted({label for label, _ in WORK}), default=[])
    parser.add_argument("--at-once", action="append", type=int, choices=sorted({n for _, n in WORK}), default=[])
    parser.add_argument("--side", action="append", choices=SIDES[1:], default=[])
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    missing = radosgw.missing() if options.server == "radosgw" else None
    if missing is not None:
        print(missing)
        return 2
    with running(options.server) as endpoint:
        if options.profile:
            profile(endpoint)
            return 0
        began = time.perf_counter()
        good = asyncio.run(measure(endpoint, options.rounds, options.size, options.at_once, options.side))
        took = time.perf_counter() - began
    told = f"{took:.0f} s, load of the machine: {os.getloadavg()[0]:.1f}"
    if not options.side or "boto3" in options.side:
        told += f"; never below boto3 by the wall clock: {'yes' if good else 'NO'}"
    print(told)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
