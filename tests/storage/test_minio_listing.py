"""Listings on S3: order, pages, delimiters, what is hidden, and how few requests that takes."""

from __future__ import annotations

import re

import pytest
from minio_support import Journal, RawBody, answer

from factflow_infra.errors import StorageIOError
from factflow_infra.storage.minio import listing
from factflow_infra_testing.storage.s3 import SimulatedS3

KEYS = [
    "a",
    "a-b",
    "a.b",
    "a/1",
    "a/2",
    "a/b/c",
    "a0",
    "é",
    "\U0001f600",
    "z\U0010ffffz",
    "z/\U0010ffffq",
    "z/a",
    "~",
    "\x01",
]


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
    hidden = (".factflow/metadata/1", "a/.factflow/metadata/1", "x.meta.json", "a//b")
    for key in (*KEYS, *hidden):
        s3.client.put_object(Bucket=s3.bucket, Key=f"p/{key}", Body=b"")
    s3.client.put_object(Bucket=s3.bucket, Key="outside", Body=b"")
    return s3.provider(prefix="p")


def rolled_up(prefix, delimiter):
    """What a page must give, computed plainly."""
    entries = set()
    for key in KEYS:
        if key.startswith(prefix):
            head, found, _ = key[len(prefix) :].partition(delimiter)
            entries.add((prefix + head + found, bool(found)))
    return sorted(entries)


async def paged(storage, **arguments):
    entries, after = [], None
    while True:
        page = await storage.list_page(after=after, **arguments)
        assert len(page.keys) + len(page.prefixes) <= arguments["limit"]
        entries += [(key, False) for key in page.keys] + [(prefix, True) for prefix in page.prefixes]
        if page.next_after is None:
            return sorted(entries)
        assert len(page.keys) + len(page.prefixes) == arguments["limit"]
        after = page.next_after


@pytest.mark.asyncio
@pytest.mark.parametrize("prefix", ["", "a", "a/", "z/", "none"])
async def test_keys_come_in_the_order_of_their_bytes(storage, monkeypatch, prefix):
    expected = sorted((key for key in KEYS if key.startswith(prefix)), key=str.encode)
    assert [key async for key in storage.list(prefix)] == expected
    monkeypatch.setattr(listing, "PAGE_KEYS", 2)
    assert [key async for key in storage.list(prefix)] == expected


@pytest.mark.asyncio
@pytest.mark.parametrize("limit", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize(("prefix", "delimiter"), [("", "/"), ("a", "/"), ("a/", "/"), ("", "b"), ("z/", "\U0010ffff")])
async def test_pages_put_together_are_the_whole(storage, limit, prefix, delimiter):
    assert await paged(storage, prefix=prefix, delimiter=delimiter, limit=limit) == rolled_up(prefix, delimiter)


@pytest.mark.asyncio
@pytest.mark.parametrize("limit", [1, 3, 1000])
async def test_pages_without_a_delimiter(storage, limit):
    assert [name for name, _ in await paged(storage, limit=limit)] == sorted(KEYS)


@pytest.mark.asyncio
async def test_a_page_may_begin_behind_any_text(storage):
    page = await storage.list_page(after="a/1x", limit=2)
    assert page.keys == ("a/2", "a/b/c")
    assert (await storage.list_page("a/", after="zzz")).keys == ()


@pytest.mark.asyncio
async def test_an_exact_page_is_the_last(s3):
    storage = s3.provider()
    for key in ("a", "b"):
        await storage.write(key, b"")
    assert (await storage.list_page(limit=2)).next_after is None
    assert (await storage.list_page(limit=1)).next_after == "a"
    assert await s3.provider(prefix="empty").list_page() == await s3.provider(prefix="none").list_page()


@pytest.mark.asyncio
@pytest.mark.parametrize("root", ["", "in/"])
async def test_sidecars_are_jumped_over_however_many_there_are(s3, monkeypatch, root):
    monkeypatch.setattr(listing, "PAGE_KEYS", 10)
    for number in range(60):
        s3.client.put_object(Bucket=s3.bucket, Key=f"{root}.factflow/metadata/{number:05}", Body=b"")
    for key in ("-", "0"):
        s3.client.put_object(Bucket=s3.bucket, Key=f"{root}{key}", Body=b"")
    journal = Journal()
    with s3.intercept(journal):
        assert [key async for key in s3.provider().list()] == [f"{root}-", f"{root}0"]
    assert len(journal.lines) == 2


def without_control_characters(request, forward):
    """As radosgw 16: a bare 500 where a position, in the request or in the answer, has a control character."""
    response = forward(request)
    if "list-type=2" not in request.url:
        return response
    content = response.raw.read()
    last = re.findall(b"<Key>(.*?)</Key>", content)[-1:]
    truncated = b"<IsTruncated>true" in content
    if re.search("start-after=[^&]*%0", request.url) or (truncated and b"%0" in b"".join(last)):
        return answer(request, 500)
    response.raw = RawBody(content)
    return response


@pytest.mark.asyncio
async def test_a_server_that_fails_on_control_characters_is_helped(s3, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr(listing, "PAGE_KEYS", 4)
    monkeypatch.setattr(listing, "_OTHER_LIMITS", (0, 1, 2))
    storage = s3.provider()
    keys = ["a", "b", "c\x01", "d", "e", "f", "g"]
    for key in keys:
        await storage.write(key, b"")
    with s3.intercept(without_control_characters):
        assert [name for name, _ in await paged(storage, limit=1)] == keys
        assert [key async for key in storage.list()] == keys
        for key in ("c\x01\x01", "c\x01\x02", "c\x01\x03", "c\x01\x04"):
            await storage.write(key, b"")
        with pytest.raises(StorageIOError):
            await paged(storage, limit=1)
