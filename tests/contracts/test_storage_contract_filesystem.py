"""The filesystem provider keeps the storage contract, on a real folder and on a disk in memory."""

import pytest

from factflow_infra_testing.contracts import StorageContract
from factflow_infra_testing.contracts.harnesses import FilesystemStorageHarness, SimulatedFilesystemHarness
from factflow_infra_testing.storage.files import SimulatedFilesystem


@pytest.fixture(scope="module")
def files():
    with SimulatedFilesystem() as files:
        yield files


class TestRealFolder(StorageContract):
    @pytest.fixture
    def harness(self, tmp_path):
        return FilesystemStorageHarness(tmp_path)


class TestInMemory(StorageContract):
    @pytest.fixture
    def harness(self, files):
        return SimulatedFilesystemHarness(files)
