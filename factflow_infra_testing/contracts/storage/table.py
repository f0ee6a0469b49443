"""The table of the storage behaviours, to which the modules beside this one add their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from factflow_infra_testing.contracts.behaviours import Table

if TYPE_CHECKING:
    from factflow_infra_testing.contracts.storage.capabilities import StorageCapability
    from factflow_infra_testing.contracts.storage.environment import StorageEnvironment

STORAGE_BEHAVIOURS: Final[Table[StorageEnvironment, StorageCapability]] = Table()
