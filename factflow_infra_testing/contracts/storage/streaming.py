"""S8: reading in pieces."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

from factflow_infra.errors import InvalidObjectError
from factflow_infra_testing.contracts.comparing import assert_content
from factflow_infra_testing.contracts.raising import raises
from factflow_infra_testing.contracts.storage.environment import StorageEnvironment, collected
from factflow_infra_testing.contracts.storage.table import STORAGE_BEHAVIOURS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


@STORAGE_BEHAVIOURS.add("S8", like=("gocdk/TestRead",))
async def ranges_are_slices(env: StorageEnvironment) -> None:
    """``start`` and ``end`` cut as a slice does, also beyond the end, also nothing at all, also an empty object."""
    store, content = await env.provider(), b"abcdefghijklmnopqrstuvwxyz"
    await store.write(env.key("x"), content)
    await store.write(env.key("empty"), b"")
    for start, end in (
        (0, None),
        (10, None),
        (10, 15),
        (0, 0),
        (5, 5),
        (0, 26),
        (25, 26),
        (20, 99),
        (26, None),
        (99, None),
    ):
        got = await collected(store.stream(env.key("x"), start=start, end=end))
        assert_content(got, content[start:end], f"bytes {start} to {end}")
        assert await collected(store.stream(env.key("empty"), start=start, end=end)) == b"", (start, end)


@STORAGE_BEHAVIOURS.add("S8", like=("gocdk/TestRead",))
async def bad_ranges_are_refused(env: StorageEnvironment) -> None:
    """Negative, reversed, no whole numbers, no chunk size: bad input."""
    store, key = await env.provider(), env.key("x")
    await store.write(key, b"content")
    bad: tuple[dict[str, Any], ...] = (
        {"start": -1},
        {"end": -1},
        {"start": 5, "end": 4},
        {"start": 1.5},
        {"start": None},
        {"end": "5"},
        {"chunk_size": 0},
        {"chunk_size": -1},
        {"chunk_size": 1.5},
    )
    for arguments in bad:
        with raises(InvalidObjectError):
            await collected(store.stream(key, **arguments))


@STORAGE_BEHAVIOURS.add("S8")
async def pieces_have_the_size_asked_for(env: StorageEnvironment) -> None:
    """Every piece but the last has ``chunk_size`` bytes, none is empty; a range too; together they are the object."""
    store, content = await env.provider(), bytes(range(256)) * 4000
    await store.write(env.key("x"), content)
    for size, start, end in ((1000, 0, None), (65_536, 0, None), (2_000_000, 0, None), (999, 10, 50_000)):
        parts = [part async for part in store.stream(env.key("x"), start=start, end=end, chunk_size=size)]
        assert_content(b"".join(parts), content[start:end])
        assert all(len(part) == size for part in parts[:-1])
        assert 0 < len(parts[-1]) <= size


@STORAGE_BEHAVIOURS.add("S8")
async def stream_is_of_one_version(env: StorageEnvironment) -> None:
    """Overwritten or deleted while it is streamed: the stream goes on with what it began, or raises; it never mixes, and
    never ends early as if all were well.
    """
    store, key = await env.provider(), env.key("x")
    old, new = b"o" * 3_000_000, b"n" * 3_000_000
    for change in ("overwrite", "delete"):
        await store.write(key, old)
        parts: list[bytes] = []
        try:
            async for part in store.stream(key, chunk_size=100_000):
                parts.append(part)
                if len(parts) == 2:
                    await (store.write(key, new) if change == "overwrite" else store.delete(key))
        except Exception as error:  # noqa: BLE001 - which one is the provider's own to say
            assert type(error).__module__.startswith("factflow_infra"), repr(error)  # noqa: PT017 - raising is as good
            assert set(b"".join(parts)) == set(b"o")
        else:
            assert_content(b"".join(parts), old, "the version that the stream began with")


@STORAGE_BEHAVIOURS.add("S8")
async def abandoned_stream_holds_nothing(env: StorageEnvironment) -> None:
    """Readers that leave after the first piece, or are cancelled, leave a provider that works: more of them than there can
    be connections or threads.
    """
    store, key = await env.provider(), env.key("x")
    await store.write(key, b"x" * 500_000)
    for _ in range(40):
        async with aclosing(cast("AsyncGenerator[bytes]", store.stream(key, chunk_size=1000))) as stream:
            await anext(stream)
    for _ in range(5):
        reading = asyncio.ensure_future(collected(store.stream(key, chunk_size=1000)))
        await asyncio.sleep(0)
        reading.cancel()
        with raises(asyncio.CancelledError):
            await reading
    assert_content(await env.within_patience(store.read(key), "the provider is wedged"), b"x" * 500_000)


@STORAGE_BEHAVIOURS.add("S8")
async def stream_can_be_copied_into_a_write(env: StorageEnvironment) -> None:
    """A stream of one object is the data of another, 40 pieces at a time on both sides."""
    store, content = await env.provider(), bytes(range(256)) * 40_000
    await store.write(env.key("source"), content)
    info = await store.write(env.key("target"), store.stream(env.key("source"), chunk_size=262_144))
    assert info.checksum == (await store.stat(env.key("source"))).checksum
    assert_content(await store.read(env.key("target")), content)
