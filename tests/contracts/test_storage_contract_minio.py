"""The S3 provider keeps the storage contract, on moto, as each of the S3 servers that there are profiles of."""

import pytest

from factflow_infra_testing.contracts import StorageContract
from factflow_infra_testing.contracts.harnesses import SimulatedS3Harness
from factflow_infra_testing.storage.s3 import SimulatedS3


@pytest.fixture(scope="module")
def s3():
    with SimulatedS3() as s3:
        yield s3


class TestAws(StorageContract):
    @pytest.fixture
    def harness(self, s3):
        return SimulatedS3Harness(s3)


class TestMinio(StorageContract):
    @pytest.fixture
    def harness(self, s3):
        return SimulatedS3Harness(s3, profile="minio")


class TestRadosgw(StorageContract):
    @pytest.fixture
    def harness(self, s3):
        return SimulatedS3Harness(s3, profile="radosgw")
