"""The production Artemis provider keeps the queue contract on the wire."""

import pytest
from stomp_harness import StompHarness

from factflow_infra_testing.contracts import QueueCapability, QueueContract


class TestArtemis(QueueContract):
    @pytest.fixture
    def harness(self):
        harness = StompHarness("artemis")
        # A refusal ends the connection, and leaves the rest of a batch unanswered (ART-6).
        harness.capabilities -= {QueueCapability.REFUSE}
        return harness
