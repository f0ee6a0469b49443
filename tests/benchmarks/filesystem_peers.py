"""``FilesystemStorageProvider`` against other ways to keep objects in a folder, interleaved in one run on a real one.

    python tests/benchmarks/filesystem_peers.py [--folder F] [--size "256 MiB"] [--at-once 64] [--way bare --way provider]
                                                                                             # needs: pip install obstore fsspec

``aiofiles`` writes a temporary file and renames it, ``obstore`` is its ``LocalStore`` (Rust), ``fsspec`` its local filesystem in
threads. None of them syncs anything, keeps metadata, or computes a checksum: the provider does all three. So beside it there is
*bare*: one thread job that does the provider's durable work (two files, four syncs, a SHA-256) by plain calls, and a read with a SHA-256.
The second ratio is by processor time, all threads together: it does not depend on the disk, and little on who else runs.
64 objects of 256 MiB are 16 GiB: each way has the disk to itself for them, once, and obstore, which would read them all at once, reads a stream.
Before them somebody writes as much, which does not count: where a virtual machine gives free memory back to its host (free page reporting), whoever
fills it first waits for the host at each page, in the kernel's copy into the page cache. ``--way`` chooses ways, and their order.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiofiles
import aiofiles.os
import fsspec
import obstore
from obstore.store import LocalStore

from factflow_infra.storage.filesystem import FilesystemStorageProvider

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Call = Callable[[str], Awaitable[object]]

METADATA = {"execution_id": "e-1", "route_id": "r-7", "stage": "extract", "message_id": "m-123", "lineage_id": "l-9"}
CASES = (("4 KiB", 4 << 10, 1, 40), ("4 KiB", 4 << 10, 64, 5), ("1 MiB", 1 << 20, 1, 20), ("1 MiB", 1 << 20, 64, 3),
         ("256 MiB", 256 << 20, 1, 3), ("256 MiB", 256 << 20, 64, 1))  # fmt: skip
WAYS = ("provider", "bare", "aiofiles", "obstore", "fsspec")
FOR_ALL = 8 << 30
"""Bytes that all ways may have on the disk together, each in its turn."""


def durably(folder: Path, name: str, data: bytes) -> None:
    record = json.dumps({"checksum": hashlib.sha256(data).hexdigest(), "metadata": METADATA}).encode()
    parent = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    for target, content in ((f"{name}.meta.json", record), (name, data)):
        descriptor = os.open(f"{target}.tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, dir_fd=parent)
        left = memoryview(content)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
        os.close(descriptor)
        os.rename(f"{target}.tmp", target, src_dir_fd=parent, dst_dir_fd=parent)
        os.fsync(parent)
    os.close(parent)


def checked(folder: Path, name: str) -> bytes:
    record = json.loads((folder / f"{name}.meta.json").read_bytes())
    data = (folder / name).read_bytes()
    assert hashlib.sha256(data).hexdigest() == record["checksum"]
    return data


async def by_aiofiles(folder: Path, data: bytes, name: str) -> None:
    async with aiofiles.open(folder / f"{name}.tmp", "wb") as file:
        await file.write(data)
    await aiofiles.os.rename(folder / f"{name}.tmp", folder / name)


async def read_by_aiofiles(folder: Path, name: str) -> bytes:
    async with aiofiles.open(folder / name, "rb") as file:
        return await file.read()


async def read_by_obstore(store: Any, name: str) -> bytes:
    return bytes(await (await obstore.get_async(store, name)).bytes_async())


async def streamed_by_obstore(store: Any, name: str) -> None:
    async for _ in (await obstore.get_async(store, name)).stream(min_chunk_size=1 << 20):
        pass


def ways(place: Path, storage: Any, data: bytes) -> tuple[dict[str, Call], dict[str, Call]]:
    """For each way, what writes ``data`` under a name, and what reads it."""
    folders = {name: place / name for name in ("bare", "aiofiles", "obstore", "fsspec")}
    store, local = LocalStore(str(folders["obstore"])), fsspec.filesystem("file")
    writes: dict[str, Call] = {
        "provider": lambda name: storage.write(name, data, METADATA),
        "bare": lambda name: asyncio.to_thread(durably, folders["bare"], name, data),
        "aiofiles": partial(by_aiofiles, folders["aiofiles"], data),
        "obstore": lambda name: obstore.put_async(store, name, data),
        "fsspec": lambda name: asyncio.to_thread(local.pipe_file, str(folders["fsspec"] / name), data),
    }
    reads: dict[str, Call] = {
        "provider": storage.read,
        "bare": lambda name: asyncio.to_thread(checked, folders["bare"], name),
        "aiofiles": partial(read_by_aiofiles, folders["aiofiles"]),
        "obstore": partial(read_by_obstore, store),
        "fsspec": lambda name: asyncio.to_thread(local.cat_file, str(folders["fsspec"] / name)),
    }
    return writes, reads


async def timed(call: Call, at_once: int) -> tuple[float, float]:
    async def one(number: int) -> None:  # what it read is not kept for the others
        await call(f"object-{number}")

    wall, processor = time.perf_counter(), time.process_time()
    await asyncio.gather(*map(one, range(at_once)))
    return time.perf_counter() - wall, time.process_time() - processor


async def measure(calls: dict[str, Call], at_once: int, rounds: int, title: str) -> None:
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    names = list(calls)
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            took = await timed(calls[name], at_once)
            if number:
                taken[name].append(took)
    report(taken, at_once, title)


async def measure_alone(place: Path, writes: dict[str, Call], reads: dict[str, Call], at_once: int, title: str) -> None:
    """Each way by itself, its objects gone before the next begins."""
    await timed(writes["bare"], at_once)  # has the host give the memory
    await asyncio.to_thread(remove, place / "bare")
    written: dict[str, list[tuple[float, float]]] = {}
    read: dict[str, list[tuple[float, float]]] = {}
    for name, call in reads.items():
        written[name] = [await timed(writes[name], at_once)]
        read[name] = [await timed(call, at_once)]
        await asyncio.to_thread(remove, place / name)
    report(written, at_once, f"{title}, write")
    report(read, at_once, f"{title}, read")


def remove(folder: Path) -> None:
    for path in list(folder.rglob("object-*")):
        path.unlink()


def report(taken: dict[str, list[tuple[float, float]]], at_once: int, title: str) -> None:
    """Print a row: the provider's calls a second, and of each other way its seconds to the provider's."""
    wall, processor = (
        {name: statistics.median(row[index] for row in rows) for name, rows in taken.items()} for index in (0, 1)
    )
    ratios = " | ".join(
        f"{wall[name] / wall['provider']:.2f} ({processor[name] / processor['provider']:.2f})"
        for name in taken
        if name != "provider"
    )
    print(f"| {title} | {at_once / wall['provider']:,.1f} | {ratios} |", flush=True)


async def main(folder: str | None, sizes: list[str], at: list[int], wanted: list[str]) -> None:
    print(
        f"| | provider, calls/s | {' | '.join(way for way in wanted if way != 'provider')} |\n|---{'|---' * len(wanted)}|"
    )
    with tempfile.TemporaryDirectory(dir=folder) as place:
        for name in WAYS:
            (Path(place) / name).mkdir()
        async with FilesystemStorageProvider(Path(place) / "provider") as storage:
            for size, count, at_once, rounds in CASES:
                if (sizes and size not in sizes) or (at and at_once not in at):
                    continue
                writes, reads = ways(Path(place), storage, os.urandom(count))
                reads = {name: reads[name] for name in wanted}
                title = f"{size}, {at_once} at once"
                if count * at_once * len(writes) > FOR_ALL:
                    if "obstore" in reads:
                        reads["obstore"] = partial(streamed_by_obstore, LocalStore(f"{place}/obstore"))
                    await measure_alone(Path(place), writes, reads, at_once, title)
                    continue
                await measure({name: writes[name] for name in wanted}, at_once, rounds, f"{title}, write")
                await measure(reads, at_once, rounds, f"{title}, read")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", help="where, on a real disk")
    parser.add_argument("--size", action="append", choices=sorted({case[0] for case in CASES}), default=[])
    parser.add_argument("--at-once", action="append", type=int, choices=sorted({case[2] for case in CASES}), default=[])
    parser.add_argument(
        "--way", action="append", choices=WAYS, default=[], help="with provider, which is compared with"
    )
    options = parser.parse_args()
    if options.way and "provider" not in options.way:
        parser.error("what is compared is the provider: add --way provider")
    asyncio.run(main(options.folder, options.size, options.at_once, options.way or list(WAYS)))
