"""``SimulatedS3``: as new after a reset, alike every time, and nothing touched outside its context."""

from __future__ import annotations

import asyncio
import os

import pytest
from minio_support import Faults, Journal, lose_answer, pieces, refuse, stored_keys, uploads

from factflow_infra.errors import StorageIOError
from factflow_infra_testing.simulation.runner import run
from factflow_infra_testing.storage.s3 import SimulatedS3


@pytest.fixture(scope="module")
def opened():
    with SimulatedS3() as s3:
        yield s3


@pytest.fixture
def s3(opened, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    opened.reset()
    return opened


@pytest.mark.asyncio
async def test_reset_forgets_objects_buckets_uploads_and_interceptors(s3):
    s3.client.create_bucket(Bucket="other-bucket")
    s3.client.create_multipart_upload(Bucket=s3.bucket, Key="k")
    await s3.provider().write("k", b"1")
    journal = Journal()
    with s3.intercept(journal):
        s3.reset()
        assert stored_keys(s3) == []
    assert uploads(s3) == []
    assert journal.lines == []
    assert [bucket["Name"] for bucket in s3.client.list_buckets()["Buckets"]] == [s3.bucket]


@pytest.mark.asyncio
async def test_one_runs_failures_do_not_use_up_the_next_ones_retries(s3):
    """Botocore's standard mode has a quota of retries in each client."""
    counts = []
    for _ in range(4):
        s3.reset()
        faults = Faults("GET", "/k", refuse(500, "InternalError"))
        with s3.intercept(faults):
            for _ in range(30):
                with pytest.raises(StorageIOError):
                    await s3.provider().get("k")
        counts.append(len(faults.seen))
    assert len(set(counts)) == 1


@pytest.mark.asyncio
async def test_what_an_interceptor_refuses_is_not_carried_out(s3):
    with s3.intercept(Faults("PUT", "/k", refuse(403, "AccessDenied"))), pytest.raises(Exception, match="denied"):
        await s3.provider().write("k", b"1")
    assert stored_keys(s3) == []


@pytest.mark.usefixtures("s3")
def test_only_one_is_open_at_a_time():
    with pytest.raises(RuntimeError, match="another SimulatedS3 is open"), SimulatedS3():
        pass


def test_it_must_be_open():
    with pytest.raises(RuntimeError, match="with statement"):
        SimulatedS3().provider()


@pytest.mark.usefixtures("s3")
def test_the_environment_stays_as_it_is():
    assert "AWS_ACCESS_KEY_ID" not in os.environ or os.environ["AWS_ACCESS_KEY_ID"] != "FOOBARKEY"


@pytest.mark.asyncio
async def test_times_are_those_of_the_clock_in_force(s3, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1_000_000.5)
    info = await s3.provider().write("k", b"1")
    assert info.modified_at.timestamp() == 1_000_000.5
    assert s3.client.head_object(Bucket=s3.bucket, Key="k")["LastModified"].timestamp() == 1_000_000


def test_a_run_on_the_deterministic_loop_is_the_same_each_time(opened):
    """Retries, pauses, parts, probes and sidecars: in virtual time, and in the same order with the same ids."""

    async def scenario(journal):
        async with opened.provider(part_size=5 * 1024 * 1024) as storage:
            with (
                opened.intercept(Faults("PUT", "/k[0-9]", lose_answer, last=2)),
                opened.intercept(Faults("GET", "/k1", refuse(503, "SlowDown"), last=2)),
                opened.intercept(journal),
            ):
                await asyncio.gather(
                    storage.write("k1", b"1", {"note": "x" * 3000}),
                    storage.write("k2", b"2", if_absent=True),
                    storage.write("parts", pieces(b"x" * 6_000_000, b"y")),
                )
                await asyncio.gather(storage.get("k1"), storage.stat("k2"), storage.copy("k1", "k3"))
                return [key async for key in storage.list()], (await storage.stat("parts")).modified_at

    def once():
        opened.reset()
        journal = Journal()
        outcome = run(lambda: scenario(journal))
        return outcome.result(), outcome.time, journal.lines

    first, second = once(), once()
    assert first == second
    assert first[1] > 0  # it waited between the attempts, and no clock of the machine was asked
    assert first[0][0] == ["k1", "k2", "k3", "parts"]
