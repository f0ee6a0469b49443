"""Every broken service of the corpus is found, with a plan of at most three faults; every mended one survives."""

from __future__ import annotations

import pytest

from .corpus import DEARER, NAMES, case

FIND_WITHIN = 200
SEED = 1
"""With this one they are found soon; the table in the docs has 0."""
MENDED_EXAMPLES = 40
"""A share: ``python -m tests.services.table`` does 500, and .ci/run with it."""


def test_the_corpus_has_its_cases():
    assert len(NAMES) >= 12


@pytest.mark.parametrize("name", NAMES)
def test_the_broken_service_is_found(name):
    mistake = case(name)
    result = mistake.search(mistake.broken, examples=FIND_WITHIN, seed=SEED)
    assert result.finding is not None, f"not found in {FIND_WITHIN} runs: {mistake.mistake}"
    assert len(result.finding.plan) <= 3, result.finding.plan


@pytest.mark.parametrize("name", NAMES)
def test_the_mended_service_survives(name):
    mistake = case(name)
    result = mistake.search(mistake.mended, examples=MENDED_EXAMPLES // 3 if name in DEARER else MENDED_EXAMPLES)
    if result.finding is not None:
        pytest.fail(f"{result.finding.plan} seed={result.finding.seed}: {result.finding.failure!r}")


def test_the_mended_services_met_the_faults_that_break_the_others():
    mistake = case("ack_before_durable")
    fired = mistake.search(mistake.mended, examples=100).coverage.fired
    assert {"kill", "terminate", "reset", "ack-lost", "broker-restart", "delivery-delayed", "pause"} <= fired.keys()
