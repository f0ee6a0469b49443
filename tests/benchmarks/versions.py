"""Two versions of this code by turns, on the same work: the only figure that a machine whose speed swings cannot spoil.

Each version has a process of its own, which runs this checkout's benchmark on that version's packages. Whoever comes first changes
from round to round. The processes are made anew now and then, as one may be quicker than its twin by where its memory lies.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

HERE = Path(__file__).parents[2]
SERVE = "--serve"
ROUNDS_A_PROCESS = 8

Work = tuple[str, int, int]
"""A case, a seed, and how many runs."""


def serve(measured: Callable[[str, int, int], float]) -> None:
    """Answer each line of the standard input, a piece of work, with its rate."""
    for line in sys.stdin:
        print(json.dumps(measured(*json.loads(line))), flush=True)


@contextmanager
def _version(script: str, root: Path) -> Generator[Callable[[Work], float]]:
    """What measures on the packages that lie in ``root``."""
    packages = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(
        [sys.executable, script, SERVE],
        cwd=root,
        env=packages,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        questions, answers = process.stdin, process.stdout

        def measured(work: Work) -> float:
            print(json.dumps(work), file=questions, flush=True)
            answer = answers.readline()
            if not answer:
                raise SystemExit(f"The benchmark did not run in {root}: see above.")
            return json.loads(answer)

        yield measured


def compare(script: str, other: Path, runs: Mapping[str, int], rounds: int) -> None:
    """Print, for each case of ``script`` and its ``runs`` a round, the rates of both versions, and this one's to that of ``other``."""
    if not (other / "factflow_infra_testing").is_dir():
        raise SystemExit(f"{other} is no checkout of this project: it has no folder factflow_infra_testing.")
    pairs: dict[str, list[tuple[float, float]]] = {case: [] for case in runs}
    for start in range(0, rounds, ROUNDS_A_PROCESS):
        with ExitStack() as stack:
            versions = [stack.enter_context(_version(script, root.resolve())) for root in (other, HERE)]
            for case, number in runs.items():
                for version in versions:
                    version((case, 0, number))  # imports, caches
            for seed in range(start, min(start + ROUNDS_A_PROCESS, rounds)):
                for case, number in runs.items():
                    found = {turn: versions[turn]((case, seed, number)) for turn in ((0, 1) if seed % 2 else (1, 0))}
                    pairs[case].append((found[0], found[1]))
    for case, found in pairs.items():
        before, now = (statistics.median(rates) for rates in zip(*found, strict=True))
        low, middle, high = statistics.quantiles((new / old for old, new in found), n=4, method="inclusive")
        print(f"{case:18} {before:6.0f} -> {now:6.0f} runs/s   ratio {middle:.3f} (quartiles {low:.3f} to {high:.3f})")
