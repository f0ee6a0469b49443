"""The corpus as a table for the docs: ``python -m tests.services.table``, from the root of the repository.

``--tier wire`` and ``--profile artemis`` make it of another tier and broker. It ends with 1 where a mistake is not found, or a
mended service is.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time

from .corpus import case, names


def main() -> bool:
    """Print the table; whether each mistake was found and each mended twin survived."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tier", choices=("model", "wire"), default="model")
    parser.add_argument("--profile", help="of the broker; that which each service asks for unless given")
    parser.add_argument("--survive", type=int, default=500, help="examples of the mended twin (500)")
    chosen = parser.parse_args()
    where = {"tier": chosen.tier, "profile": chosen.profile}
    print(
        f"Python {platform.python_version()}, {chosen.tier} tier, {chosen.profile or 'rabbitmq'}, all faults, seed 0, "
        f"200 examples to find, {chosen.survive} to survive.\n"
    )
    print(
        "| service | examples until found | seconds, minimising included | minimal plan | mended: examples, seconds |"
    )
    print("|---|---|---|---|---|")
    sizes: list[int] = []
    as_it_should = True
    # The clients of their own in some services speak AMQP only.
    for name in names("model" if chosen.profile else chosen.tier):
        mistake = case(name)
        found = mistake.search(mistake.broken, examples=200, **where)
        mended = mistake.search(mistake.mended, examples=chosen.survive, **where)
        plan = "**not found**" if found.finding is None else ", ".join(f"`{fault!r}`" for fault in found.finding.plan)
        if found.finding is not None:
            sizes.append(len(found.finding.plan))
        as_it_should &= found.finding is not None and mended.finding is None
        survived = f"{mended.examples}, {mended.seconds:.1f}" if mended.finding is None else "**failed**"
        print(
            f"| {name} | {found.examples} | {found.seconds:.2f} | {plan or 'none: fails without a fault'} | {survived} |"
        )
    print(f"\nMinimal plans: median {statistics.median(sizes):g} faults, at most {max(sizes)}.")
    return as_it_should


if __name__ == "__main__":
    started = time.perf_counter()
    passed = main()
    print(f"\nMade in {time.perf_counter() - started:.0f} s.")
    sys.exit(not passed)
