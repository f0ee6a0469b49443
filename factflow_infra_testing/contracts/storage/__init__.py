"""The storage contract: the rows, and what a harness is made of."""

from __future__ import annotations

from factflow_infra_testing.contracts.storage import (
    conditions,
    failures,
    fidelity,
    keys,
    lifetime,
    listing,
    missing,
    streaming,
    writing,
)
from factflow_infra_testing.contracts.storage.capabilities import ALL_STORAGE_CAPABILITIES, StorageCapability
from factflow_infra_testing.contracts.storage.environment import (
    PlainStorageBackend,
    StorageBackend,
    StorageEnvironment,
    StorageHarness,
    exercise_storage,
)
from factflow_infra_testing.contracts.storage.table import STORAGE_BEHAVIOURS

__all__ = [
    "ALL_STORAGE_CAPABILITIES",
    "STORAGE_BEHAVIOURS",
    "PlainStorageBackend",
    "StorageBackend",
    "StorageCapability",
    "StorageEnvironment",
    "StorageHarness",
    "exercise_storage",
]

# Importing them adds their rows to the table.
_ROWS = (writing, fidelity, missing, listing, keys, conditions, streaming, lifetime, failures)
