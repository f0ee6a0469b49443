"""S6: which keys there are, and that none leads outside."""

from __future__ import annotations

import contextlib
from typing import Any

from factflow_infra.errors import InvalidKeyError, StorageError
from factflow_infra_testing.contracts.raising import raises
from factflow_infra_testing.contracts.storage.capabilities import StorageCapability as Can
from factflow_infra_testing.contracts.storage.environment import StorageEnvironment, collected
from factflow_infra_testing.contracts.storage.table import STORAGE_BEHAVIOURS

BAD_KEYS: tuple[Any, ...] = (
    "",
    "/",
    "/absolute",
    "trailing/",
    "a//b",
    ".",
    "..",
    "../up",
    "a/../b",
    "a/..",
    "a/./b",
    "nul\x00",
    "lone\ud800",
    "x" * 1025,
    "é" * 513,
    "a/" * 512 + "b",
    "x.meta.json",
    "dir.meta.json/x",
    ".factflow",
    ".factflow/x",
    "a/.factflow-x",
    None,
    7,
    b"bytes",
)

WEIRD_NAMES = (
    " ",
    " leading and trailing ",
    "...",
    "..a",
    "a..",
    ".hidden",
    "-rf",
    "~",
    "a\\b",
    "..\\up",
    "C:\\x",
    "a:b",
    "a%2Fb",
    "%",
    "%2e%2e",
    "a+b c",
    "a?b#c&d=e",
    "quote\"'`",
    "<>|*",
    "line\nfeed",
    "return\r",
    "tab\t",
    "\x01\x1f\x7f",
    "ünïcode/中文/🚀",
    "é against é",
    "\u202ertl",
    "\ufeffbom",
    "CON",
    "x.",
    "tmp",
    "x.tmp",
    "meta.json",
    ".meta",
    "x.meta.json.txt",
    "$HOME/{a,b}/(c)/[d]",
    "a@b!c,d;e",
)


@STORAGE_BEHAVIOURS.add("S6", like=("gocdk/TestKeys",))
async def bad_keys_are_refused(env: StorageEnvironment) -> None:
    """By every call, with ``InvalidKeyError``, which names the key and is a ``ValueError``; nothing is written. Before any
    I/O: that there is no bucket or root folder is found out by what gets as far.
    """
    good = await env.provider()
    await good.write(env.key("good"), b"x")
    store = env.owned(await env.faults.rootless()) if env.has(Can.MISSING_ROOT) else good
    for bad in BAD_KEYS:
        calls = (
            lambda b=bad: store.write(b, b"x"),
            lambda b=bad: store.get(b),
            lambda b=bad: store.read(b),
            lambda b=bad: store.stat(b),
            lambda b=bad: store.exists(b),
            lambda b=bad: store.delete(b),
            lambda b=bad: store.copy(b, env.key("target")),
            lambda b=bad: store.copy(env.key("good"), b),
            lambda b=bad: collected(store.stream(b)),
        )
        for call in calls:
            with raises(InvalidKeyError) as caught:
                await call()
            assert isinstance(caught.value, ValueError)
            shown = repr(bad)[1:20] if isinstance(bad, str) else type(bad).__name__
            assert shown in str(caught.value) or bad == "", f"{bad!r} is not named: {caught.value}"
    assert await env.keys(good) == ["good"]


@STORAGE_BEHAVIOURS.add("S6", like=("gocdk/TestKeys", "gocdk/TestListWeirdKeys"))
async def weird_keys_work(env: StorageEnvironment) -> None:
    """Written, read, copied, listed with and without a prefix, deleted: each under its own name, told apart by case and by
    normal form.
    """
    store = await env.provider()
    names = [f"w/{name}" for name in WEIRD_NAMES] + ["case/Name", "case/name", "nfc/\u00e9", "nfc/e\u0301"]
    for name in names:
        info = await store.write(env.key(name), name.encode(), {"name": name})
        assert info.key == env.key(name)
    assert await env.keys(store) == sorted(names, key=str.encode)
    for name in names:
        got = await store.get(env.key(name))
        assert (got.data, got.info.key, got.info.metadata["name"]) == (name.encode(), env.key(name), name)
        assert await env.keys(store, name) == [n for n in sorted(names, key=str.encode) if n.startswith(name)]
    for name in names:
        await store.copy(env.key(name), env.key(f"copy/{name}"))
        await store.delete(env.key(name))
        assert not await store.exists(env.key(name))
    assert await env.keys(store) == sorted((f"copy/{name}" for name in names), key=str.encode)


@STORAGE_BEHAVIOURS.add("S6")
async def long_keys_work(env: StorageEnvironment) -> None:
    """1,024 bytes in all, in segments of 200 each; and where a backend can, in one segment."""
    store = await env.provider()
    room = 1024 - len(env.prefix)
    segments = ["s" * 200] * 4
    name = "/".join(segments) + "/" + "é" * ((room - 4 * 201 - 1) // 2)
    name = name.ljust(room - 0, "x") if len((env.prefix + name).encode()) < 1024 else name
    while len(env.key(name).encode()) > 1024:
        name = name[:-1]
    names = [name]
    if env.has(Can.LONG_SEGMENTS):
        names.append("t" * room)
    for long in names:
        assert len(env.key(long).encode()) == 1024
        await store.write(env.key(long), b"x", {"m": 1})
        assert (await store.get(env.key(long))).info.metadata["m"] == 1
    assert await env.keys(store) == sorted(names)
    with raises(InvalidKeyError):
        await store.write(env.key(name) + "x", b"x")


@STORAGE_BEHAVIOURS.add("S6", Can.FLAT_KEYS)
async def key_may_be_a_prefix_of_another(env: StorageEnvironment) -> None:
    """``a`` and ``a/b`` are two objects, where the backend has no folders."""
    store = await env.provider()
    await store.write(env.key("a"), b"1")
    await store.write(env.key("a/b"), b"2")
    assert (await store.read(env.key("a")), await store.read(env.key("a/b"))) == (b"1", b"2")
    await store.delete(env.key("a"))
    assert await env.keys(store) == ["a/b"]


@STORAGE_BEHAVIOURS.add("S6")
async def conflicting_keys_destroy_nothing(env: StorageEnvironment) -> None:
    """``a`` exists and ``a/b`` is written, and the reverse: both are kept, or the second write raises a ``StorageError`` that
    is not retryable; the first object is untouched.
    """
    store = await env.provider()
    for first, second in (("a", "a/b"), ("c/d/e", "c/d")):
        await store.write(env.key(first), b"first", {"n": 1})
        try:
            await store.write(env.key(second), b"second")
        except StorageError as error:
            assert not error.retryable  # noqa: PT017 - keeping both is as good
            assert not env.has(Can.FLAT_KEYS)
            assert not await store.exists(env.key(second))
        else:
            assert await store.read(env.key(second)) == b"second"
        got = await store.get(env.key(first))
        assert (got.data, dict(got.info.metadata)) == (b"first", {"n": 1})


@STORAGE_BEHAVIOURS.add("S6", Can.SYMLINK)
async def symlinks_lead_nowhere(env: StorageEnvironment) -> None:
    """A link below the root to a file outside, another to a folder: nothing reads, copies, lists, overwrites or deletes what
    they lead to. A write may put an object in the place of a link.
    """
    store = await env.provider()
    secret = await env.faults.symlink(env.key("link"))
    await env.faults.symlink_folder(env.key("folder"))
    await store.write(env.key("good"), b"good")
    for name in ("link", "folder/secret"):
        key = env.key(name)
        for call in (
            lambda key=key: store.read(key),
            lambda key=key: store.get(key),
            lambda key=key: store.stat(key),
            lambda key=key: store.copy(key, env.key("copy")),
            lambda key=key: collected(store.stream(key)),
        ):
            with raises(StorageError):
                await call()
        with contextlib.suppress(StorageError):
            assert not await store.exists(key)
    assert await env.keys(store) == await env.keys(store, "good") == ["good"]
    for key in (env.key("link"), env.key("folder/secret"), env.key("folder/new")):
        for call in (
            lambda key=key: store.write(key, b"written through the link"),
            lambda key=key: store.copy(env.key("good"), key),
            lambda key=key: store.delete(key),
        ):
            with contextlib.suppress(StorageError):
                await call()
    assert await env.faults.outside() == {"secret": secret}
