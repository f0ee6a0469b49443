"""The S3 provider on a real server: what a simulated one takes on trust, and what this one does not honour."""

from __future__ import annotations

import os
import urllib.request

import pytest
from servers import radosgw as servers

from factflow_infra.errors import (
    BucketNotFoundError,
    ObjectNotFoundError,
    PreconditionFailedError,
    StorageAuthenticationError,
    StorageUnreachableError,
    UnsupportedOperationError,
)
from factflow_infra.storage.factory import create_storage_provider

pytestmark = [pytest.mark.live, pytest.mark.asyncio]

PART = 5 * 1024 * 1024
LARGE = {"note": "é" * 3000}
KEYS = ["a", "a/1", "a/2", "a b+%2F&é", "\U0001f600", "c\x01", "c\x02", "z\U0010ffff", "~"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    missing = servers.missing()
    if missing is not None:
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with servers.Radosgw(tmp_path_factory.mktemp("radosgw")) as running:
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=running.endpoint,
            aws_access_key_id=servers.ACCESS_KEY,
            aws_secret_access_key=servers.SECRET_KEY,
            region_name="us-east-1",
        )
        client.create_bucket(Bucket="bucket")
        running.client = client
        yield running
        client.close()


def made(server, request, bucket="bucket", **overrides):
    keys = {"access_key": servers.ACCESS_KEY, "secret_key": servers.SECRET_KEY}
    prefix = f"{request.node.name}".replace("[", "-").replace("]", "")
    settings = {"endpoint": server.endpoint, "part_size": PART, "multipart_threshold": PART, **keys, **overrides}
    return create_storage_provider(f"minio://{bucket}/{prefix}", **settings)


@pytest.fixture
def storage(server, request):
    return made(server, request)


async def parts():
    for number in range(3):
        yield bytes([number]) * PART
    yield b"end"


@pytest.mark.parametrize("metadata", [{"text": "zwei  Leerzeichen\x00 ", "n": [1, 2.5, None]}, LARGE])
async def test_round_trip(storage, metadata):
    written = await storage.write("k", b"12345", metadata, content_type="text/plain; x=y")
    stored = await storage.get("k")
    assert (stored.data, stored.info, await storage.stat("k")) == (b"12345", written, written)
    assert written.metadata == metadata
    copied = await storage.copy("k", "l")
    assert (await storage.get("l")).info == copied
    assert copied.metadata == metadata
    for key in ("k", "l", "k"):
        await storage.delete(key)
    assert [key async for key in storage.list()] == []


async def test_streams(storage, server):
    written = await storage.write("k", parts(), LARGE)
    assert written.etag.endswith("-4")
    assert await storage.stat("k") == written
    assert sum([len(chunk) async for chunk in storage.stream("k")]) == 3 * PART + 3
    stored = await storage.get("k")  # in four ranges
    assert stored.info == written
    assert stored.data == b"".join(bytes([number]) * PART for number in range(3)) + b"end"
    assert [chunk async for chunk in storage.stream("k", start=3 * PART - 1)] == [b"\x02end"]
    assert [chunk async for chunk in storage.stream("k", start=10**9)] == []

    async def failing():
        yield b"x" * 2 * PART
        raise LookupError

    with pytest.raises(LookupError):
        await storage.write("k2", failing())
    assert "Uploads" not in server.client.list_multipart_uploads(Bucket="bucket")


async def test_listing(storage):
    for key in KEYS:
        await storage.write(key, b"", LARGE if key == "a" else None)
    assert [key async for key in storage.list()] == sorted(KEYS)
    names, after = [], None
    while True:
        page = await storage.list_page(delimiter="/", limit=1, after=after)
        names += [*page.keys, *page.prefixes]
        after = page.next_after
        if after is None:
            break
    assert names == sorted({key if key[:2] != "a/" else "a/" for key in KEYS})


async def test_conditions_that_are_honoured(storage):
    info = await storage.write("k", b"1", if_absent=True)
    with pytest.raises(PreconditionFailedError):
        await storage.write("k", b"2", if_absent=True)
    for etag, key in (("0" * 32, "k"), (info.etag, "missing")):
        with pytest.raises(PreconditionFailedError):
            await storage.write(key, b"2", if_match=etag)
    await storage.write("k", b"3", if_match=info.etag)
    assert await storage.read("k") == b"3"


async def test_conditions_that_are_ignored_are_found_out(storage):
    await storage.write("k", b"1")
    for call in (
        storage.write("k", parts(), if_absent=True),
        storage.write("k", parts(), if_match="0" * 32),
        storage.delete("k", if_match="0" * 32),
    ):
        with pytest.raises(UnsupportedOperationError):
            await call
    assert await storage.read("k") == b"1"


async def test_errors_are_told_apart(server, request):
    for keys in ({"secret_key": "wrong"}, {"access_key": "nobody"}):
        wrong = made(server, request, **keys)
        for call in (wrong.stat("k"), wrong.exists("k"), wrong.get("k"), wrong.write("k", b""), wrong.list_page()):
            with pytest.raises(StorageAuthenticationError):
                await call
        await wrong.close()
    elsewhere = made(server, request, bucket="no-such-bucket")
    for call in (elsewhere.stat("k"), elsewhere.exists("k"), elsewhere.get("k"), elsewhere.write("k", b"")):
        with pytest.raises(BucketNotFoundError):
            await call
    await elsewhere.close()
    nowhere = made(server, request, endpoint="http://127.0.0.1:1", max_attempts=1)
    for call in (nowhere.stat("k"), nowhere.write("k", b"")):
        with pytest.raises(StorageUnreachableError):
            await call
    await nowhere.close()
    here = made(server, request)
    with pytest.raises(ObjectNotFoundError):
        await here.get("k")
    await here.close()


async def test_presigned_urls_are_accepted(storage):
    await storage.write("a b", b"12345")
    assert fetched(await storage.presign("a b", expires_seconds=60)) == b"12345"
    put = urllib.request.Request(await storage.presign("put", method="PUT"), data=b"67", method="PUT")
    fetched(put)
    assert await storage.read("put") == b"67"


def fetched(url):
    with urllib.request.urlopen(url) as answer:
        return answer.read()
