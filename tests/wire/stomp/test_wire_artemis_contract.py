"""The production Artemis provider, on stompman, keeps the queue contract on the simulated broker's wire."""

import pytest
from stomp_harness import StompHarness

from factflow_infra_testing.contracts import QUEUE_BEHAVIOURS, QueueContract, check_queue

EXCEPTIONS = {
    # The ERROR that refuses one message closes the connection: what else was under way on it is unconfirmed (ART-6).
    "q1-partial-batch-says-which": "FAILED",
}


class TestArtemis(QueueContract):
    @pytest.fixture
    def harness(self):
        return StompHarness()

    @pytest.mark.parametrize(
        "behaviour", [row for row in QUEUE_BEHAVIOURS if row.id not in EXCEPTIONS], ids=lambda row: row.id
    )
    def test_contract(self, harness, behaviour):
        super().test_contract(harness, behaviour)


@pytest.mark.parametrize(("behaviour", "words"), EXCEPTIONS.items())
def test_an_exception_is_still_needed(behaviour, words):
    with pytest.raises(AssertionError, match=words):
        check_queue(StompHarness(), QUEUE_BEHAVIOURS[behaviour])
