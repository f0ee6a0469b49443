"""The contracts as pytest classes: derive, give a ``harness`` fixture, and every behaviour is a test of yours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from factflow_infra_testing.contracts.queue import QUEUE_BEHAVIOURS
from factflow_infra_testing.contracts.storage import STORAGE_BEHAVIOURS

if TYPE_CHECKING:
    from factflow_infra_testing.contracts.behaviours import Behaviour
    from factflow_infra_testing.contracts.queue import QueueCapability, QueueEnvironment, QueueHarness
    from factflow_infra_testing.contracts.storage import StorageCapability, StorageEnvironment, StorageHarness


class QueueContract:
    """What every queue provider does (Q1-Q11).

    A subclass, with a name that pytest collects, has a fixture ``harness`` that returns a ``QueueHarness``. A behaviour
    whose capabilities the harness does not declare is skipped, with the reason.
    """

    @pytest.mark.parametrize("behaviour", list(QUEUE_BEHAVIOURS), ids=lambda row: row.id)
    def test_contract(self, harness: QueueHarness, behaviour: Behaviour[QueueEnvironment, QueueCapability]) -> None:
        if missing := behaviour.missing(harness.capabilities):
            pytest.skip(f"{behaviour.id} needs {', '.join(missing)}")
        check_queue(harness, behaviour)


class StorageContract:
    """What every storage provider does (S1-S10). As ``QueueContract``, with a ``StorageHarness``."""

    @pytest.mark.parametrize("behaviour", list(STORAGE_BEHAVIOURS), ids=lambda row: row.id)
    def test_contract(
        self, harness: StorageHarness, behaviour: Behaviour[StorageEnvironment, StorageCapability]
    ) -> None:
        if missing := behaviour.missing(harness.capabilities):
            pytest.skip(f"{behaviour.id} needs {', '.join(missing)}")
        check_storage(harness, behaviour)


def check_queue(harness: QueueHarness, behaviour: Behaviour[QueueEnvironment, QueueCapability]) -> None:
    """Run one behaviour; a failure carries what was promised as a note."""
    try:
        harness.run(behaviour.check)
    except Exception as error:
        error.add_note(f"{behaviour.id} promises: {behaviour.statement}")
        raise


def check_storage(harness: StorageHarness, behaviour: Behaviour[StorageEnvironment, StorageCapability]) -> None:
    """Run one behaviour; a failure carries what was promised as a note."""
    try:
        harness.run(behaviour.check)
    except Exception as error:
        error.add_note(f"{behaviour.id} promises: {behaviour.statement}")
        raise
