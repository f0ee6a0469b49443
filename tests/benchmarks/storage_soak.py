"""Search for a broken promise of a storage provider for as long as you like: ``python tests/benchmarks/storage_soak.py --help``

The runs are those of ``tests/storage/storage_searches.py``: three clients on a few keys of one storage, under every fault there is;
what they saw must fit S1 to S10. Prints runs, runs/s, which faults struck how often, and what was found, with the plan and the seed
that find it again; exits with 1 if anything was.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "storage")]

from storage_searches import storage_search  # noqa: E402 - the path is set above

SEARCH = 500
"""Runs of one search: each has a seed of its own."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", choices=("filesystem", "s3"), default="filesystem")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first search; the next ones count on")
    options = parser.parse_args()
    runs, seconds, fired = 0, 0.0, Counter[str]()
    for seed in range(options.seed, options.seed + -(-options.runs // SEARCH)):
        result = storage_search(options.storage, examples=min(SEARCH, options.runs - runs), seed=seed)
        runs, seconds = runs + result.examples, seconds + result.seconds
        fired.update(result.coverage.fired)
        if result.finding is not None:
            print(f"found after {runs} runs: seed={result.finding.seed} plan={list(result.finding.plan)}")
            print(f"{type(result.finding.failure).__name__}: {result.finding.failure}")
            return 1
    struck = ", ".join(f"{kind} {count:,}" for kind, count in sorted(fired.items()))
    print(f"{options.storage}: {runs:,} runs, {runs / seconds:.0f} runs/s, none broken\nfaults that struck: {struck}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
