"""The production RabbitMQ provider, aio-pika and aiormq keep the queue contract on the simulated broker's wire."""

import pytest
from wire_harness import WireHarness

from factflow_infra_testing.contracts import QueueContract


class TestClassic(QueueContract):
    @pytest.fixture
    def harness(self):
        return WireHarness("rabbitmq-classic")


class TestQuorum(QueueContract):
    @pytest.fixture
    def harness(self):
        return WireHarness("rabbitmq-quorum")
