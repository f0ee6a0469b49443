"""Every kind of S3 fault strikes where a plan says, below botocore's retries, in virtual time; the laboratory meets none."""

from __future__ import annotations

import asyncio

import pytest

from factflow_infra.errors import (
    CorruptObjectError,
    StorageAuthenticationError,
    StorageIOError,
    StorageUnreachableError,
    ThrottledError,
    WriteUnconfirmedError,
)
from factflow_infra_testing import Fault, Faults, Process, Simulation, simulate
from factflow_infra_testing.search.search import search
from factflow_infra_testing.storage.s3_faults import S3_FAULTS

PART = 5 * 1024 * 1024


async def write(storage):
    await storage.write("k", b"new")


async def read(storage):
    assert await storage.read("k") == b"old"


async def stream(storage):
    assert b"".join([piece async for piece in storage.stream("k")]) == b"old"


async def names(storage):
    assert [key async for key in storage.list()] == ["k", "l"]


async def create(storage):
    await storage.write("fresh", b"new", if_absent=True)


async def upload(storage):
    async def parts():
        yield b"x" * 17 * 1024 * 1024
        yield b"end"

    await storage.write("large", parts())


ABSORBED = [
    ("s3-slow", "PutObject k", 3, write),
    ("s3-throttled", "PutObject k", 1, write),
    ("s3-throttled", "GetObject k", 1, read),
    ("s3-error", "PutObject k", 1, write),
    ("s3-error", "UploadPart large", 1, upload),
    ("s3-refused", "HeadObject k", 1, write),
    ("s3-conflict", "PutObject fresh", 1, create),
    ("s3-request-lost", "PutObject k", 1, write),
    ("s3-request-lost", "PutObject k", 2, write),
    ("s3-answer-lost", "PutObject k", 1, write),
    ("s3-answer-lost", "PutObject k", 2, write),
    ("s3-answer-lost", "PutObject k", 3, write),
    ("s3-answer-lost", "PutObject fresh", 1, create),
    ("s3-answer-lost", "CompleteMultipartUpload large", 1, upload),
    ("s3-body-cut", "GetObject k", 1, read),
    ("s3-body-cut", "GetObject k", 2, read),
    ("s3-body-cut", "GetObject k", 1, stream),
    ("s3-body-corrupt", "GetObject k", 1, read),
    ("s3-body-corrupt", "PutObject k", 1, write),
    ("s3-body-corrupt", "UploadPart large", 1, upload),
    ("s3-page-short", "ListObjectsV2", 1, names),
]
"""One fault that the provider takes care of: kind, target, choice, call."""

SURFACING = [
    ("s3-throttled", "PutObject k", 1, 4, write, ThrottledError),
    ("s3-error", "GetObject k", 1, 4, read, StorageIOError),
    ("s3-refused", "HeadObject k", 1, 4, write, StorageUnreachableError),
    ("s3-request-lost", "PutObject k", 2, 4, write, WriteUnconfirmedError),
    ("s3-body-corrupt", "GetObject k", 1, 2, read, CorruptObjectError),
    ("s3-body-corrupt", "GetObject k", 1, 1, stream, CorruptObjectError),
    ("s3-credentials", "PutObject k", 1, 1, write, StorageAuthenticationError),
    ("s3-upload-gone", "UploadPart large", 1, 1, upload, StorageIOError),
    ("s3-upload-gone", "CompleteMultipartUpload large", 1, 1, upload, StorageIOError),
]
"""Faults that reach the caller: kind, target, choice, how often in a row, call, error."""


async def prepared(sim):
    laboratory = sim.storage("s3")
    for key in ("k", "l"):
        await laboratory.write(key, b"old")
    return laboratory, sim.storage("s3", exposed=True)


@pytest.mark.parametrize(("kind", "target", "choice", "call"), ABSORBED)
def test_the_provider_takes_care_of_one(kind, target, choice, call):
    @simulate(plan=[Fault(kind, target, 1, choice)])
    async def run(sim: Simulation) -> None:
        laboratory, exposed = await prepared(sim)
        await call(exposed)
        if call is write:
            assert await laboratory.read("k") == b"new"

    run()


@pytest.mark.parametrize(("kind", "target", "choice", "times", "call", "error"), SURFACING)
def test_what_goes_on_reaches_the_caller(kind, target, choice, times, call, error):
    @simulate(plan=[Fault(kind, target, nth, choice) for nth in range(1, times + 1)])
    async def run(sim: Simulation) -> None:
        laboratory, exposed = await prepared(sim)
        with pytest.raises(error) as raised:
            await call(exposed)
        assert raised.value.retryable == (error not in (CorruptObjectError, StorageAuthenticationError))
        assert await laboratory.read("k") == b"old"  # the laboratory meets none, and nothing half was left
        assert [key async for key in laboratory.list()] == ["k", "l"]

    run()


def test_every_kind_has_its_test():
    assert {row[0] for row in (*ABSORBED, *SURFACING)} == set(S3_FAULTS)


@simulate(plan=[Fault("s3-request-lost", "PutObject k", 1, 2), Fault("s3-slow", "HeadObject k", 1, 3)])
async def test_waiting_is_in_virtual_time(sim: Simulation) -> None:
    _, exposed = await prepared(sim)
    began = sim.time()
    await exposed.write("k", b"new")
    assert 90 <= sim.time() - began < 92  # 30 s, then the read timeout and a retry's pause


@simulate(plan=[Fault("s3-slow", "PutObject k", 1, 2)])
async def test_a_request_outlives_the_process_that_sent_it(sim: Simulation) -> None:
    laboratory, _ = await prepared(sim)

    async def main(process: Process) -> None:
        await process.storage("s3").write("k", b"of the dead")

    process = sim.start(main, name="writer", restart=False)
    await sim.sleep(0.5)
    process.kill()
    assert await laboratory.read("k") == b"old"
    await sim.sleep(1)
    assert await laboratory.read("k") == b"of the dead"


@simulate(plan=[Fault("s3-throttled", "PutObject k", 2)])
async def test_the_nth_request_is_meant(sim: Simulation) -> None:
    _, exposed = await prepared(sim)
    for _ in range(3):
        await exposed.write("k", b"new")
    struck = [(op.target, op.detail) for op in sim.history.operations if op.kind == "fault"]
    assert struck == [("PutObject k", "s3-throttled")]


@simulate(plan=[Fault("s3-page-short", "ListObjectsV2", 1)])
async def test_a_listing_changes_under_way(sim: Simulation) -> None:
    laboratory, exposed = await prepared(sim)
    seen = []
    async for key in exposed.list():
        seen.append(key)
        if key == "k":
            await laboratory.write("k2", b"")
            await laboratory.delete("l")
    assert seen == ["k", "k2"]


@simulate(plan=[])
async def test_a_machine_whose_clock_jumped_signs_with_the_servers_time(sim: Simulation) -> None:
    laboratory, _ = await prepared(sim)

    async def main(process: Process) -> None:
        storage = process.storage("s3")
        await storage.stat("k")
        for seconds in (3600, -7200):
            sim.loop.clock.jump(seconds, host="a")
            assert await storage.exists("k")  # a HEAD: its refusal has no code
            await storage.write("k", b"new")

    sim.start(main, name="writer", host="a")
    await sim.drain()
    assert await laboratory.read("k") == b"new"


def test_ablation_without_that_a_wrong_clock_is_refused(monkeypatch):
    monkeypatch.setattr("factflow_infra.storage.minio.signing.Skew.learn", lambda *_, **__: None)

    @simulate(plan=[])
    async def run(sim: Simulation) -> None:
        laboratory, _ = await prepared(sim)

        async def main(process: Process) -> None:
            sim.loop.clock.jump(3600, host="a")
            with pytest.raises(StorageAuthenticationError, match="RequestTimeTooSkewed"):
                await process.storage("s3").write("new", b"")

        sim.start(main, name="writer", host="a", restart=False)
        await sim.drain()
        assert [key async for key in laboratory.list()] == ["k", "l"]

    run()


@simulate(plan=[])
async def test_a_wrong_clock_is_of_one_machine_only(sim: Simulation) -> None:
    laboratory, _ = await prepared(sim)

    async def main(process: Process) -> None:
        if process.host == "a":
            sim.loop.clock.jump(-3600, host="a")
        for n in range(20):
            await process.storage("s3").write(f"{process.name}{n}", b"")

    for host in ("a", "b"):
        sim.start(main, name=f"on-{host}-", host=host, restart=False)
    await sim.drain()
    assert len([key async for key in laboratory.list("on-")]) == 40


@pytest.mark.faults(Fault("s3-answer-lost", "PutObject k", 1))
async def test_the_fixture_meets_marked_faults(s3_storage):
    await s3_storage.write("k", b"1", if_absent=True)
    assert await s3_storage.read("k") == b"1"


def test_a_search_fires_what_its_scenario_has_occasions_for():
    async def main(process: Process) -> None:
        storage = process.storage("s3")
        for n in range(3):
            try:
                await storage.write(f"k{n}", b"content", if_absent=True)
                await storage.read(f"k{n}")
                assert f"k{n}" in [key async for key in storage.list()]
            except Exception as error:
                if not isinstance(error, AssertionError):
                    await asyncio.sleep(1)
                    continue
                raise

    async def scenario(sim: Simulation) -> None:
        sim.start(main, name="worker", restart=False)
        await sim.drain()

    result = search(scenario, faults=Faults.only(*S3_FAULTS), max_examples=30)
    assert result.finding is None, result.finding
    assert set(S3_FAULTS) - result.coverage.fired.keys() == {"s3-upload-gone"}  # nothing goes up in parts
