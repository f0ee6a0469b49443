"""The production Pulsar provider keeps the queue contract on the API tier; ``test_pulsar_wire_contract.py`` has the wire tier."""

import pytest
from pulsar_harness import ApiHarness

from factflow_infra_testing.contracts import QueueContract
from factflow_infra_testing.contracts.queue import QUEUE_BEHAVIOURS
from factflow_infra_testing.contracts.suite import check_queue

ABOUT_KEYS = ("order", "first-in", "compet", "concurrent", "lost-connection", "killed-consumer")


class TestShared(QueueContract):
    @pytest.fixture
    def harness(self):
        return ApiHarness("shared")


def rows(harness, parts):
    able = [row for row in QUEUE_BEHAVIOURS if not row.missing(harness.capabilities)]
    return [row for row in able if any(part in row.id for part in parts)]


def test_every_part_stands_for_rows():
    assert [part for part in ABOUT_KEYS if not rows(ApiHarness("key_shared"), [part])] == []


@pytest.mark.parametrize("behaviour", rows(ApiHarness("key_shared"), ABOUT_KEYS), ids=lambda row: row.id)
def test_key_shared(behaviour):
    check_queue(ApiHarness("key_shared"), behaviour)
