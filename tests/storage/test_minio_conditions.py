"""Conditional writes on S3: one winner, and no server trusted that was not tried."""

from __future__ import annotations

import asyncio

import pytest
from minio_support import (
    Enforcing,
    Faults,
    Ignoring,
    Journal,
    lose_answer,
    pieces,
    refuse,
    stored_keys,
    unreachable,
    uploads,
)

from factflow_infra.errors import (
    PreconditionFailedError,
    StorageError,
    StorageUnreachableError,
    UnsupportedOperationError,
)
from factflow_infra.storage.minio import conditions
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


@pytest.fixture
def storage(s3):
    return s3.provider()


@pytest.mark.asyncio
async def test_one_of_many_creators_wins(s3):
    # One thread: moto itself lets two through now and then.
    providers = [s3.provider(max_concurrency=1) for _ in range(4)]
    outcomes = []

    def one_at_a_time(request, forward):
        with lock:
            return forward(request)

    import threading

    lock = threading.Lock()
    with s3.intercept(one_at_a_time):
        outcomes = await asyncio.gather(
            *(provider.write("k", f"{n}".encode(), if_absent=True) for n, provider in enumerate(providers)),
            return_exceptions=True,
        )
    assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, PreconditionFailedError) for outcome in outcomes) == 3


@pytest.mark.asyncio
async def test_a_counter_by_if_match_loses_nothing(s3):
    storage = s3.provider()
    await storage.write("n", b"0")

    async def increment():
        while True:
            stored = await storage.get("n")
            try:
                await storage.write("n", str(int(stored.data) + 1).encode(), if_match=stored.info.etag)
            except PreconditionFailedError:
                continue
            return

    import threading

    lock = threading.Lock()

    def one_at_a_time(request, forward):
        with lock:
            return forward(request)

    with s3.intercept(one_at_a_time):
        await asyncio.gather(*(increment() for _ in range(5)))
    assert await storage.read("n") == b"5"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("ignored", "call"),
    [
        (Ignoring("If-None-Match"), lambda storage: storage.write("k", b"new", if_absent=True)),
        (Ignoring("If-Match"), lambda storage: storage.write("k", b"new", if_match="0" * 32)),
        (Ignoring("If-Match", method="DELETE"), lambda storage: storage.delete("k", if_match="0" * 32)),
        (
            Ignoring("If-None-Match", method="POST"),
            lambda storage: storage.write("k", pieces(b"x" * 9_000_000, b"x"), if_absent=True),
        ),
        (Faults("PUT", "probe", refuse(501, "NotImplemented"), first=2), lambda s: s.write("k", b"n", if_absent=True)),
        (Faults("PUT", "probe", refuse(400, "InvalidArgument"), first=2), lambda s: s.write("k", b"n", if_match="e")),
        (Faults("PUT", "missing", lambda request, _: succeed(request)), lambda s: s.write("k", b"n", if_match="e")),
    ],
)
async def test_a_server_that_ignores_a_condition_is_not_trusted(s3, storage, ignored, call):
    await storage.write("k", b"old")
    with s3.intercept(ignored):
        for _ in range(2):
            with pytest.raises(UnsupportedOperationError, match="does not honour"):
                await call(storage)
    assert await storage.read("k") == b"old"
    assert stored_keys(s3) == ["k"]


def succeed(request):
    from minio_support import answer

    return answer(request, 200, headers={"ETag": '"0"'})


@pytest.mark.asyncio
async def test_ablation_a_trusted_server_would_overwrite(s3, storage, monkeypatch):
    monkeypatch.setattr(conditions, "probe", lambda *_: conditions.Support(honoured=True))
    await storage.write("k", b"old")
    with s3.intercept(Ignoring("If-None-Match")):
        await storage.write("k", b"new", if_absent=True)
    assert await storage.read("k") == b"new"


@pytest.mark.asyncio
async def test_each_condition_is_tried_once_and_leaves_nothing(s3, storage):
    journal = Journal()
    with s3.intercept(journal):
        await storage.write("a", b"1", if_absent=True)
        first = len([line for line in journal.lines if "probe" in line])
        await asyncio.gather(*(storage.write(f"b{n}", b"1", if_absent=True) for n in range(3)))
        assert len([line for line in journal.lines if "probe" in line]) == first > 0
    assert [key for key in stored_keys(s3) if "factflow" in key] == []


@pytest.mark.asyncio
async def test_a_probe_that_fails_amid_its_upload_leaves_none_behind(s3):
    provider = s3.provider(part_size=5 * 1024 * 1024, multipart_threshold=1)
    with s3.intercept(Faults("PUT", "probe.*partNumber", refuse(403, "AccessDenied"))), pytest.raises(StorageError):
        await provider.write("k", pieces(b"1" * 6_000_000), if_absent=True)
    assert uploads(s3) == []


@pytest.mark.asyncio
async def test_etags_go_in_the_form_that_the_server_takes(s3):
    """One server compares with the quotes; etags are given and taken without and with them."""

    def strict(request, forward):
        value = request.headers.get("If-Match")
        if value is not None and b'"' in (value if isinstance(value, bytes) else value.encode()):
            return refuse(412, "PreconditionFailed")(request, forward)
        return forward(request)

    for server in (strict, Enforcing(s3)):
        provider = s3.provider()
        with s3.intercept(server):
            info = await provider.write("k", b"1")
            assert '"' not in info.etag
            info = await provider.write("k", b"2", if_match=info.etag)
            await provider.write("k", b"3", if_match=f'"{info.etag}"')


@pytest.mark.asyncio
async def test_a_probe_that_got_no_answer_settles_nothing(s3, storage):
    with s3.intercept(Faults("PUT", "probe", unreachable)), pytest.raises(StorageUnreachableError):
        await storage.write("k", b"1", if_absent=True)
    with s3.intercept(Faults("PUT", "probe", lose_answer, last=1)):
        await storage.write("k", b"1", if_absent=True)
    with s3.intercept(Faults("DELETE", "probe", refuse(403, "AccessDenied"))):
        await s3.provider().write("l", b"1", if_absent=True)  # the probe object stays, hidden
    assert [key async for key in storage.list()] == ["k", "l"]
