"""The corpus of broken services on the wire tier: what the model tier finds, the production provider's tier finds too."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.services.corpus import DEARER, WIRE_ONLY, case, names

QUEUED = tuple(name for name in names("wire") if name not in DEARER and name not in WIRE_ONLY)
NAMES = (*WIRE_ONLY, *QUEUED[::2])
"""Those that only the wire shows, and every other one of the rest whose mistake is in the use of queues: ``tests.services.table
--tier wire`` does them all."""

FIND_WITHIN = 200
MENDED_EXAMPLES = 12


@pytest.mark.parametrize("name", NAMES)
def test_the_broken_service_is_found_on_the_wire(name):
    mistake = case(name)
    result = mistake.search(mistake.broken, examples=FIND_WITHIN, tier="wire")
    assert result.finding is not None, f"not found in {FIND_WITHIN} runs: {mistake.mistake}"
    assert len(result.finding.plan) <= 3, result.finding.plan


@pytest.mark.parametrize("name", NAMES)
def test_the_mended_service_survives_on_the_wire(name):
    mistake = case(name)
    result = mistake.search(mistake.mended, examples=MENDED_EXAMPLES, tier="wire")
    if result.finding is not None:
        pytest.fail(f"{result.finding.plan} seed={result.finding.seed}: {result.finding.failure!r}")


def test_some_mistakes_show_on_the_wire_only():
    assert len(WIRE_ONLY) >= 3
