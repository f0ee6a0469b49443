"""Many writers of one key, on a real folder, and what becomes of the other keys meanwhile. Two versions by turns.

    python tests/benchmarks/filesystem_one_key.py [--against CHECKOUT] [--rounds 6] [--folder F]

*n x m*: n processes with a provider and m writers of 4 KiB each. The longest wait is that of any one write. *Frozen*: somebody else has
the key's lock, 64 writers wait for it, and 16 others write keys of their own. Ratios are this version's to the other's, of the same round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

from factflow_infra.storage.filesystem import FilesystemStorageProvider
from factflow_infra.storage.filesystem.steps import lock, open_lock, open_root

HERE = Path(__file__).parents[2]
SECONDS = 3.0
DATA = bytes(4096)
SHARED = ((1, 64), (4, 16))
WAITING, OTHERS = 64, 16


async def write_on(storage: FilesystemStorageProvider, key: str, until: float, waits: list[float]) -> None:
    while (begun := time.perf_counter()) < until:
        await storage.write(key, DATA)
        waits.append(time.perf_counter() - begun)


async def share(root: str, writers: int) -> list[float]:
    waits: list[float] = []
    async with FilesystemStorageProvider(root) as storage:
        until = time.perf_counter() + SECONDS
        await asyncio.gather(*(write_on(storage, "k", until, waits) for _ in range(writers)))
    return waits


def one_process(root: str, writers: int) -> list[float]:
    return asyncio.run(share(root, writers))


async def beside_a_frozen_key(root: str) -> list[float]:
    waits: list[float] = []
    async with FilesystemStorageProvider(root) as storage:
        await storage.write("k", DATA)
        (name,) = os.listdir(f"{root}/.factflow")  # noqa: PTH208 - its one file is the key's lock
        held = open_lock(open_root(f"{root}/.factflow"), name)
        lock(held)
        waiting = [asyncio.create_task(storage.write("k", DATA)) for _ in range(WAITING)]
        until = time.perf_counter() + SECONDS
        with suppress(TimeoutError):
            async with asyncio.timeout(SECONDS):
                await asyncio.gather(*(write_on(storage, f"other-{n}", until, waits) for n in range(OTHERS)))
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        os.close(held)
    return waits


def measured(folder: str | None) -> dict[str, tuple[float, float]]:
    """For each case the writes a second and the longest wait in milliseconds."""
    found: dict[str, tuple[float, float]] = {}
    for processes, writers in SHARED:
        with tempfile.TemporaryDirectory(dir=folder) as root, get_context("spawn").Pool(processes) as pool:
            waits = [wait for one in pool.starmap(one_process, [(root, writers)] * processes) for wait in one]
        found[f"one key, {processes} x {writers}"] = (len(waits) / SECONDS, max(waits) * 1e3)
    with tempfile.TemporaryDirectory(dir=folder) as root:
        waits = asyncio.run(beside_a_frozen_key(root))
    found["other keys, frozen"] = (len(waits) / SECONDS, max(waits, default=SECONDS) * 1e3)
    return found


def of_version(root: Path, folder: str | None) -> dict[str, tuple[float, float]]:
    command = [sys.executable, __file__, "--once", *(("--folder", folder) if folder else ())]
    output = subprocess.check_output(command, env={**os.environ, "PYTHONPATH": str(root)}, cwd=root, text=True)
    return json.loads(output)


def show(rounds: list[tuple[dict[str, tuple[float, float]], ...]]) -> None:
    print("| | writes/s | longest wait, ms |\n|---|---|---|")
    for case in rounds[0][0]:
        cells: list[str] = []
        for index in (0, 1):
            columns = [[version[case][index] for version in one] for one in rounds]
            cell = " -> ".join(f"{statistics.median(values):,.0f}" for values in zip(*columns, strict=True))
            if len(columns[0]) > 1 and all(before for before, _ in columns):
                low, middle, high = statistics.quantiles(
                    (now / before for before, now in columns), n=4, method="inclusive"
                )
                cell += f", ratio {middle:.2f} ({low:.2f} to {high:.2f})"
            cells.append(cell)
        print(f"| {case} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--against", type=Path, help="a checkout of another version")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--folder", help="where, on a real disk")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(measured(options.folder)))
        return
    versions = [HERE] if options.against is None else [options.against.resolve(), HERE]
    rounds: list[tuple[dict[str, tuple[float, float]], ...]] = []
    for number in range(options.rounds):
        turns = list(enumerate(versions))[:: -1 if number % 2 else 1]
        found = dict(sorted((turn, of_version(root, options.folder)) for turn, root in turns))
        rounds.append(tuple(found.values()))
    show(rounds)


if __name__ == "__main__":
    main()
