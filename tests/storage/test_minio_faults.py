"""Answers that are lost, requests that are refused: what the S3 provider makes of them."""

from __future__ import annotations

import pytest
from minio_support import (
    Enforcing,
    Faults,
    Journal,
    corrupt,
    lose_answer,
    pieces,
    refuse,
    reset,
    stored_keys,
    truncate,
    unreachable,
)

from factflow_infra.errors import (
    BucketNotFoundError,
    CorruptObjectError,
    InvalidObjectError,
    ObjectNotFoundError,
    PreconditionFailedError,
    StorageAuthenticationError,
    StorageFullError,
    StorageIOError,
    StoragePermissionError,
    StorageUnreachableError,
    ThrottledError,
    UnsupportedOperationError,
    WriteUnconfirmedError,
)
from factflow_infra.storage.minio import client as client_module
from factflow_infra_testing.storage.s3 import SimulatedS3

LARGE = {"note": "x" * 3000}
KEY = r"/k($|\?)"


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
@pytest.mark.parametrize("metadata", [{}, LARGE])
@pytest.mark.parametrize("condition", ["none", "if_absent", "if_match"])
async def test_a_write_whose_answer_was_lost_is_recognised_as_done(s3, storage, metadata, condition):
    terms = {}
    if condition == "if_absent":
        terms = {"if_absent": True}
    elif condition == "if_match":
        terms = {"if_match": (await storage.write("k", b"old")).etag}
    faults = Faults("PUT", KEY, lose_answer)
    with s3.intercept(faults):
        written = await storage.write("k", b"new", metadata, **terms)
    assert len(faults.seen) == 1  # not sent again: someone else's write could have come between
    assert (await storage.get("k")).info == written
    assert len(stored_keys(s3)) == (2 if metadata else 1)


@pytest.mark.asyncio
@pytest.mark.parametrize("action", [reset, refuse(500, "InternalError"), refuse(502), refuse(503, ""), unreachable])
@pytest.mark.parametrize("terms", [{}, {"if_absent": True}])
async def test_a_write_that_did_not_arrive_is_made_again(s3, storage, action, terms):
    faults = Faults("PUT", KEY, action, last=3)
    with s3.intercept(faults):
        written = await storage.write("k", b"new", LARGE, **terms)
    assert len(faults.seen) == 4
    assert await storage.stat("k") == written


@pytest.mark.asyncio
async def test_a_write_that_lands_late_is_recognised_in_the_refusal_of_the_next(s3, storage):
    """The first attempt is still on its way when the provider looks, and lands before the second one."""
    await storage.write("other", b"", if_absent=True)  # the probe is behind us
    late = []

    def delay(request, forward):
        late.append((request, forward))
        return reset(request, forward)

    def overtaken(request, forward):
        first, first_forward = late.pop()
        first_forward(first)
        return forward(request)

    with s3.intercept(Faults("PUT", KEY, delay, last=1)), s3.intercept(Faults("PUT", KEY, overtaken, first=2)):
        written = await storage.write("k", b"new", LARGE, if_absent=True)
    assert await storage.stat("k") == written


@pytest.mark.asyncio
@pytest.mark.parametrize("terms", [{}, {"if_absent": True}])
async def test_an_attempt_that_lands_after_the_one_that_succeeded(s3, storage, terms):
    """Nobody can call it back (S1). It is whole, metadata included; and a condition keeps it off."""
    await storage.write("other", b"", **terms)  # the probe is behind us
    late = []

    def delay(request, forward):
        late.append((request, forward))
        return reset(request, forward)

    with s3.intercept(Faults("PUT", KEY, delay, last=1)):
        await storage.write("k", b"ours", LARGE, **terms)
    newer = await storage.write("k", b"newer", {"n": 2})
    first, forward = late.pop()
    forward(first)
    found = await storage.get("k")
    if terms:
        assert (found.data, found.info) == (b"newer", newer)
    else:
        assert (found.data, found.info.metadata) == (b"ours", LARGE)


@pytest.mark.asyncio
async def test_a_write_of_which_nothing_is_known_says_so(s3, storage):
    await storage.write("k", b"old")
    with s3.intercept(Faults("PUT", KEY, reset)), pytest.raises(WriteUnconfirmedError, match="'k'") as caught:
        await storage.write("k", b"new", LARGE)
    assert caught.value.retryable
    assert caught.value.__cause__ is not None
    assert await storage.read("k") == b"old"
    assert [key async for key in storage.list()] == ["k"]


@pytest.mark.asyncio
async def test_a_lost_answer_and_no_way_to_look_is_unconfirmed(s3, storage):
    await storage.exists("k")
    with (
        s3.intercept(Faults("PUT", KEY, lose_answer)),
        s3.intercept(Faults("HEAD", KEY, unreachable, first=2)),
        pytest.raises(WriteUnconfirmedError),
    ):
        await storage.write("k", b"new")
    assert await storage.read("k") == b"new"


@pytest.mark.asyncio
@pytest.mark.parametrize("terms", [{}, {"if_absent": True}])
async def test_nobody_elses_write_is_undone_by_our_next_attempt(s3, storage, terms):
    """Ours lands, its answer is lost, someone else writes: sent again, ours would come back from the dead."""
    await storage.write("other", b"", **terms)

    def overwritten(request, forward):
        forward(request)
        s3.client.put_object(Bucket=s3.bucket, Key="k", Body=b"theirs")
        return reset(request, forward)

    with s3.intercept(Faults("PUT", KEY, overwritten, last=1)), pytest.raises(WriteUnconfirmedError):
        await storage.write("k", b"ours", **terms)
    assert await storage.read("k") == b"theirs"


@pytest.mark.asyncio
async def test_ablation_botocore_alone_would_undo_it(s3, monkeypatch):
    """Without the veto botocore sends ours again, over theirs."""
    monkeypatch.setattr("factflow_infra.storage.minio.client.guard_retries", lambda _: None)
    for operation in client_module.LANDING_OPERATIONS:
        s3.client.meta.events.unregister(
            f"needs-retry.s3.{operation}", unique_id=f"factflow-no-blind-retry-{operation}"
        )
    try:
        storage = s3.provider()

        def overwritten(request, forward):
            forward(request)
            if not faults_done:
                faults_done.append(True)
                s3.client.put_object(Bucket=s3.bucket, Key="k", Body=b"theirs")
            return reset(request, forward)

        faults_done = []
        with s3.intercept(Faults("PUT", KEY, overwritten, last=1)):
            await storage.write("k", b"ours")
        assert await storage.read("k") == b"ours"
    finally:
        client_module.guard_retries(s3.client)


@pytest.mark.asyncio
@pytest.mark.parametrize("then", [refuse(403, "AccessDenied"), unreachable, refuse(503, "SlowDown")])
async def test_a_refusal_after_an_open_attempt_does_not_settle_it(s3, storage, then):
    with (
        s3.intercept(Faults("PUT", KEY, reset, last=1)),
        s3.intercept(Faults("PUT", KEY, then, first=2)),
        pytest.raises(WriteUnconfirmedError),
    ):
        await storage.write("k", b"new")


@pytest.mark.asyncio
async def test_a_conflict_is_tried_again(s3, storage):
    with s3.intercept(Faults("PUT", KEY, refuse(409, "ConditionalRequestConflict"), last=2)):
        await storage.write("k", b"1", LARGE, if_absent=True)
    assert len(stored_keys(s3)) == 2
    conflict = Faults("PUT", KEY, refuse(409, "ConditionalRequestConflict"))
    with s3.intercept(conflict), pytest.raises(StorageIOError) as caught:
        await storage.write("k", b"2")
    assert caught.value.retryable
    assert len(conflict.seen) == 4


@pytest.mark.asyncio
async def test_a_sidecar_that_cannot_be_put_fails_the_write_surely(s3, storage):
    await storage.write("k", b"old")
    with s3.intercept(Faults("PUT", r"\.factflow", reset)), pytest.raises(StorageUnreachableError):
        await storage.write("k", b"new", LARGE)
    assert await storage.read("k") == b"old"
    with s3.intercept(Faults("PUT", r"\.factflow", lose_answer, last=3)):
        await storage.write("k", b"new", LARGE)
    assert (await storage.stat("k")).metadata == LARGE


@pytest.mark.asyncio
async def test_a_write_that_surely_failed_leaves_no_sidecar(s3, storage):
    with s3.intercept(Faults("PUT", KEY, refuse(403, "AccessDenied"))), pytest.raises(StoragePermissionError):
        await storage.write("k", b"new", LARGE)
    assert stored_keys(s3) == []


@pytest.mark.asyncio
@pytest.mark.parametrize("action", [lose_answer, reset])
async def test_a_delete_whose_answer_was_lost(s3, storage, action):
    await storage.write("k", b"1", LARGE)
    faults = Faults("DELETE", KEY, action, last=1)
    with s3.intercept(faults):
        await storage.delete("k")
    assert len(faults.seen) == (1 if action is lose_answer else 2)
    assert stored_keys(s3) == []


@pytest.mark.asyncio
@pytest.mark.parametrize("landed", [True, False])
async def test_a_delete_does_not_take_what_was_written_since_and_does_not_claim_to_have_come_before_it(
    s3, storage, landed
):
    """Found by the soak: what replaced the object with ``if_match`` had surely not come after a delete."""
    etag = (await storage.write("k", b"old", LARGE)).etag

    def rewritten(request, forward):
        if landed:
            forward(request)
        condition = {} if landed else {"IfMatch": etag}
        s3.client.put_object(Bucket=s3.bucket, Key="k", Body=b"new", **condition)
        return reset(request, forward)

    with s3.intercept(Faults("DELETE", KEY, rewritten, last=1)), pytest.raises(WriteUnconfirmedError):
        await storage.delete("k")
    assert await storage.read("k") == b"new"
    assert stored_keys(s3) == ["k"]  # without the sidecar of what is gone


@pytest.mark.asyncio
async def test_a_conditional_delete_whose_answer_was_lost_claims_nothing(s3, storage):
    info = await storage.write("k", b"1")
    with s3.intercept(Faults("DELETE", KEY, lose_answer)), pytest.raises(WriteUnconfirmedError):
        await storage.delete("k", if_match=info.etag)
    assert not await storage.exists("k")


@pytest.mark.asyncio
async def test_a_delete_of_which_nothing_is_known_says_so(s3, storage):
    await storage.write("k", b"1")
    with s3.intercept(Faults("DELETE", KEY, reset)), pytest.raises(WriteUnconfirmedError):
        await storage.delete("k")


@pytest.mark.asyncio
@pytest.mark.parametrize("metadata", [{}, LARGE])
async def test_a_copy_holds_to_one_version_and_survives_a_lost_answer(s3, storage, metadata):
    await storage.write("s", b"one", metadata)
    journal, faults = Journal(), Faults("PUT", "/t$", lose_answer)
    with s3.intercept(journal), s3.intercept(Enforcing(s3)), s3.intercept(faults):
        copied = await storage.copy("s", "t")
    assert len(faults.seen) == 1
    assert await storage.stat("t") == copied
    assert not any(line == "GET /s" for line in journal.lines)  # the server copied


@pytest.mark.asyncio
async def test_a_source_that_changes_is_copied_anew(s3, storage):
    await storage.write("s", b"one", {"v": 1})
    other = s3.provider()
    done = []

    def changing(request, forward):
        if not done:
            import asyncio

            done.append(True)
            asyncio.run(other.write("s", b"two", {"v": 2}))
        return forward(request)

    with s3.intercept(Enforcing(s3)), s3.intercept(Faults("PUT", "/t$", changing)):
        copied = await storage.copy("s", "t")
    assert copied.metadata == {"v": 2}
    assert (await storage.get("t")).data == b"two"


@pytest.mark.asyncio
async def test_a_source_that_never_stands_still_is_given_up(s3, storage):
    await storage.write("s", b"one")
    with (
        s3.intercept(Enforcing(s3)),
        s3.intercept(Faults("PUT", "/t$", refuse(412, "PreconditionFailed"))),
        pytest.raises(StorageIOError, match="overwritten") as caught,
    ):
        await storage.copy("s", "t")
    assert caught.value.retryable


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("action", "kind", "retryable"),
    [
        (refuse(403, "InvalidAccessKeyId"), StorageAuthenticationError, False),
        (refuse(403, "SignatureDoesNotMatch"), StorageAuthenticationError, False),
        (refuse(400, "ExpiredToken"), StorageAuthenticationError, False),
        (refuse(403, "RequestTimeTooSkewed"), StorageAuthenticationError, False),
        (refuse(401, "Unauthorized"), StorageAuthenticationError, False),
        (refuse(403, "AccessDenied"), StoragePermissionError, False),
        (refuse(403, "AllAccessDisabled"), StoragePermissionError, False),
        (refuse(403, "QuotaExceeded"), StorageFullError, False),
        (refuse(507, "XMinioStorageFull"), StorageFullError, False),
        (refuse(507), StorageFullError, False),
        (refuse(503, "SlowDown"), ThrottledError, True),
        (refuse(503, "ServiceUnavailable"), ThrottledError, True),
        (refuse(429, "TooManyRequests"), ThrottledError, True),
        (refuse(404, "NoSuchBucket"), BucketNotFoundError, False),
        (refuse(501, "NotImplemented"), UnsupportedOperationError, False),
        (refuse(400, "EntityTooLarge"), InvalidObjectError, False),
        (refuse(400, "RequestTimeout"), StorageIOError, True),
        (refuse(418, "Teapot"), StorageIOError, False),
        (unreachable, StorageUnreachableError, True),
    ],
)
async def test_each_cause_has_its_class(s3, storage, action, kind, retryable):
    await storage.write("k", b"old")
    calls = [
        ("PUT", lambda: storage.write("k", b"new")),
        ("GET", lambda: storage.get("k")),
        ("GET", lambda: anext(storage.stream("k"))),
        ("GET", storage.list_page),
        ("DELETE", lambda: storage.delete("k")),
    ]
    for method, call in calls:
        # The S3 of 507 without a code is no S3: for a write it settles nothing.
        with s3.intercept(Faults(method, "factflow", action)), pytest.raises((kind, WriteUnconfirmedError)) as caught:
            await call()
        if not isinstance(caught.value, WriteUnconfirmedError):
            assert caught.value.retryable is retryable
            assert caught.value.__cause__ is not None
    assert await storage.read("k") == b"old"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("code", "kind"), [("AccessDenied", StoragePermissionError), ("InvalidAccessKeyId", StorageAuthenticationError)]
)
async def test_the_reason_of_a_bare_403_is_asked_for(s3, storage, code, kind):
    """HEAD answers have no body."""
    with s3.intercept(Faults("HEAD", KEY, refuse(403))), s3.intercept(Faults("GET", KEY, refuse(403, code))):
        for call in (storage.stat, storage.exists, storage.delete):
            with pytest.raises(kind):
                await call("k")
        with pytest.raises(kind):
            await storage.write("k", b"")


@pytest.mark.asyncio
async def test_reads_are_tried_again_by_botocore(s3, storage):
    await storage.write("k", b"1")
    for action in (reset, refuse(503, "SlowDown"), refuse(500, "InternalError"), unreachable):
        faults = Faults("GET", KEY, action, last=3)
        with s3.intercept(faults):
            assert await storage.read("k") == b"1"
        assert len(faults.seen) == 4


@pytest.mark.asyncio
async def test_a_bucket_that_goes_during_a_stream_is_named(s3, storage):
    gone = Faults("PUT", "partNumber", refuse(404, "NoSuchBucket"))
    with s3.intercept(gone), pytest.raises(BucketNotFoundError, match="'factflow'"):
        await storage.write("k", pieces(b"x" * 9_000_000, b"x"))
    with pytest.raises(ObjectNotFoundError):
        await storage.stat("k")


@pytest.mark.asyncio
async def test_a_precondition_that_fails_changes_nothing(s3, storage):
    first = await storage.write("k", b"1", LARGE)
    for terms in ({"if_absent": True}, {"if_match": "0" * 32}, {"if_match": "no etag at all"}):
        with pytest.raises(PreconditionFailedError) as caught:
            await storage.write("k", b"2", LARGE, **terms)
        assert not caught.value.retryable
    with pytest.raises(PreconditionFailedError):
        await storage.write("missing", b"2", if_match=first.etag)
    for key in ("k", "missing"):
        with pytest.raises(PreconditionFailedError):
            await storage.delete(key, if_match="0" * 32)
    assert (await storage.get("k")).info == first
    assert len(stored_keys(s3)) == 2


@pytest.mark.asyncio
async def test_a_probe_that_was_damaged_or_met_expired_credentials_says_nothing_of_the_server(s3, storage):
    damaged = Faults("PUT", "probe", refuse(400, "XAmzContentSHA256Mismatch"), first=2, last=2)
    with s3.intercept(damaged):
        await storage.write("k", b"1", if_absent=True)
    other = s3.provider()
    with s3.intercept(Faults("PUT", "probe", refuse(400, "ExpiredToken"))), pytest.raises(StorageAuthenticationError):
        await other.write("l", b"1", if_absent=True)
    await other.write("l", b"1", if_absent=True)  # and it asks again


@pytest.mark.asyncio
async def test_a_stream_whose_object_became_shorter_when_the_connection_broke_says_so(s3, storage):
    await storage.write("k", b"x" * 1000)

    def shrink(request, forward):
        response = truncate(request, forward)
        s3.client.put_object(Bucket=s3.bucket, Key="k", Body=b"short")
        return response

    with s3.intercept(Faults("GET", KEY, shrink, last=1)), pytest.raises(StorageIOError, match="overwritten") as raised:
        async for _ in storage.stream("k", chunk_size=100):
            pass
    assert raised.value.retryable


@pytest.mark.asyncio
async def test_content_that_was_damaged_on_its_way_is_asked_for_once_more(s3, storage):
    await storage.write("k", b"1234")
    with s3.intercept(Faults("GET", KEY, corrupt, last=1)):
        assert await storage.read("k") == b"1234"
    with s3.intercept(Faults("GET", KEY, corrupt)), pytest.raises(CorruptObjectError):
        await storage.read("k")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "damages", [(truncate, corrupt), (corrupt, truncate), (truncate, truncate, truncate), (corrupt,)]
)
async def test_a_sidecar_that_comes_short_or_damaged_is_asked_for_again(s3, storage, damages):
    """Found by the soak: one that ended early passed for a damaged one, and a second accident for damage at rest."""
    written = await storage.write("k", b"old", LARGE)
    left = list(damages)

    def damage(request, forward):
        return left.pop(0)(request, forward)

    with s3.intercept(Faults("GET", r"\.factflow/metadata", damage, last=len(damages))):
        assert await storage.stat("k") == written
    assert not left
    with s3.intercept(Faults("GET", r"\.factflow/metadata", corrupt)), pytest.raises(CorruptObjectError):
        await storage.stat("k")
