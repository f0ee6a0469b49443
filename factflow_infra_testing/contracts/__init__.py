"""Contract suites that anyone can run on their own provider.

    from factflow_infra_testing.contracts import QueueContract

    class TestMyProvider(QueueContract):
        @pytest.fixture
        def harness(self) -> QueueHarness:
            return MyHarness()

A harness declares its capabilities and runs a behaviour on a loop of its choice; ``harnesses`` has those of the providers
here, to use and to read.
"""

from __future__ import annotations

import pytest

# Before the behaviours are imported: their plain ``assert``s then explain themselves, as those of a test module do.
pytest.register_assert_rewrite(
    "factflow_infra_testing.contracts.queue",
    "factflow_infra_testing.contracts.storage",
)

from factflow_infra_testing.contracts.pace import LIVE_PACE, VIRTUAL_PACE, Pace  # noqa: E402
from factflow_infra_testing.contracts.queue import (  # noqa: E402
    ALL_QUEUE_CAPABILITIES,
    QUEUE_BEHAVIOURS,
    PlainQueueBackend,
    QueueBackend,
    QueueCapability,
    QueueEnvironment,
    QueueHarness,
    exercise_queue,
)
from factflow_infra_testing.contracts.storage import (  # noqa: E402
    ALL_STORAGE_CAPABILITIES,
    STORAGE_BEHAVIOURS,
    PlainStorageBackend,
    StorageBackend,
    StorageCapability,
    StorageEnvironment,
    StorageHarness,
    exercise_storage,
)
from factflow_infra_testing.contracts.suite import (  # noqa: E402
    QueueContract,
    StorageContract,
    check_queue,
    check_storage,
)

__all__ = [
    "ALL_QUEUE_CAPABILITIES",
    "ALL_STORAGE_CAPABILITIES",
    "LIVE_PACE",
    "QUEUE_BEHAVIOURS",
    "STORAGE_BEHAVIOURS",
    "VIRTUAL_PACE",
    "Pace",
    "PlainQueueBackend",
    "PlainStorageBackend",
    "QueueBackend",
    "QueueCapability",
    "QueueContract",
    "QueueEnvironment",
    "QueueHarness",
    "StorageBackend",
    "StorageCapability",
    "StorageContract",
    "StorageEnvironment",
    "StorageHarness",
    "check_queue",
    "check_storage",
    "exercise_queue",
    "exercise_storage",
]
