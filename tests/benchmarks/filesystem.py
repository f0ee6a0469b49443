"""``FilesystemStorageProvider`` against plain aiofiles doing the same durable work, interleaved in one run.

    python tests/benchmarks/filesystem.py [folder]

Both write an object and its sidecar to temporary files, sync them, rename them and sync their folder, on the same real
folder, with the same metadata. Two opponents: *plain* syncs the folder once, at the end, so a power loss can leave the new
object with the old metadata, or none; *safe* syncs it after each rename, as the promise S1 takes. Neither computes a
checksum, locks, or checks a condition. Ratios above 1: the provider is faster. Judge by the medians; the disk is noisy.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import aiofiles
import aiofiles.os

from factflow_infra.storage.filesystem import FilesystemStorageProvider

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

METADATA = {"execution_id": "e-1", "route_id": "r-7", "stage": "extract", "message_id": "m-123", "lineage_id": "l-9"}
SIZES = {"4 KiB": (4096, 120), "1 MiB": (1024 * 1024, 60), "16 MiB": (16 * 1024 * 1024, 6)}


async def write_file(path: Path, data: bytes) -> None:
    async with aiofiles.open(path, "wb") as file:
        await file.write(data)
        await file.flush()
        await asyncio.get_running_loop().run_in_executor(None, os.fsync, file.fileno())


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def write_by_hand(folder: Path, name: str, data: bytes, *, safe: bool) -> None:
    loop = asyncio.get_running_loop()
    record = json.dumps({"size": len(data), "metadata": METADATA, "modified_at": time.time()}).encode()
    temporary, sidecar = folder / f"{name}.tmp", folder / f"{name}.meta.json.tmp"
    await write_file(temporary, data)
    await write_file(sidecar, record)
    await aiofiles.os.rename(sidecar, folder / f"{name}.meta.json")
    if safe:
        await loop.run_in_executor(None, sync_folder, folder)
    await aiofiles.os.rename(temporary, folder / name)
    await loop.run_in_executor(None, sync_folder, folder)


async def read_by_hand(folder: Path, name: str) -> bytes:
    async with aiofiles.open(folder / f"{name}.meta.json", "rb") as file:
        json.loads(await file.read())
    async with aiofiles.open(folder / name, "rb") as file:
        return await file.read()


async def measure(rounds: int, calls: dict[str, Callable[[int], Awaitable[object]]]) -> dict[str, float]:
    """The median seconds of each call, taken in turns."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for number in range(rounds + 2):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            begun = time.perf_counter()
            await calls[name](number)
            if number >= 2:
                taken[name].append(time.perf_counter() - begun)
    return {name: statistics.median(times) for name, times in taken.items()}


def show(what: str, medians: dict[str, float]) -> None:
    own = medians["provider"]
    others = "  ".join(
        f"{name} {t * 1e3:7.2f} ms, ratio {t / own:4.2f}" for name, t in medians.items() if name != "provider"
    )
    print(f"{what:28} provider {own * 1e3:7.2f} ms  {others}")


async def main(folder: str | None) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as place:
        root, plain, safe = (Path(place) / name for name in ("provider", "plain", "safe"))
        for path in (root, plain, safe):
            path.mkdir()
        async with FilesystemStorageProvider(root) as storage:
            for title, (size, rounds) in SIZES.items():
                data = os.urandom(size)

                async def own(key: str, _number: int, data: bytes = data) -> None:
                    await storage.write(key, data, METADATA)

                async def new(number: int, data: bytes = data, size: int = size) -> None:
                    await storage.write(f"new-{size}-{number}", data, METADATA)

                async def hand(path: Path, name: str, careful: bool, number: int, data: bytes = data) -> None:
                    await write_by_hand(path, name.format(number), data, safe=careful)

                writers = {
                    "overwrite": (partial(own, f"object-{size}"), f"object-{size}"),
                    "first write": (new, f"new-{size}-{{}}"),
                }
                for what, (provider, name) in writers.items():
                    calls = {"provider": provider, "plain": partial(hand, plain, name, False)}
                    calls["safe"] = partial(hand, safe, name, True)
                    show(f"{title}, {what}", await measure(rounds, calls))

                async def read(_number: int, size: int = size) -> None:
                    await storage.read(f"object-{size}")

                async def read_plain(_number: int, size: int = size) -> None:
                    await read_by_hand(plain, f"object-{size}")

                show(f"{title}, read", await measure(rounds, {"provider": read, "plain": read_plain}))

                async def many(call: Callable[[int], Awaitable[object]], number: int) -> None:
                    await asyncio.gather(*(call(1000 + number * 8 + one) for one in range(8)))

                if size <= 1024 * 1024:
                    name = f"many-{size}-{{}}"
                    calls = {"provider": partial(many, new), "plain": partial(many, partial(hand, plain, name, False))}
                    calls["safe"] = partial(many, partial(hand, safe, name, True))
                    show(f"{title}, 8 writes at once", await measure(max(rounds // 6, 4), calls))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else None))
