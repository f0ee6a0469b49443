"""The same seed gives the same run: within a process, and in fresh ones with other hash seeds."""

import os
import subprocess
import sys
from pathlib import Path

from scenario_for_digest import digest

from factflow_infra_testing.simulation import patches, tasks

ROOT = Path(__file__).parents[2]


def test_five_runs_in_one_process_are_one():
    assert len({digest(11) for _ in range(5)}) == 1
    with patches.session():
        assert digest(11) == digest(11)
    assert digest(11) != digest(12)


def test_fresh_processes_with_other_hash_seeds_are_one():
    def fresh(hash_seed):
        environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(Path(__file__).with_name("scenario_for_digest.py")), "11"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    assert {fresh(hash_seed) for hash_seed in (0, 1, 4242)} == {digest(11)}


def test_without_serial_hashes_runs_differ(monkeypatch):
    monkeypatch.setattr(tasks.SimulatedTask, "__hash__", lambda self: id(self) >> 4)
    keep = []  # addresses differ as long as what was there before stays there
    seen = set()
    for _ in range(12):
        keep.append(bytearray(100_000 + len(keep) * 7777))
        keep.append([object() for _ in range(1000)])
        seen.add(digest(11))
    assert len(seen) > 1
