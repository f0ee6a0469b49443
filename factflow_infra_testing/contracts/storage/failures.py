"""S10: each cause has its own error, with ``retryable`` set truly, and the original exception as its cause."""

from __future__ import annotations

from typing import TYPE_CHECKING

from factflow_infra.errors import (
    BucketNotFoundError,
    StorageAuthenticationError,
    StorageFullError,
    StoragePermissionError,
    StorageUnreachableError,
    ThrottledError,
)
from factflow_infra_testing.contracts.raising import raises
from factflow_infra_testing.contracts.storage.capabilities import StorageCapability as Can
from factflow_infra_testing.contracts.storage.environment import StorageEnvironment, collected, pieces
from factflow_infra_testing.contracts.storage.table import STORAGE_BEHAVIOURS

if TYPE_CHECKING:
    from factflow_infra.errors import StorageError
    from factflow_infra.protocols import StorageProtocol


async def every_call_raises(
    env: StorageEnvironment, store: StorageProtocol, kind: type[StorageError], *, retryable: bool
) -> None:
    """Assert that every call but ``close`` raises ``kind``, with a cause and ``retryable`` as said."""
    key = env.key("x")
    for call in (
        lambda: store.write(key, b"x"),
        lambda: store.write(key, pieces(b"x" * 6_000_000)),
        lambda: store.read(key),
        lambda: store.get(key),
        lambda: store.stat(key),
        lambda: store.exists(key),
        lambda: store.copy(key, env.key("y")),
        lambda: store.delete(key),
        lambda: collected(store.stream(key)),
        lambda: store.list_page(env.prefix),
        lambda: env.keys(store),
    ):
        with raises(kind) as caught:
            await env.within_patience(call(), "a call never returned")
        assert caught.value.retryable is retryable
        assert str(caught.value)
        assert caught.value.__cause__ is not None, f"{caught.value!r} hides what it comes from"


@STORAGE_BEHAVIOURS.add("S10", Can.MISSING_ROOT)
async def missing_root_is_named(env: StorageEnvironment) -> None:
    """No bucket, no root folder: ``BucketNotFoundError``, and not "no such object"."""
    await every_call_raises(env, env.owned(await env.faults.rootless()), BucketNotFoundError, retryable=False)


@STORAGE_BEHAVIOURS.add("S10", Can.UNREACHABLE)
async def unreachable_endpoint_is_retryable(env: StorageEnvironment) -> None:
    """Nobody answers: ``StorageUnreachableError``."""
    await every_call_raises(env, env.owned(await env.faults.unreachable()), StorageUnreachableError, retryable=True)


@STORAGE_BEHAVIOURS.add("S10", Can.CREDENTIALS)
async def wrong_credentials_are_told_apart(env: StorageEnvironment) -> None:
    """Wrong credentials are no missing bucket and no denied permission."""
    store = env.owned(await env.faults.unauthenticated())
    await every_call_raises(env, store, StorageAuthenticationError, retryable=False)


@STORAGE_BEHAVIOURS.add("S10", Can.THROTTLE)
async def throttling_is_retryable(env: StorageEnvironment) -> None:
    """Told to slow down until the retries are used up: ``ThrottledError``."""
    store = await env.provider()
    await env.faults.throttle()
    try:
        await every_call_raises(env, store, ThrottledError, retryable=True)
    finally:
        await env.faults.allow()


@STORAGE_BEHAVIOURS.add("S10", Can.DENY)
async def denied_change_changes_nothing(env: StorageEnvironment) -> None:
    """A write, a copy, a delete: ``StoragePermissionError``, not retryable; the old object stays, whole, and is read on."""
    store, key = await env.provider(), env.key("x")
    await store.write(key, b"old", {"n": 1})
    await env.faults.deny()
    try:
        for call in (
            lambda: store.write(key, b"new"),
            lambda: store.write(key, pieces(b"new")),
            lambda: store.write(key, pieces(b"n" * 6_000_000)),
            lambda: store.write(env.key("new"), b"x"),
            lambda: store.copy(key, env.key("new")),
            lambda: store.delete(key),
        ):
            with raises(StoragePermissionError) as caught:
                await call()
            assert not caught.value.retryable
            assert caught.value.__cause__ is not None, f"{caught.value!r} hides what it comes from"
        assert await store.read(key) == b"old"
    finally:
        await env.faults.allow()
    got = await store.get(key)
    assert (got.data, dict(got.info.metadata)) == (b"old", {"n": 1})
    assert await env.keys(store) == ["x"]


@STORAGE_BEHAVIOURS.add("S10", Can.FULL)
async def full_disk_changes_nothing(env: StorageEnvironment) -> None:
    """``StorageFullError``; the old object stays, and when there is room again the write works. pyfakefs leaves a file of 0
    bytes where a disk fills up at close.
    """
    store, key = await env.provider(), env.key("x")
    await store.write(key, b"old", {"n": 1})
    await env.faults.fill()
    try:
        for data in (b"n" * 2_000_000, pieces(b"n" * 1_500_000, b"n" * 1_500_000)):
            with raises(StorageFullError) as caught:
                await store.write(key, data, {"n": 2})
            assert not caught.value.retryable
    finally:
        await env.faults.allow()
    got = await store.get(key)
    assert (got.data, dict(got.info.metadata)) == (b"old", {"n": 1})
    if env.has(Can.RESIDUE):
        assert await env.faults.residue() == []
    await store.write(key, b"new")
    assert await env.keys(store) == ["x"]
