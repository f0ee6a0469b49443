"""The corpus of broken services on the production Artemis provider over the wire, and their mended twins.

``python -m tests.services.table --tier wire --profile artemis`` finds all of them; those whose search or minimising takes
seconds are left to it.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.services.corpus import NAMES, case

FIND_WITHIN = 200
MENDED_EXAMPLES = 6
SLOW = ("batch_acked_whole", "check_then_write", "order_assumed", "poison_loop")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SLOW])
def test_the_broken_service_is_found_on_artemis(name):
    mistake = case(name)
    result = mistake.search(mistake.broken, examples=FIND_WITHIN, tier="wire", profile="artemis")
    assert result.finding is not None, f"not found in {FIND_WITHIN} runs: {mistake.mistake}"
    assert len(result.finding.plan) <= 3, result.finding.plan


@pytest.mark.parametrize("name", NAMES)
def test_the_mended_service_survives_on_artemis(name):
    mistake = case(name)
    result = mistake.search(mistake.mended, examples=MENDED_EXAMPLES, tier="wire", profile="artemis")
    if result.finding is not None:
        pytest.fail(f"{result.finding.plan} seed={result.finding.seed}: {result.finding.failure!r}")
