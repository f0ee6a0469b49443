"""The corpus as a table for the docs: ``python -m tests.services.table``, from the root of the repository."""

from __future__ import annotations

import platform
import statistics
import time

from .corpus import NAMES, case


def main() -> None:
    print(
        f"Python {platform.python_version()}, model tier, all faults, seed 0, 200 examples to find, 500 to survive.\n"
    )
    print(
        "| service | examples until found | seconds, minimising included | minimal plan | mended: examples, seconds |"
    )
    print("|---|---|---|---|---|")
    sizes: list[int] = []
    for name in NAMES:
        mistake = case(name)
        found = mistake.search(mistake.broken, examples=200)
        mended = mistake.search(mistake.mended, examples=500)
        plan = "**not found**" if found.finding is None else ", ".join(f"`{fault!r}`" for fault in found.finding.plan)
        if found.finding is not None:
            sizes.append(len(found.finding.plan))
        survived = f"{mended.examples}, {mended.seconds:.1f}" if mended.finding is None else "**failed**"
        print(
            f"| {name} | {found.examples} | {found.seconds:.2f} | {plan or 'none: fails without a fault'} | {survived} |"
        )
    print(f"\nMinimal plans: median {statistics.median(sizes):g} faults, at most {max(sizes)}.")


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    print(f"\nMade in {time.perf_counter() - started:.0f} s.")
