"""S3: bytes and metadata come back exactly, and corruption is found."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

from factflow_infra.errors import CorruptObjectError, InvalidObjectError
from factflow_infra_testing.contracts.comparing import assert_content
from factflow_infra_testing.contracts.raising import raises
from factflow_infra_testing.contracts.storage.capabilities import StorageCapability as Can
from factflow_infra_testing.contracts.storage.environment import StorageEnvironment, collected
from factflow_infra_testing.contracts.storage.table import STORAGE_BEHAVIOURS

METADATA: tuple[dict[str, Any], ...] = (
    {},
    {"execution_id": "e-1", "route_id": "r", "stage": "extract", "message_id": "m", "adapter": "a"},
    {"config_hash": "sha256:00", "lineage_id": "l", "correlation_id": None, "unknown_field": {"kept": True}},
    {"": "empty key", " spaces ": " around ", "Case": 1, "case": 2, "a:b": "c:d", "dash-and_underscore": "x"},
    {"ünïcode 中文 🚀": "grün 中文 🚀", "line\nfeed": "\r\n\t\x00\x1f", "quote\"'\\": "\"'\\", "é": "é"},
    {"int": 2**63, "negative": -1, "float": 0.1, "tiny": 5e-324, "true": True, "false": False, "none": None},
    {"one": 1, "one-float": 1.0, "zero": 0, "text-one": "1", "text-none": "null"},
    {"nested": {"list": [1, [2, {"three": []}], {}], "empty": {}}},
    {"long": "x" * 1500},
    {"longer": "y" * 100_000},
    {f"key-{n}": n for n in range(300)},
    {"content-type": "not/this", "etag": "e", "checksum": "c", "size": -1, "key": "k", "created_at": "never"},
    {"x-amz-meta-a": "b", "x-amz-storage-class": "GLACIER", "cache-control": "no"},
)


@STORAGE_BEHAVIOURS.add("S3", like=("gocdk/TestMetadata",))
async def metadata_comes_back_exactly(env: StorageEnvironment) -> None:
    """Any JSON object, typed as it was: by ``get``, ``stat`` and what ``write`` returns. S3's own metadata holds 2 KB of
    ASCII, in lower case.
    """
    store = await env.provider()
    for n, metadata in enumerate(METADATA):
        info = await store.write(env.key(f"x{n}"), b"data", metadata)
        got, stat = await store.get(env.key(f"x{n}")), await store.stat(env.key(f"x{n}"))
        for found in (info.metadata, got.info.metadata, stat.metadata):
            assert dict(found) == metadata
            # Python takes 1, 1.0 and True for equal, at any depth; their JSON differs.
            assert json.dumps(dict(found), sort_keys=True) == json.dumps(metadata, sort_keys=True)
    assert await env.keys(store) == sorted(f"x{n}" for n in range(len(METADATA)))


@STORAGE_BEHAVIOURS.add("S3", like=("gocdk/TestMetadata",))
async def what_is_no_json_object_is_refused(env: StorageEnvironment) -> None:
    """Bytes, dates, sets, NaN, keys that are no text, lone surrogates: ``InvalidObjectError``, and nothing is written."""
    store = await env.provider()
    bad: tuple[Any, ...] = (
        {"a": b"bytes"},
        {"a": datetime.now(UTC)},
        {"a": {1, 2}},
        {"a": math.nan},
        {"a": [math.inf]},
        {1: "a"},
        {"a": {None: 1}},
        {"a": "\ud800"},
        {"\udfff": "a"},
        {"a": object()},
        ["list"],
        "text",
    )
    for metadata in bad:
        with raises(InvalidObjectError):
            await store.write(env.key("x"), b"data", metadata)
    assert await env.keys(store) == []


@STORAGE_BEHAVIOURS.add("S3")
async def limits_are_those_of_the_contract(env: StorageEnvironment) -> None:
    """Metadata of 1 MiB as JSON, 64 levels deep, a content type of 255 characters: as much comes back exactly, and one more
    is refused, on every backend; what was there stays.
    """
    store, key = await env.provider(), env.key("x")

    def nested(levels: int) -> dict[str, Any]:
        return {"in": nested(levels - 1)} if levels > 1 else {}

    kind, room = "a/" + "x" * 253, 1024 * 1024 - len('{"m":""}')
    for metadata in ({"m": "x" * room}, nested(64)):
        await store.write(key, b"data", metadata, content_type=kind)
        info = (await store.get(key)).info
        assert (dict(info.metadata), info.content_type) == (metadata, kind)
    for beyond in ({"m": "x" * (room + 1)}, {"m": "\u00e9" * (room // 2 + 1)}, nested(66)):
        with raises(InvalidObjectError):
            await store.write(key, b"other", beyond)
    with raises(InvalidObjectError):
        await store.write(key, b"other", content_type=f"{kind}x")
    assert await store.read(key) == b"data"
    assert await env.keys(store) == ["x"]


@STORAGE_BEHAVIOURS.add("S3")
async def caller_cannot_change_what_was_written(env: StorageEnvironment) -> None:
    """Metadata changed after the call changes nothing in the store, nor does that which ``get`` or ``write`` gave."""
    store, key = await env.provider(), env.key("x")
    metadata: dict[str, Any] = {"list": [1]}
    written, got = await store.write(key, b"data", metadata), (await store.get(key)).info
    for changed in (metadata, written.metadata, got.metadata):
        changed["list"].append(2)
    metadata["more"] = True
    assert dict((await store.stat(key)).metadata) == {"list": [1]}


@STORAGE_BEHAVIOURS.add("S3", like=("gocdk/TestAttributes", "gocdk/TestMD5"))
async def info_is_true(env: StorageEnvironment) -> None:
    """Key, size, type, checksum, etag, times: the same from ``write``, ``stat`` and ``get``."""
    store, key, data = await env.provider(), env.key("dir/x.json"), b'{"a": 1}'
    written = await store.write(key, data, {"m": 1}, content_type="application/json; charset=utf-8")
    stat, got = await store.stat(key), (await store.get(key)).info
    assert written == stat == got
    assert (stat.key, stat.size, stat.content_type) == (key, len(data), "application/json; charset=utf-8")
    assert stat.checksum == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert stat.etag
    assert stat.created_at.utcoffset() is not None
    assert stat.modified_at.utcoffset() is not None
    assert stat.created_at <= stat.modified_at
    assert abs(datetime.now(UTC) - stat.modified_at) < timedelta(hours=1)
    assert (await store.write(env.key("other"), b"other")).etag != stat.etag
    assert (await store.write(env.key("bare"), b"x")).content_type == "application/octet-stream"


@STORAGE_BEHAVIOURS.add("S3", like=("gocdk/TestAttributes",))
async def times_follow_the_writes(env: StorageEnvironment) -> None:
    """``created_at`` is the key's first write since it was last free, ``modified_at`` never goes back."""
    store, key = await env.provider(), env.key("x")
    first = await store.write(key, b"1")
    await asyncio.sleep(env.pace.seconds(5))
    second = await store.write(key, b"2")
    assert second.created_at == first.created_at
    assert second.modified_at >= first.modified_at
    assert second.etag != first.etag
    await store.delete(key)
    assert (await store.write(key, b"3")).created_at >= second.modified_at > first.modified_at


@STORAGE_BEHAVIOURS.add("S3", Can.CORRUPT)
async def corruption_at_rest_is_found(env: StorageEnvironment) -> None:
    """One flipped byte: ``get``, ``read`` and a stream to the end raise ``CorruptObjectError``, which names the key; other
    objects are fine, and a new write mends it.
    """
    store, key, fine = await env.provider(), env.key("x"), env.key("fine")
    for data in (b"a small object", b"a large object" * 300_000):
        await store.write(key, data, {"m": 1})
        await store.write(fine, data)
        await env.faults.corrupt(key)
        for call in (lambda: store.read(key), lambda: store.get(key), lambda: collected(store.stream(key))):
            with raises(CorruptObjectError, saying=key) as caught:
                await call()
            assert not caught.value.retryable
        assert_content(await store.read(fine), data)
        await store.write(key, data)
        assert_content(await store.read(key), data)


@STORAGE_BEHAVIOURS.add("S3", Can.CORRUPT_ANSWER)
async def corruption_in_transit_is_found(env: StorageEnvironment) -> None:
    """One byte flipped on its way: what is read is right all the same, because it was read again, or ``CorruptObjectError``
    is raised. Never the wrong bytes.
    """
    store, key = await env.provider(), env.key("x")
    for data in (b"a small object", b"a large object" * 300_000):
        await store.write(key, data)
        for call in (lambda: store.read(key), lambda: collected(store.stream(key))):
            await env.faults.corrupt_answer()
            try:
                got = await call()
            except CorruptObjectError as error:
                assert key in str(error)  # noqa: PT017 - reading again is as good
            else:
                assert_content(got, data)
        assert_content(await store.read(key), data)


@STORAGE_BEHAVIOURS.add("S3", Can.CORRUPT)
async def corruption_is_not_copied_as_good(env: StorageEnvironment) -> None:
    """A copy of a corrupt object raises, or is found out when it is read: its checksum is that of what was written."""
    store, key, target = await env.provider(), env.key("x"), env.key("copy")
    await store.write(key, b"an object of some length")
    await env.faults.corrupt(key)

    async def copy_and_read() -> None:
        await store.copy(key, target)
        await store.read(target)

    with raises(CorruptObjectError):
        await copy_and_read()
