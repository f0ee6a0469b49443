"""Objects and their records on S3: round trips, sidecars, times, copies, deletes, bad input."""

from __future__ import annotations

import asyncio
import urllib.parse

import pytest
from minio_support import Journal, pieces, stored_keys

from factflow_infra.errors import (
    BucketNotFoundError,
    CorruptObjectError,
    InvalidKeyError,
    InvalidObjectError,
    ObjectNotFoundError,
    SettingsError,
    StorageClosedError,
)
from factflow_infra.protocols import StorageProtocol
from factflow_infra.storage.metadata import MAX_METADATA_BYTES
from factflow_infra.storage.minio import MinioStorageProvider, S3Options, envelope, writing
from factflow_infra_testing.storage.s3 import SimulatedS3

LARGE = {"note": "é" * 3000}
ODD = {"text": "zwei  Leerzeichen\t\r\n\x00 und 😀 ", "n": [1, 2.5, None, True, {"": {}}], "": "=?utf-8?q?x?="}


@pytest.fixture(scope="module")
def opened():
    with SimulatedS3() as s3:
        yield s3


@pytest.fixture
def s3(opened):
    opened.reset()
    return opened


@pytest.fixture
def storage(s3):
    return s3.provider()


def test_it_has_the_methods_of_the_protocol(storage):
    assert isinstance(storage, StorageProtocol)


@pytest.mark.asyncio
@pytest.mark.parametrize("metadata", [None, {}, {"execution_id": "e1", "unknown": [1]}, ODD, LARGE])
@pytest.mark.parametrize("data", [b"", b"\x00\xff" * 500])
async def test_bytes_and_metadata_come_back_exactly(storage, data, metadata):
    written = await storage.write("a/b", data, metadata, content_type="text/x-odd; a=b")
    stored = await storage.get("a/b")
    assert stored.data == data
    assert stored.info == written == await storage.stat("a/b")
    assert written.metadata == (metadata or {})
    assert written.content_type == "text/x-odd; a=b"
    assert written.size == len(data)


@pytest.mark.asyncio
async def test_metadata_that_is_too_long_goes_into_a_sidecar_that_nobody_sees(s3, storage):
    await storage.write("k", b"1", LARGE)
    assert len(stored_keys(s3)) == 2
    assert [key async for key in storage.list()] == ["k"]
    assert await storage.list_page(delimiter="/") == await storage.list_page()


@pytest.mark.asyncio
async def test_sidecars_go_with_their_objects(s3, storage):
    await storage.write("k", b"1", LARGE)
    await storage.write("k", b"2", LARGE)
    assert len(stored_keys(s3)) == 2
    await storage.write("k", b"3")
    assert stored_keys(s3) == ["k"]
    await storage.write("k", b"1", LARGE)
    await storage.delete("k")
    assert stored_keys(s3) == []


@pytest.mark.asyncio
async def test_the_sidecar_is_there_before_the_object_that_names_it(s3, storage):
    journal = Journal()
    with s3.intercept(journal):
        await storage.write("k", b"1", LARGE)
    puts = [line for line in journal.lines if line.startswith("PUT")]
    assert ["/.factflow/metadata/" in line for line in puts] == [True, False]


@pytest.mark.asyncio
async def test_a_reader_that_finds_the_sidecar_gone_looks_again(s3, storage):
    await storage.write("k", b"old", LARGE)
    other = s3.provider()

    async def overwrite():
        await other.write("k", b"new", LARGE)

    class Overwriting:
        done = False

        def __call__(self, request, forward):
            if ".factflow" in request.url and request.method == "GET" and not self.done:
                self.done = True
                asyncio.run(overwrite())
            return forward(request)

    with s3.intercept(Overwriting()):
        stored = await storage.get("k")
    assert (stored.data, stored.info.metadata) == (b"new", LARGE)


@pytest.mark.asyncio
async def test_a_lost_sidecar_is_corruption_and_can_be_overwritten(s3, storage):
    await storage.write("k", b"1", LARGE)
    s3.client.delete_object(Bucket=s3.bucket, Key=stored_keys(s3)[0])
    with pytest.raises(CorruptObjectError, match="sidecar"):
        await storage.stat("k")
    await storage.write("k", b"2")
    assert await storage.read("k") == b"2"


@pytest.mark.asyncio
@pytest.mark.parametrize("field", [envelope.RECORD, envelope.CHECK])
async def test_damaged_metadata_is_corruption_and_can_be_overwritten_and_deleted(s3, storage, field):
    await storage.write("k", b"1", {"a": 1})
    answer = s3.client.head_object(Bucket=s3.bucket, Key="k")
    first, rest = answer["Metadata"][field][0], answer["Metadata"][field][1:]
    fields = {**answer["Metadata"], field: ("0" if first != "0" else "1") + rest}
    s3.client.put_object(Bucket=s3.bucket, Key="k", Body=b"1", Metadata=fields)
    for call in (storage.stat, storage.get):
        with pytest.raises(CorruptObjectError, match="'k'"):
            await call("k")
    await storage.write("k", b"2")
    assert await storage.read("k") == b"2"


@pytest.mark.asyncio
@pytest.mark.parametrize("text", ['{"metadata":' + "[" * 1500, "[]", '{"size":"1"}'], ids=["nested", "list", "fields"])
async def test_metadata_of_somebody_hostile_is_corruption_and_can_be_overwritten_and_deleted(s3, storage, text):
    """Its checksum is right: whoever may write to the bucket can see to that."""
    for mend in (lambda: storage.write("k", b"2"), lambda: storage.delete("k")):
        s3.client.put_object(Bucket=s3.bucket, Key="k", Body=b"1", Metadata=envelope.inline_metadata("1" * 32, text))
        for call in (storage.stat, storage.get):
            with pytest.raises(CorruptObjectError, match=r"'k'.* cannot be read"):
                await call("k")
        await mend()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "body", [b"\xff\xfe", b"[" * 100_000, b"", b" " * 9_000_000], ids=["text", "nested", "none", "long"]
)
async def test_a_sidecar_of_somebody_hostile_is_corruption_and_is_not_read_without_end(s3, storage, body):
    for mend in (lambda: storage.write("k", b"2"), lambda: storage.delete("k")):
        await storage.write("k", b"1", LARGE)
        (sidecar,) = (key for key in stored_keys(s3) if "metadata/" in key)
        fields = envelope.sidecar_metadata(body, "k")
        s3.client.put_object(Bucket=s3.bucket, Key=sidecar, Body=body, Metadata=fields)
        says = "was not read" if len(body) > envelope.MAX_SIDECAR_BYTES else "cannot be read"
        for call in (storage.stat, storage.get):
            with pytest.raises(CorruptObjectError, match=f"'k'.* {says}"):
                await call("k")
        await mend()


@pytest.mark.asyncio
async def test_the_longest_metadata_there_can_be_comes_back(storage):
    """Spaces take six times as much room in a sidecar."""
    longest = {"text": " " * (MAX_METADATA_BYTES - len('{"text":""}'))}
    await storage.write("k", b"1", longest)
    assert (await storage.stat("k")).metadata == longest


@pytest.mark.asyncio
@pytest.mark.parametrize("metadata", [{}, LARGE])
async def test_content_that_was_changed_at_rest_is_found_out(s3, storage, metadata):
    await storage.write("k", b"12345", metadata)
    fields = s3.client.head_object(Bucket=s3.bucket, Key="k")["Metadata"]
    for body in (b"12346", b"1234", b""):
        s3.client.put_object(Bucket=s3.bucket, Key="k", Body=body, Metadata=fields)
        with pytest.raises(CorruptObjectError, match="'k'"):
            await storage.get("k")
        with pytest.raises(CorruptObjectError, match="'k'"):
            [piece async for piece in storage.stream("k", chunk_size=2)]


@pytest.mark.asyncio
@pytest.mark.parametrize("metadata", [{}, LARGE])
async def test_the_time_of_creation_survives_overwriting(storage, monkeypatch, metadata):
    now = [1_700_000_000.25]
    monkeypatch.setattr(writing.time, "time", lambda: now[0])
    first = await storage.write("k", b"1", metadata)
    now[0] += 60
    second = await storage.write("k", b"2", metadata)
    assert second.created_at == first.created_at == first.modified_at
    assert (second.modified_at - first.modified_at).total_seconds() == 60
    now[0] -= 3600  # a clock that was set back
    third = await storage.write("k", b"3")
    assert third.modified_at == third.created_at == first.created_at
    await storage.delete("k")
    assert (await storage.write("k", b"4")).created_at < first.created_at


@pytest.mark.asyncio
async def test_an_object_of_someone_else_can_be_read_and_copied(s3, storage):
    s3.client.put_object(Bucket=s3.bucket, Key="f", Body=b"foreign", Metadata={"Who": "them"}, ContentType="text/plain")
    info = await storage.stat("f")
    assert (info.checksum, info.metadata, info.content_type) == ("", {"who": "them"}, "text/plain")
    stored = await storage.get("f")
    assert stored.info.checksum.startswith("sha256:")
    copied = await storage.copy("f", "g")
    assert (copied.metadata, copied.checksum, copied.content_type) == (
        {"who": "them"},
        stored.info.checksum,
        "text/plain",
    )
    assert (await storage.write("f", b"ours")).created_at == info.created_at


@pytest.mark.asyncio
@pytest.mark.parametrize("metadata", [{"a": 1}, LARGE])
async def test_a_copy_has_its_own_record(s3, storage, metadata):
    source = await storage.write("s", b"data", metadata, content_type="text/plain")
    copied = await storage.copy("s", "t")
    assert copied == await storage.stat("t")
    assert (copied.checksum, copied.metadata, copied.content_type) == (source.checksum, metadata, "text/plain")
    await storage.delete("s")
    assert (await storage.get("t")).info == copied
    await storage.copy("t", "t")
    assert (await storage.get("t")).info.metadata == metadata
    await storage.delete("t")
    assert stored_keys(s3) == []


@pytest.mark.asyncio
async def test_what_is_missing_is_told_apart(s3, storage):
    elsewhere = s3.provider("no-such-bucket")
    for call in (storage.stat, storage.get, storage.read):
        with pytest.raises(ObjectNotFoundError, match="'x/y'"):
            await call("x/y")
    with pytest.raises(ObjectNotFoundError, match="'x/y'"):
        await storage.copy("x/y", "z")
    with pytest.raises(ObjectNotFoundError, match="'x/y'"):
        [piece async for piece in storage.stream("x/y", start=3, end=3)]
    assert not await storage.exists("x/y")
    await storage.delete("x/y")
    calls = [
        elsewhere.stat("k"),
        elsewhere.get("k"),
        elsewhere.exists("k"),
        elsewhere.delete("k"),
        elsewhere.write("k", b""),
        elsewhere.write("k", b"", if_absent=True),
        elsewhere.copy("k", "l"),
        elsewhere.list_page(),
        elsewhere.write("k", pieces(b"x" * 6_000_000, b"x" * 6_000_000)),
    ]
    for call in calls:
        with pytest.raises(BucketNotFoundError, match="'no-such-bucket'"):
            await call


@pytest.mark.asyncio
async def test_prefixes_are_separate_worlds(s3):
    one, two, outside = s3.provider(prefix="/one/"), s3.provider(prefix="one/two"), s3.provider()
    await one.write("two/k", b"1", LARGE)
    await two.write("k", b"2", LARGE)
    await outside.write("one-more", b"3")
    assert [key async for key in one.list()] == ["two/k"]
    assert [key async for key in two.list()] == ["k"]
    assert [key async for key in outside.list()] == ["one-more", "one/two/k"]
    assert await one.read("two/k") == b"2"
    assert all(key.startswith("one") for key in stored_keys(s3))


@pytest.mark.asyncio
async def test_bad_input_is_refused_before_anything_is_sent(s3):
    storage = s3.provider(prefix="p" * 100)
    journal = Journal()
    with s3.intercept(journal):
        for key in ("", "/a", "a//b", "../a", "a\0", "x.meta.json", ".factflow/metadata/1", "k" * 924):
            for call in (storage.get, storage.stat, storage.exists, storage.delete, storage.presign):
                with pytest.raises(InvalidKeyError):
                    await call(key)
            with pytest.raises(InvalidKeyError):
                await storage.write(key, b"")
            with pytest.raises(InvalidKeyError):
                await storage.copy("a", key)
            with pytest.raises(InvalidKeyError):
                await anext(storage.stream(key))
        for call in (
            storage.write("k", "text"),
            storage.write("k", [b"1"]),
            storage.write("k", None),
            storage.write("k", b"", {"a": {1, 2}}),
            storage.write("k", b"", content_type="no\r\nheader"),
            storage.write("k", b"", if_absent=True, if_match="e"),
            storage.write("k", b"", if_match=""),
            storage.write("k", pieces("text")),
            storage.presign("k", expires_seconds=0),
            storage.presign("k", method="POST"),
            storage.presign("k", method=["GET"]),
            storage.presign("k", expires_seconds=True),
            storage.list_page(limit=0),
            storage.list_page(delimiter=""),
            anext(storage.stream("k", start=-1)),
        ):
            with pytest.raises(InvalidObjectError):
                await call
    assert journal.lines == []


@pytest.mark.parametrize("bucket", ["", "a", "UP/low", "a b", "-ab", "ab-", "x" * 64, "a@b", "a:b"])
def test_bucket_names_are_checked(bucket):
    with pytest.raises(SettingsError, match="bucket"):
        MinioStorageProvider(bucket)


@pytest.mark.parametrize("prefix", ["a//b", "../x", ".factflow", "\0"])
def test_prefixes_are_checked(prefix):
    with pytest.raises(SettingsError, match="prefix"):
        MinioStorageProvider("bucket", prefix)


@pytest.mark.parametrize(
    "options",
    [
        {"endpoint_url": "ftp://x"},
        {"endpoint_url": "http://user:s3cret@host"},
        {"access_key": "s3cret"},
        {"session_token": "s3cret"},
        {"max_concurrency": 0},
        {"max_attempts": 0},
        {"part_size": 1},
        {"read_timeout": 0},
        {"addressing_style": "sideways"},
    ],
)
def test_options_are_checked_and_secrets_not_shown(options):
    with pytest.raises(SettingsError) as caught:
        S3Options(**options)
    assert "s3cret" not in str(caught.value)


def test_no_secret_is_shown():
    options = S3Options(endpoint_url="http://h:1", access_key="AKEY", secret_key="SKEY", session_token="TKEY")
    storage = MinioStorageProvider("bucket", "p", options=options)
    assert repr(storage) == "MinioStorageProvider('bucket', prefix='p/', endpoint='http://h:1')"
    assert not any(secret in repr(options) + repr(storage) for secret in ("AKEY", "SKEY", "TKEY"))


@pytest.mark.asyncio
async def test_presigned_urls_name_the_object_and_last_as_long_as_asked(s3):
    url = urllib.parse.urlsplit(await s3.provider(prefix="p").presign("a b", expires_seconds=60, method="PUT"))
    query = urllib.parse.parse_qs(url.query)
    assert url.path == "/factflow/p/a%20b"
    assert (query["X-Amz-Expires"], query["X-Amz-Algorithm"]) == (["60"], ["AWS4-HMAC-SHA256"])


@pytest.mark.asyncio
async def test_a_closed_provider_takes_no_more_calls(s3):
    async with s3.provider() as storage:
        await storage.write("k", b"12")
        stream = storage.stream("k", chunk_size=1)
        await anext(stream)
    await storage.close()
    with pytest.raises(StorageClosedError):
        await anext(stream)
    for call in (storage.read("k"), storage.write("k", b""), storage.list_page(), storage.delete("k")):
        with pytest.raises(StorageClosedError):
            await call


@pytest.mark.asyncio
async def test_close_waits_for_a_write_whose_caller_was_cancelled(s3):
    import threading

    storage = s3.provider()
    await storage.exists("k")
    sent, go = threading.Event(), threading.Event()

    def held(request, forward):
        if request.method == "PUT":
            sent.set()
            go.wait(10)
        return forward(request)

    with s3.intercept(held):
        writing_ = asyncio.create_task(storage.write("k", b"1"))
        await asyncio.to_thread(sent.wait, 10)
        writing_.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing_
        closing = asyncio.create_task(storage.close())
        await asyncio.sleep(0)
        assert not closing.done()
        go.set()
        await closing
    assert stored_keys(s3) == ["k"]


@pytest.mark.asyncio
async def test_a_job_that_has_not_begun_does_not_begin_for_a_caller_that_has_gone(s3):
    import threading

    storage = s3.provider(max_concurrency=1)
    await storage.exists("k")
    sent, go = threading.Event(), threading.Event()

    def held(request, forward):
        sent.set()
        go.wait(10)
        return forward(request)

    with s3.intercept(held):
        first = asyncio.create_task(storage.exists("k"))
        await asyncio.to_thread(sent.wait, 10)
        second = asyncio.create_task(storage.write("k", b"1"))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
        go.set()
        assert await first is False
        await storage.close()
    assert stored_keys(s3) == []
