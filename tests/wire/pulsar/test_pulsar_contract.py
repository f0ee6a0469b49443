"""The production Pulsar provider keeps the queue contract on the API tier."""

import pytest
from pulsar_harness import ApiHarness

from factflow_infra_testing.contracts import QueueContract


class TestShared(QueueContract):
    @pytest.fixture
    def harness(self):
        return ApiHarness("shared")


class TestKeyShared(QueueContract):
    @pytest.fixture
    def harness(self):
        return ApiHarness("key_shared")
