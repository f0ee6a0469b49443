"""A share of the corpus on Pulsar's API tier: the broken service is found there too, and the mended one survives."""

from __future__ import annotations

import pytest

from .corpus import case

NAMES = ("ack_before_durable", "cancellation_swallowed", "flag_trusted", "output_after_ack")


@pytest.mark.parametrize("name", NAMES)
def test_the_mistake_is_found_and_the_mended_service_survives(name):
    mistake = case(name)
    found = mistake.search(mistake.broken, examples=100, profile="pulsar", tier="api")
    assert found.finding is not None
    assert len(found.finding.plan) <= 3, found.finding.plan
    mended = mistake.search(mistake.mended, examples=15, profile="pulsar", tier="api")
    assert mended.finding is None, mended.finding
