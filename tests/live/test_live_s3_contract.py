"""The storage contract on a real radosgw that checks signatures, and what it answers where S3 servers differ."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from factflow_infra.errors import StorageError
from factflow_infra.storage.minio import MinioStorageProvider, S3Options
from factflow_infra_testing.contracts import StorageContract
from factflow_infra_testing.contracts.harnesses.minio import capabilities_of
from factflow_infra_testing.contracts.pace import LIVE_PACE
from factflow_infra_testing.contracts.storage import PlainStorageBackend, StorageCapability, exercise_storage

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
CAPABILITIES = (
    capabilities_of("radosgw")
    - {
        StorageCapability.CORRUPT_ANSWER,
        StorageCapability.LOSE_ANSWER,
        StorageCapability.DENY,
        StorageCapability.FULL,
        StorageCapability.THROTTLE,
        StorageCapability.LONG_SEGMENTS,  # memstore in Debian's package allows 256 bytes
    }
) | {StorageCapability.REAL_LOOP}


def load(path):
    name = f"live_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


class RadosgwBackend(PlainStorageBackend):
    def __init__(self, server):
        self.server = server

    def made(self, bucket="contract", **changed):
        given = {
            "endpoint_url": self.server.endpoint,
            "access_key": self.server.access_key,
            "secret_key": self.server.secret_key,
            **changed,
        }
        return MinioStorageProvider(bucket, options=S3Options(**given))

    async def provider(self):
        return self.made()

    async def corrupt(self, key):
        found = self.server.client.get_object(Bucket="contract", Key=key)
        data = bytearray(found["Body"].read())
        data[len(data) // 2] ^= 1
        self.server.client.put_object(
            Bucket="contract",
            Key=key,
            Body=bytes(data),
            Metadata=found["Metadata"],
            ContentType=found["ContentType"],
        )

    async def residue(self):
        uploads = self.server.client.list_multipart_uploads(Bucket="contract").get("Uploads", [])
        hidden = self.server.client.list_objects_v2(Bucket="contract", Prefix=".factflow/").get("Contents", [])
        return [upload["Key"] for upload in uploads] + [entry["Key"] for entry in hidden]

    async def rootless(self):
        return self.made("no-such-bucket")

    async def unreachable(self):
        return self.made(endpoint_url="http://127.0.0.1:1", max_attempts=1)

    async def unauthenticated(self):
        return self.made(secret_key="wrong")


class RadosgwHarness:
    capabilities = CAPABILITIES

    def __init__(self, server):
        self.server = server

    def run(self, check):
        # Behaviours that look for residue look at the whole bucket.
        listed = self.server.client.list_objects_v2(Bucket="contract")
        for entry in listed.get("Contents", []):
            self.server.client.delete_object(Bucket="contract", Key=entry["Key"])
        backend = RadosgwBackend(self.server)
        asyncio.run(exercise_storage(check, backend, capabilities=self.capabilities, pace=LIVE_PACE))


@pytest.fixture(scope="module")
def server(radosgw_server):
    for bucket in ("contract", "facts"):
        radosgw_server.client.create_bucket(Bucket=bucket)
    return radosgw_server


class TestRadosgw(StorageContract):
    @pytest.fixture
    def harness(self, server):
        return RadosgwHarness(server)


def test_it_answers_as_its_profile_says(server):
    """S3-20 to S3-30, but for the races, which are below."""
    answers = load(ROOT / "tests" / "storage" / "s3_answers.py")

    def other(aws_access_key_id=server.access_key, aws_secret_access_key=server.secret_key):
        return boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            aws_access_key_id=aws_access_key_id,
            aws_secret_access_key=aws_secret_access_key,
            region_name="us-east-1",
            config=Config(
                signature_version="s3v4",
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    asked = answers.ask_all(answers.Asker(other(), "facts", other))
    assert asked == answers.ANSWERS["radosgw"]


def test_one_of_many_creates_at_once_succeeds(server):
    """S3-20."""

    async def race():
        backend = RadosgwBackend(server)
        stores = [backend.made("facts") for _ in range(4)]
        outcomes = await asyncio.gather(
            *(stores[n % 4].write("raced", bytes([n]), if_absent=True) for n in range(32)), return_exceptions=True
        )
        for store in stores:
            await store.close()
        return sum(not isinstance(outcome, StorageError) for outcome in outcomes)

    assert asyncio.run(race()) == 1


def test_writes_with_one_etag_at_once_are_refused_or_fail(server):
    """S3-31: the loser of a race is told 412, or 500 (UnknownError); what reads back is one of the bodies that were answered 200."""
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
        config=Config(
            signature_version="s3v4",
            max_pool_connections=8,
            retries={"total_max_attempts": 1},  # boto3 would send again what was answered 500
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    put = partial(client.put_object, Bucket="facts", Key="raced-etag")

    def write(etag, body):
        try:
            put(Body=body, IfMatch=etag)
        except ClientError as error:
            return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
        return 200, ""

    failed = (500, "UnknownError")
    seen = []
    with ThreadPoolExecutor(8) as threads:
        for _ in range(20):
            etag = put(Body=b"before")["ETag"].strip('"')
            bodies = [bytes([n]) for n in range(8)]
            answers = dict(zip(bodies, threads.map(partial(write, etag), bodies), strict=True))
            assert set(answers.values()) <= {(200, ""), (412, "PreconditionFailed"), failed}
            held = client.get_object(Bucket="facts", Key="raced-etag")["Body"].read()
            assert answers[held] == (200, "")
            seen += answers.values()
            if failed in seen:
                return
    pytest.fail(f"none of {len(seen)} writes was answered 500: {Counter(seen)}")
