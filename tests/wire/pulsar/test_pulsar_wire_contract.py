"""The production Pulsar provider and the real client keep the queue contract on the wire tier, in real time."""

import pytest
from pulsar_harness import WireHarness

from factflow_infra_testing.contracts import QueueContract

pytestmark = pytest.mark.live


class TestWire(QueueContract):
    @pytest.fixture
    def harness(self):
        return WireHarness()
