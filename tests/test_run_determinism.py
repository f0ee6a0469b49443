"""The same seed gives the same run: three times in one process, and in fresh ones with other hash seeds.

``factflow-sim verify`` shows it in twenty processes. Here too: that a digest can differ, and that a planted cause shows.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from determinism_runs import GROUPS, SEEDS, digests

from tests.fresh_processes import in_fresh_processes

RUNS = Path(__file__).parent / "determinism_runs.py"
HASH_SEEDS = (0, 4242)
"""A share: ``factflow-sim verify`` does the rest, and .ci/run with it."""
FAULTS = {
    "ack-lost",
    "broker-restart",
    "clock-jump",
    "confirm-delayed",
    "confirm-lost",
    "consumer-paused",
    "delivery-delayed",
    "duplicate",
    "half-open",
    "kill",
    "pause",
    "publish-lost",
    "publish-refused",
    "reset",
    "terminate",
    "timer-tie",
}
"""The kinds that these runs must have met, or they show too little."""


def first_seed(found):
    return {name: digest for name, digest in found.items() if name.startswith(f"seed {SEEDS[0]} ")}


@pytest.fixture(scope="module")
def reference():
    return digests()


def test_the_runs_use_every_fault_and_differ_from_seed_to_seed(reference):
    found, fired = reference
    assert FAULTS - set(fired) == set()
    assert len(set(found.values())) == len(found) == 2 * GROUPS * len(SEEDS)


def test_three_times_in_one_process(reference):
    expected = first_seed(reference[0])
    for _ in range(2):
        assert digests(seeds=SEEDS[:1])[0] == expected


def test_fresh_processes_with_other_hash_seeds(reference):
    for found in in_fresh_processes(RUNS, hash_seeds=HASH_SEEDS):
        assert found == first_seed(reference[0])


def test_a_set_whose_order_differs_between_processes_is_found_out():
    one, two = in_fresh_processes(RUNS, "set", hash_seeds=(1, 2))
    assert one.keys() == two.keys()
    assert all(one[name] != two[name] for name in one)


def test_a_number_that_counts_on_between_runs_is_found_out():
    one, two = (digests("counter", seeds=(0,))[0] for _ in range(2))
    assert all(one[name] != two[name] for name in one)
