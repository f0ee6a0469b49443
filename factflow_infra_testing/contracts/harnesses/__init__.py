"""The harnesses of the providers here: to use, and to read before writing one."""

from __future__ import annotations

from factflow_infra_testing.contracts.harnesses.filesystem import FilesystemStorageHarness, SimulatedFilesystemHarness
from factflow_infra_testing.contracts.harnesses.minio import SimulatedS3Harness
from factflow_infra_testing.contracts.harnesses.simulated_queue import SimulatedQueueHarness

__all__ = [
    "FilesystemStorageHarness",
    "SimulatedFilesystemHarness",
    "SimulatedQueueHarness",
    "SimulatedS3Harness",
]
