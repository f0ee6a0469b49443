"""Every crash of every workload of up to three storage operations on the filesystem provider: ``python tests/benchmarks/crashes.py``.

The operations are those of ``tests/storage/crash_workloads.py``: write, overwrite, with equal bytes, conditional, copy, delete, on
two keys of one folder. A crash is placed before each operation on the disk, and after the last, and each legal state of
the disk then is read by a new provider: the old objects or the new ones, whole, no other listed, and the store goes on.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "storage")]

from crash_workloads import explore, explorer, workloads  # noqa: E402 - the path is set above

from factflow_infra_testing.storage.exploring import Explored  # noqa: E402
from factflow_infra_testing.storage.files import SimulatedFilesystem  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=3, help="the longest workloads (3)")
    longest = parser.parse_args().operations
    print(
        "| operations | workloads | operations on the disk | legal states after a crash | different ones, checked | seconds |"
    )
    print("|---|---|---|---|---|---|")
    with SimulatedFilesystem() as files:
        shared = explorer(files)
        for length in range(1, longest + 1):
            started, total, count = time.process_time(), Explored(0, 0, 0), 0
            for operations in workloads(length):
                total += explore(shared, operations)
                count += 1
            seconds = time.process_time() - started
            print(f"| {length} | {count:,} | {total.steps:,} | {total.states:,} | {total.checked:,} | {seconds:.1f} |")
    print("\nNone of them broken.")


if __name__ == "__main__":
    main()
