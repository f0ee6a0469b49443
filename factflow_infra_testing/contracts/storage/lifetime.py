"""S9: nothing blocks the loop, everything can be cancelled, ``close`` waits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from factflow_infra.errors import StorageClosedError
from factflow_infra_testing.contracts.comparing import assert_content
from factflow_infra_testing.contracts.raising import raises
from factflow_infra_testing.contracts.storage.capabilities import StorageCapability as Can
from factflow_infra_testing.contracts.storage.environment import StorageEnvironment, collected
from factflow_infra_testing.contracts.storage.table import STORAGE_BEHAVIOURS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


@STORAGE_BEHAVIOURS.add("S9", Can.REAL_LOOP)
async def loop_runs_beside_the_calls(env: StorageEnvironment) -> None:
    """While megabytes are written, hashed, copied and read, the loop goes on: it does not stand still for most of that
    time. A loaded machine makes it stutter, so a pause counts from 50 ms on.
    """
    store, loop = await env.provider(), asyncio.get_running_loop()
    stood_still, done = 0.0, asyncio.Event()

    async def heart() -> None:
        nonlocal stood_still
        while not done.is_set():
            before = loop.time()
            await asyncio.sleep(0.0005)
            stood_still += max(0.0, loop.time() - before - 0.05)

    heartbeat = asyncio.ensure_future(heart())
    await asyncio.sleep(0)
    start, data = loop.time(), b"x" * 8_000_000
    for name in ("x", "y"):
        await store.write(env.key(name), data)
    await store.copy(env.key("x"), env.key("y"))
    assert_content(await store.read(env.key("y")), data)
    took = loop.time() - start
    done.set()
    await heartbeat
    assert stood_still < took / 2, f"the loop stood still for {stood_still:.3f} of {took:.3f} s"


@STORAGE_BEHAVIOURS.add("S9")
async def cancelled_calls_leave_the_provider_usable(env: StorageEnvironment) -> None:
    """Every call, cancelled at each of its first steps; then everything still works, and no more is there than was."""
    store, key = await env.provider(), env.key("x")
    await store.write(key, b"content", {"n": 1})
    cancelled = 0
    for steps in range(4):
        calls: list[Callable[[], Coroutine[object, object, object]]] = [
            lambda: store.read(key),
            lambda: store.get(key),
            lambda: store.stat(key),
            lambda: store.exists(key),
            lambda: store.list_page(env.prefix),
            lambda: collected(store.stream(key)),
            lambda: store.copy(key, key),
            lambda: store.delete(env.key("nothing")),
            lambda: env.keys(store),
        ]
        for call in calls:
            task = asyncio.ensure_future(call())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            try:
                await env.within_patience(task, "a cancelled call never returned")
            except asyncio.CancelledError:
                cancelled += bool(steps)  # without a step it had not begun
    assert cancelled, "no call was cancelled once it had begun"
    got = await env.within_patience(store.get(key), "get() after cancelled calls never returned")
    assert await env.within_patience(store.read(key), "read() after cancelled calls never returned") == got.data
    assert (got.data, dict(got.info.metadata)) == (b"content", {"n": 1})
    assert await env.keys(store) == ["x"]


@STORAGE_BEHAVIOURS.add("S9")
async def close_waits_for_what_is_running(env: StorageEnvironment) -> None:
    """Writes under way when ``close`` is called have ended when it returns, all of them well."""
    store, other = await env.provider(), await env.provider()
    writes = [asyncio.ensure_future(store.write(env.key(f"x{n}"), b"y" * 100_000)) for n in range(8)]
    await asyncio.sleep(0)
    await env.within_patience(store.close(), "close() never returned")
    listed = await env.keys(other)
    await env.within_patience(asyncio.gather(*writes), "a write never returned")
    assert listed == [f"x{n}" for n in range(8)]
    for name in listed:
        assert_content(await other.read(env.key(name)), b"y" * 100_000, name)


@STORAGE_BEHAVIOURS.add("S9")
async def calls_after_close_raise(env: StorageEnvironment) -> None:
    """``StorageClosedError`` from each, not retryable; closing again is no error, nor is closing what was never used."""
    store, key = await env.provider(), env.key("x")
    await store.write(key, b"x")
    await store.close()
    await store.close()
    calls: list[Callable[[], Coroutine[object, object, object]]] = [
        lambda: store.write(key, b"y"),
        lambda: store.read(key),
        lambda: store.get(key),
        lambda: store.stat(key),
        lambda: store.exists(key),
        lambda: store.delete(key),
        lambda: store.copy(key, key),
        lambda: store.list_page(env.prefix),
        lambda: collected(store.stream(key)),
        lambda: env.keys(store),
    ]
    for call in calls:
        with raises(StorageClosedError) as caught:
            await call()
        assert not caught.value.retryable
    other = await env.provider()
    assert await other.read(key) == b"x"
    await (await env.provider()).close()


@STORAGE_BEHAVIOURS.add("S9")
async def many_calls_at_once(env: StorageEnvironment) -> None:
    """200 at once, more than there are threads or connections: all of them end well."""
    store = await env.provider()
    await asyncio.gather(*(store.write(env.key(f"k{n % 20}"), str(n).encode()) for n in range(100)))
    values = await asyncio.gather(*(store.read(env.key(f"k{n % 20}")) for n in range(100)))
    assert all(int(value) % 20 == n % 20 for n, value in enumerate(values))
