"""``remove_leftovers`` on S3: what the dead left goes, what the living need stays."""

from __future__ import annotations

import pytest
from minio_support import pieces, stored_keys, uploads

from factflow_infra.errors import InvalidObjectError
from factflow_infra_testing import Process, Simulation, simulate
from factflow_infra_testing.storage.s3 import SimulatedS3

PART = 5 * 1024 * 1024
LARGE = {"note": "é" * 3000}
HOUR = 3600


@pytest.fixture
def clock(monkeypatch):
    now = [1_800_000_000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    return now


@pytest.fixture
def s3():
    with SimulatedS3() as s3:
        yield s3


def begin(s3, key):
    where = {"Bucket": s3.bucket, "Key": key}
    where["UploadId"] = s3.client.create_multipart_upload(**where)["UploadId"]
    return where


@pytest.mark.asyncio
async def test_old_uploads_go_and_young_ones_and_those_that_go_on_stay(clock, s3):
    storage = s3.provider()
    old, going_on = begin(s3, "old"), begin(s3, "going-on")
    s3.client.upload_part(**old, PartNumber=1, Body=b"1")
    clock[0] += HOUR
    s3.client.upload_part(**going_on, PartNumber=1, Body=b"1")
    begin(s3, "young")
    assert await storage.remove_leftovers(older_than=2 * HOUR) == 0
    assert await storage.remove_leftovers(older_than=HOUR) == 1
    assert sorted(upload["Key"] for upload in uploads(s3)) == ["going-on", "young"]
    assert await storage.remove_leftovers(older_than=0) == 2
    assert uploads(s3) == []


@pytest.mark.asyncio
async def test_only_below_the_prefix(s3):
    begin(s3, "elsewhere/k")
    begin(s3, "mine/k")
    assert await s3.provider(prefix="mine").remove_leftovers(older_than=0) == 1
    assert [upload["Key"] for upload in uploads(s3)] == ["elsewhere/k"]


@pytest.mark.asyncio
@pytest.mark.parametrize("prefix", ["", "mine"])
async def test_sidecars_that_an_object_names_stay(clock, s3, prefix):
    storage = s3.provider(prefix=prefix)
    await storage.write("k/é", b"1", LARGE)
    await storage.write("streamed", pieces(b"x" * 17 * 1024 * 1024))
    await storage.copy("k/é", "copied")
    needed = [key for key in stored_keys(s3) if ".factflow/" in key]
    assert len(needed) == 3
    orphan = needed[0].rpartition("/")[0] + "/" + "0" * 32
    source = s3.client.head_object(Bucket=s3.bucket, Key=needed[0])
    s3.client.put_object(Bucket=s3.bucket, Key=orphan, Body=b"{}", Metadata=source["Metadata"])
    s3.client.put_object(Bucket=s3.bucket, Key=storage._layout.probe("1"), Body=b"")
    assert await storage.remove_leftovers(older_than=HOUR) == 0
    clock[0] += HOUR
    assert await storage.remove_leftovers(older_than=HOUR) == 2
    assert [key for key in stored_keys(s3) if ".factflow/" in key] == needed
    for key in ("k/é", "copied"):
        assert (await storage.get(key)).info.metadata == LARGE


@pytest.mark.asyncio
@pytest.mark.parametrize("wrong", [-1, "1", True, float("inf")])
async def test_a_wrong_age_is_refused_before_any_request(s3, wrong):
    with pytest.raises(InvalidObjectError, match="older_than"):
        await s3.provider().remove_leftovers(older_than=wrong)


@simulate(plan=[])
async def test_what_a_killed_process_left_is_removed(sim: Simulation) -> None:
    async def parts():
        for _ in range(5):
            yield b"x" * PART
            await sim.sleep(1)

    async def main(process: Process) -> None:
        await process.storage("s3").write("large", parts())

    process = sim.start(main, name="writer", restart=False)
    await sim.sleep(3.5)
    process.kill()
    storage = sim.storage("s3")
    await sim.sleep(HOUR)
    assert await storage.remove_leftovers(older_than=HOUR) == 1
    assert await storage.remove_leftovers(older_than=0) == 0
    assert [key async for key in storage.list()] == []
