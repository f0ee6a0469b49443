"""Memory of the filesystem provider: a stream of 2 GiB up and down, and a listing of 1,000,000 keys.

    python tests/benchmarks/storage_memory.py [--folder FOLDER] [--gibibytes 2] [--keys 1000000]

Each part runs in a process of its own; what is told is the highest resident memory (``ru_maxrss``) above what was resident at the
start, once everything was imported and used. The listing is made twice, of a tenth of the keys and of all of them: constant memory shows as the same figure.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from factflow_infra.storage.filesystem import FilesystemStorageProvider

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PIECE = os.urandom(1 << 20)


def peak() -> int:
    """The highest resident memory so far, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def resident() -> int:
    """The resident memory now, in KiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


async def stream(folder: str, mebibytes: int) -> str:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(mebibytes):
            yield PIECE[1:] + PIECE[:1]  # a new one each time, as from a network

    async with FilesystemStorageProvider(folder) as storage:
        await storage.write("warm-up", b"x")
        await storage.read("warm-up")
        start, begun = resident(), time.perf_counter()
        info = await storage.write("large", pieces())
        up, turned = peak() - start, time.perf_counter()
        digest = hashlib.sha256()
        async for piece in storage.stream("large"):
            digest.update(piece)
        down = peak() - start
        assert info.size == mebibytes << 20
        assert info.checksum == f"sha256:{digest.hexdigest()}"
    seconds = turned - begun, time.perf_counter() - turned
    return f"{mebibytes / 1024:g} GiB: up {up / 1024:.1f} MiB above the start ({seconds[0]:.0f} s), down {down / 1024:.1f} MiB ({seconds[1]:.0f} s)"


async def listing(folder: str, count: int) -> str:
    make(folder, count)
    async with FilesystemStorageProvider(folder) as storage:
        async for _ in storage.list("none"):
            pass
        start, begun, seen, last = resident(), time.perf_counter(), 0, ""
        async for key in storage.list():
            assert key > last
            last = key
            seen += 1
        assert seen == count
    return f"{count:,} keys in one folder: {(peak() - start) / 1024:.1f} MiB above the start, {time.perf_counter() - begun:.0f} s"


def make(folder: str, count: int) -> None:
    """Files as another tool would leave them: without sidecars, which take a second of each thousand to make."""
    descriptor = os.open(folder, os.O_RDONLY)
    for number in range(count):
        os.close(os.open(f"object-{number * 7919 % count:08d}", os.O_WRONLY | os.O_CREAT, dir_fd=descriptor))
    os.close(descriptor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", help="where to work; 2 GiB and a million inodes must be free")
    parser.add_argument("--gibibytes", type=float, default=2.0)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--part", choices=("stream", "list"), help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part is not None:
        work = stream if options.part == "stream" else listing
        print(asyncio.run(work(options.folder, options.count)))
        return
    for part, count in (
        ("stream", int(options.gibibytes * 1024)),
        ("list", options.keys // 10),
        ("list", options.keys),
    ):
        place = tempfile.mkdtemp(dir=options.folder)
        command = [sys.executable, str(Path(__file__)), "--part", part, "--folder", place, "--count", str(count)]
        subprocess.run(command, check=True)
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
