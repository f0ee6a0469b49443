"""Scripts of the tests in fresh processes, which have other hash seeds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def in_fresh_processes(script: str | Path, *arguments: str, hash_seeds: tuple[int, ...]) -> list[Any]:
    """What ``script`` prints under each hash seed, as JSON; the processes run side by side."""
    processes: list[subprocess.Popen[str]] = []
    for hash_seed in hash_seeds:
        environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(script), *arguments]
        processes.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    found: list[Any] = []
    for process in processes:
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        found.append(json.loads(output))
    return found
