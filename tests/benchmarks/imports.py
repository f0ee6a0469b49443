"""What importing either package adds to the start of an interpreter, in milliseconds.

``python tests/benchmarks/imports.py``: medians of fresh interpreters, each beside one that imports nothing but asyncio,
which every user of the packages has loaded.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from statistics import median

ROUNDS = 15
ROOT = Path(__file__).parents[2]
CLOCK = "import time; begin = time.perf_counter(); {}; print(time.perf_counter() - begin)"


def milliseconds(statement: str) -> float:
    """How long ``statement`` takes in a fresh interpreter, by its own clock."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = f"import asyncio; {CLOCK.format(statement)}"
    output = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return 1000 * float(output.stdout)


def main() -> None:
    print(f"Python {platform.python_version()}; {ROUNDS} fresh interpreters each; ms added, median (range)")
    for package in ("factflow_infra", "factflow_infra.protocols", "factflow_infra_testing"):
        times = [milliseconds(f"import {package}") for _ in range(ROUNDS)]
        print(f"{package:28}{median(times):7.1f} ({min(times):.1f} to {max(times):.1f})")


if __name__ == "__main__":
    main()
