"""S5: listing is ordered, complete, paged, and shows objects only."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from factflow_infra.errors import StorageError
from factflow_infra_testing.contracts.raising import raises
from factflow_infra_testing.contracts.storage.capabilities import StorageCapability as Can
from factflow_infra_testing.contracts.storage.table import STORAGE_BEHAVIOURS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from factflow_infra.protocols import StorageProtocol
    from factflow_infra_testing.contracts.storage.environment import StorageEnvironment

TREE = ("dir1/a.txt", "dir1/b.txt", "dir1/subdir/c.txt", "dir1/subdir/d.txt", "dir2/e.txt", "f.txt")


async def written(env: StorageEnvironment, *names: str) -> StorageProtocol:
    store = await env.provider()
    await asyncio.gather(*(store.write(env.key(name), b"hello") for name in names))
    return store


async def paged(
    env: StorageEnvironment, store: StorageProtocol, prefix: str, limit: int, delimiter: str | None = None
) -> list[tuple[list[str], list[str]]]:
    """Every page of a listing: its keys and its common prefixes, without this test's prefix."""
    pages: list[tuple[list[str], list[str]]] = []
    after: str | None = None
    while True:
        page = await store.list_page(env.key(prefix), delimiter=delimiter, limit=limit, after=after)
        keys, prefixes = ([text.removeprefix(env.prefix) for text in texts] for texts in (page.keys, page.prefixes))
        pages.append((keys, prefixes))
        if page.next_after is None:
            return pages
        assert page.next_after != after, "the listing does not move on"
        after = page.next_after


@STORAGE_BEHAVIOURS.add("S5")
async def listing_is_in_utf8_byte_order(env: StorageEnvironment) -> None:
    """Not a locale's order, not that of folders: ``a-b`` before ``a/b`` before ``a0``; U+FFFD before U+10000, which UTF-16
    turns round.
    """
    names = ["a/b", "a-b", "a0", "a/b/c-d", "a/b-c", "B", "b", "Z", "é", "e", "\ufffd", "\U00010000", "a!", "10", "9"]
    if not env.has(Can.FLAT_KEYS):
        names.remove("a/b")
    store = await written(env, *names)
    assert await env.keys(store) == sorted(names, key=str.encode)
    everything = [key for page in await paged(env, store, "", 2) for key in page[0]]
    assert everything == sorted(names, key=str.encode)


@STORAGE_BEHAVIOURS.add("S5", like=("gocdk/TestList",))
async def prefix_is_a_prefix_of_text(env: StorageEnvironment) -> None:
    """Not of folders: ``li`` finds ``list/1`` and ``lima``; nothing matches, nothing is listed; characters that patterns
    use are plain.
    """
    store = await written(env, "list/1", "list/2", "lima", "other", "lis[t]", "l*", "list-3")
    assert await env.keys(store, "li") == ["lima", "lis[t]", "list-3", "list/1", "list/2"]
    assert await env.keys(store, "list") == ["list-3", "list/1", "list/2"]
    assert await env.keys(store, "list/") == ["list/1", "list/2"]
    assert await env.keys(store, "list/1") == ["list/1"]
    assert await env.keys(store, "list/1/") == []
    assert await env.keys(store, "nothing") == []
    assert await env.keys(store, "no/such/folder/") == []
    assert await env.keys(store, "l*") == ["l*"]
    assert await env.keys(store, "lis[") == ["lis[t]"]


@STORAGE_BEHAVIOURS.add("S5", like=("gocdk/TestList",))
async def pages_are_full_and_end(env: StorageEnvironment) -> None:
    """Three keys by one, two, three and more at a time; the last page says that it is the last."""
    store = await written(env, "k-0", "k-1", "k-2")
    sizes = {limit: [len(keys) for keys, _ in await paged(env, store, "k-", limit)] for limit in (1, 2, 3, 1000)}
    assert sizes == {1: [1, 1, 1], 2: [2, 1], 3: [3], 1000: [3]}
    assert await paged(env, store, "none-", 5) == [([], [])]
    assert [k for keys, _ in await paged(env, store, "k-", 1) for k in keys] == ["k-0", "k-1", "k-2"]
    extending = ["x", "x!", "xa", "xaa", "xb"]
    store = await written(env, *extending)
    assert [k for keys, _ in await paged(env, store, "x", 1) for k in keys] == extending


@STORAGE_BEHAVIOURS.add("S5", like=("gocdk/TestList",))
async def paging_is_consistent_under_changes(env: StorageEnvironment) -> None:
    """A key added or deleted among those listed already neither repeats nor hides one of the rest; ``after`` may be any
    text, also a key that is gone.
    """
    store = await written(env, "k-0", "k-1", "k-2")
    page = await store.list_page(env.key("k-"), limit=2)
    await store.write(env.key("k-0a"), b"x")
    await store.delete(env.key("k-1"))
    rest = await store.list_page(env.key("k-"), after=page.next_after)
    assert rest.keys == (env.key("k-2"),)
    assert rest.next_after is None
    middle = await store.list_page(env.key("k-"), after=env.key("k-0"))
    assert middle.keys == (env.key("k-0a"), env.key("k-2"))
    assert (await store.list_page(env.key("k-"), after=env.key("k-3"))).keys == ()


@STORAGE_BEHAVIOURS.add("S5", like=("gocdk/TestListDelimiters",))
async def delimiter_folds_what_lies_below(env: StorageEnvironment) -> None:
    """Keys at this level, and each common prefix once, in order, alone or page by page; a prefix ends with its last key."""
    for delimiter in ("/", "\\", "abc"):
        top = f"for-{delimiter.encode().hex()}{delimiter}"
        names = [top + name.replace("/", delimiter) for name in TREE]
        store = await written(env, *names)
        assert await env.keys(store, top) == sorted(names, key=str.encode)
        ((keys, prefixes),) = await paged(env, store, top, 1000, delimiter)
        assert (keys, prefixes) == ([f"{top}f.txt"], [f"{top}dir1{delimiter}", f"{top}dir2{delimiter}"])
        ((keys, prefixes),) = await paged(env, store, f"{top}dir1{delimiter}", 1000, delimiter)
        assert keys == [f"{top}dir1{delimiter}a.txt", f"{top}dir1{delimiter}b.txt"]
        assert prefixes == [f"{top}dir1{delimiter}subdir{delimiter}"]
        by_one = await paged(env, store, top, 1, delimiter)
        assert all(len(keys) + len(prefixes) == 1 for keys, prefixes in by_one), by_one
        assert [entry for keys, prefixes in by_one for entry in (*keys, *prefixes)] == [
            f"{top}dir1{delimiter}",
            f"{top}dir2{delimiter}",
            f"{top}f.txt",
        ]
        await store.delete(env.key(f"{top}dir2{delimiter}e.txt"))
        ((keys, prefixes),) = await paged(env, store, top, 1000, delimiter)
        assert (keys, prefixes) == ([f"{top}f.txt"], [f"{top}dir1{delimiter}"])


@STORAGE_BEHAVIOURS.add("S5")
async def listing_hides_what_is_no_object(env: StorageEnvironment) -> None:
    """Sidecars, temporary files, unfinished uploads, emptied folders: none is a key, for a listing or for ``exists``."""
    store = await written(env, "dir/x", "gone/y")
    await store.write(env.key("dir/big-metadata"), b"x", {"big": "y" * 50_000})
    await store.delete(env.key("gone/y"))
    waiting, go = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"x" * 6_000_000
        waiting.set()
        await go.wait()

    writing = asyncio.ensure_future(store.write(env.key("dir/unfinished"), slow()))
    await env.within_patience(waiting.wait(), "the stream was not read")
    assert await env.keys(store) == ["dir/big-metadata", "dir/x"]
    assert (await store.list_page(env.prefix, delimiter="/")).prefixes == (env.key("dir/"),)
    assert not await store.exists(env.key("dir/unfinished"))
    assert not await store.exists(env.key("gone"))
    go.set()
    await writing
    assert await env.keys(store) == ["dir/big-metadata", "dir/unfinished", "dir/x"]


@STORAGE_BEHAVIOURS.add("S5")
async def listing_sees_every_finished_write(env: StorageEnvironment) -> None:
    """A write that returned is in the very next listing, of any provider; a delete is out of it."""
    store, other = await env.provider(), await env.provider()
    for n in range(10):
        await store.write(env.key(f"k{n}"), b"x")
        assert await env.keys(other) == [f"k{m}" for m in range(n + 1)]
    for n in range(10):
        await other.delete(env.key(f"k{n}"))
        assert await env.keys(store) == [f"k{m}" for m in range(n + 1, 10)]


@STORAGE_BEHAVIOURS.add("S5")
async def long_listing_is_complete(env: StorageEnvironment) -> None:
    """More keys than a page of the simulated server holds, in folders and beside them; a consumer that stops early."""
    names = [f"n{n // 50}/{n:04}" for n in range(120)]
    store = await written(env, *names)
    assert await env.keys(store) == sorted(names)
    async for key in store.list(env.prefix):
        assert key == env.key(min(names))
        break
    assert [k for keys, _ in await paged(env, store, "", 7) for k in keys] == sorted(names)


@STORAGE_BEHAVIOURS.add("S5")
async def changes_while_listing_hide_nothing_else(env: StorageEnvironment) -> None:
    """Keys written and deleted while a listing goes on: those that were there all the time are all listed, once."""
    steady = [f"s{n:02}" for n in range(40)]
    store = await written(env, *steady)
    seen: list[str] = []
    new: list[str] = []
    async for key in store.list(env.prefix):
        seen.append(key.removeprefix(env.prefix))
        if len(seen) % 5 == 1:
            new.append(f"{seen[-1]}-new")
            await store.write(env.key(new[-1]), b"x")
        if len(seen) % 5 == 3:
            await store.delete(env.key(new.pop()))
    assert [name for name in seen if name in steady] == steady
    assert len(seen) == len(set(seen))


@STORAGE_BEHAVIOURS.add("S5")
async def bad_listings_are_refused(env: StorageEnvironment) -> None:
    """A limit below 1 or above 100,000, an empty delimiter, a prefix that no key can have: bad input, a ``ValueError``."""
    store = await env.provider()
    assert (await store.list_page(env.prefix, limit=100_000)).keys == ()
    bad: tuple[dict[str, Any], ...] = (
        {"limit": 0},
        {"limit": -1},
        {"limit": 1.5},
        {"limit": "10"},
        {"limit": None},
        {"limit": 100_001},
        {"delimiter": ""},
        {"delimiter": 7},
        {"after": 7},
        {"prefix": "/absolute"},
        {"prefix": "../up/"},
        {"prefix": "nul\x00"},
        {"prefix": None},
    )
    for arguments in bad:
        with raises(StorageError) as caught:
            await store.list_page(**arguments)
        assert isinstance(caught.value, ValueError), f"{arguments!r}: {caught.value!r}"
        if "prefix" in arguments:
            with raises(StorageError) as caught:
                [key async for key in store.list(**arguments)]
            assert isinstance(caught.value, ValueError), f"list of {arguments!r}: {caught.value!r}"
