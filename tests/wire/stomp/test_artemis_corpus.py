"""Broken services of the corpus on the production Artemis provider over the wire, and their mended twins.

``python -m tests.services.table --tier wire --profile artemis`` does it with all of them, which takes minutes.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.services.corpus import case

QUICK = (
    *("ack_before_durable", "cancellation_swallowed", "counter_not_idempotent", "dedup_in_memory", "flag_trusted"),
    *("output_after_ack", "publish_error_taken_for_lost", "shutdown_drops_in_flight"),
)
FIND_WITHIN = 200
MENDED_EXAMPLES = 6


@pytest.mark.parametrize("name", QUICK)
def test_the_broken_service_is_found_on_artemis(name):
    mistake = case(name)
    result = mistake.search(mistake.broken, examples=FIND_WITHIN, tier="wire", profile="artemis")
    assert result.finding is not None, f"not found in {FIND_WITHIN} runs: {mistake.mistake}"
    assert len(result.finding.plan) <= 3, result.finding.plan


@pytest.mark.parametrize("name", QUICK)
def test_the_mended_service_survives_on_artemis(name):
    mistake = case(name)
    result = mistake.search(mistake.mended, examples=MENDED_EXAMPLES, tier="wire", profile="artemis")
    if result.finding is not None:
        pytest.fail(f"{result.finding.plan} seed={result.finding.seed}: {result.finding.failure!r}")
