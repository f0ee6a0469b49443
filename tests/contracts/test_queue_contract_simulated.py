"""The simulated provider keeps the queue contract, on every profile."""

import pytest

from factflow_infra_testing.contracts import QueueContract
from factflow_infra_testing.contracts.harnesses import SimulatedQueueHarness


class TestClassic(QueueContract):
    @pytest.fixture
    def harness(self):
        return SimulatedQueueHarness("rabbitmq-classic")


class TestQuorum(QueueContract):
    @pytest.fixture
    def harness(self):
        return SimulatedQueueHarness("rabbitmq-quorum")


class TestArtemis(QueueContract):
    @pytest.fixture
    def harness(self):
        return SimulatedQueueHarness("artemis")


class TestPulsar(QueueContract):
    @pytest.fixture
    def harness(self):
        return SimulatedQueueHarness("pulsar")
