"""S7: ``if_absent`` and ``if_match`` hold under concurrency."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from factflow_infra.errors import (
    InvalidObjectError,
    PreconditionFailedError,
    UnsupportedOperationError,
    WriteUnconfirmedError,
)
from factflow_infra_testing.contracts.raising import raises
from factflow_infra_testing.contracts.storage.capabilities import StorageCapability as Can
from factflow_infra_testing.contracts.storage.environment import StorageEnvironment, pieces
from factflow_infra_testing.contracts.storage.table import STORAGE_BEHAVIOURS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@STORAGE_BEHAVIOURS.add("S7", Can.CONDITIONAL_CREATE)
async def if_absent_creates_once(env: StorageEnvironment) -> None:
    """On a free key it writes, on a taken one it raises ``PreconditionFailedError``, not retryable, and changes nothing;
    after a delete the key is free again. For bytes and for streams.
    """
    store, key = await env.provider(), env.key("x")
    await store.write(key, b"first", {"n": 1}, if_absent=True)
    long = [pieces(b"x" * 6_000_000, b"y" * 6_000_000)] if env.has(Can.CONDITIONAL_STREAM) else []
    for data in (b"second", pieces(b"second"), *long):
        with raises(PreconditionFailedError) as caught:
            await store.write(key, data, if_absent=True)
        assert not caught.value.retryable
    got = await store.get(key)
    assert (got.data, dict(got.info.metadata)) == (b"first", {"n": 1})
    await store.delete(key)
    await store.write(key, pieces(b"third"), if_absent=True)
    assert await store.read(key) == b"third"
    assert await env.keys(store) == ["x"]


@STORAGE_BEHAVIOURS.add("S7", Can.CONDITIONAL_CREATE)
async def if_absent_has_one_winner(env: StorageEnvironment) -> None:
    """16 racing creates from four providers: one returns, the rest raise, and the object is the winner's. s3rver let all 32
    of 32 win.
    """
    stores = [await env.provider() for _ in range(4)]
    for round_ in range(3):
        key = env.key(f"x{round_}")
        outcomes = await asyncio.gather(
            *(stores[n % 4].write(key, str(n).encode() * 100, {"n": n}, if_absent=True) for n in range(16)),
            return_exceptions=True,
        )
        winners = [n for n, outcome in enumerate(outcomes) if not isinstance(outcome, BaseException)]
        losers = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert len(winners) == 1, f"{len(winners)} creates of one key succeeded"
        assert all(isinstance(outcome, PreconditionFailedError) for outcome in losers), losers
        got = await stores[0].get(key)
        assert (got.data, got.info.metadata["n"]) == (str(winners[0]).encode() * 100, winners[0])


@STORAGE_BEHAVIOURS.add("S7", Can.CONDITIONAL_WRITE)
async def if_match_replaces_what_was_read(env: StorageEnvironment) -> None:
    """With the etag of ``stat``, ``get`` or ``write`` it writes; with a stale one, a foreign one, nonsense, or on a missing
    key it raises, and changes nothing.
    """
    store, key = await env.provider(), env.key("x")
    first = await store.write(key, b"1")
    second = await store.write(key, b"2", if_match=first.etag)
    third = await store.write(key, pieces(b"3"), if_match=(await store.stat(key)).etag)
    await store.write(key, b"4", {"n": 4}, if_match=(await store.get(key)).info.etag)
    for stale in (first.etag, second.etag, third.etag, "nonsense", '"quoted"', "*"):
        with raises(PreconditionFailedError) as caught:
            await store.write(key, b"5", if_match=stale)
        assert not caught.value.retryable
    with raises(PreconditionFailedError):
        await store.write(env.key("missing"), b"x", if_match=first.etag)
    got = await store.get(key)
    assert (got.data, dict(got.info.metadata)) == (b"4", {"n": 4})
    assert await env.keys(store) == ["x"]


@STORAGE_BEHAVIOURS.add("S7", Can.CONDITIONAL_WRITE)
async def if_match_loses_no_update(env: StorageEnvironment) -> None:
    """Four providers append to one object with read, ``if_match``, again: every success counts, none is overwritten. radosgw
    answers some of such a crowd with 500, so an unconfirmed one looks whether it was done.
    """
    stores, key = [await env.provider() for _ in range(4)], env.key("list")
    await stores[0].write(key, b"")

    async def append(nth: int) -> None:
        for turn in range(4):
            mine = b"%d.%d " % (nth, turn)
            while True:
                got = await stores[nth].get(key)
                if mine in got.data:
                    break
                try:
                    await stores[nth].write(key, got.data + mine, if_match=got.info.etag)
                except (PreconditionFailedError, WriteUnconfirmedError):
                    continue
                break

    await env.within_patience(asyncio.gather(*(append(nth) for nth in range(4))), "the writers never finish")
    held = sorted((await stores[0].read(key)).split())
    assert held == sorted(b"%d.%d" % (nth, turn) for nth in range(4) for turn in range(4))


@STORAGE_BEHAVIOURS.add("S7")
async def conditions_are_checked(env: StorageEnvironment) -> None:
    """Both conditions at once, an empty etag, a wrong type: bad input."""
    store, key = await env.provider(), env.key("x")
    with raises(InvalidObjectError):
        await store.write(key, b"x", if_absent=True, if_match="etag")
    for bad in ("", 7, b"etag"):
        with raises(InvalidObjectError):
            await store.write(key, b"x", if_match=bad)  # pyright: ignore[reportArgumentType] - bad on purpose
    with raises(InvalidObjectError):
        await store.write(key, b"x", if_absent="yes")  # pyright: ignore[reportArgumentType] - bad on purpose
    assert not await store.exists(key)


@STORAGE_BEHAVIOURS.add("S7")
async def conditions_are_kept_or_refused(env: StorageEnvironment) -> None:
    """A condition that does not hold changes nothing, whatever the server knows of it: ``PreconditionFailedError``, or, of a
    server that ignores the condition, ``UnsupportedOperationError``. For each way of writing, and for deleting.
    """
    store, key = await env.provider(), env.key("x")
    stale = (await store.write(key, b"1")).etag
    await store.write(key, b"2", {"n": 2})

    def long() -> AsyncIterator[bytes]:
        return pieces(b"x" * 6_000_000, b"y" * 6_000_000)

    for can, call in (
        (Can.CONDITIONAL_CREATE, lambda: store.write(key, b"3", if_absent=True)),
        (Can.CONDITIONAL_WRITE, lambda: store.write(key, b"3", if_match=stale)),
        (Can.CONDITIONAL_WRITE, lambda: store.write(env.key("missing"), b"3", if_match=stale)),
        (Can.CONDITIONAL_STREAM, lambda: store.write(key, long(), if_absent=True)),
        (Can.CONDITIONAL_STREAM, lambda: store.write(key, long(), if_match=stale)),
        (Can.CONDITIONAL_DELETE, lambda: store.delete(key, if_match=stale)),
    ):
        try:
            await call()
        except PreconditionFailedError as error:
            assert not error.retryable  # noqa: PT017 - a refusal is as good
        except UnsupportedOperationError as error:
            assert not env.has(can), f"declared {can}, and raises {error!r}"  # noqa: PT017
            assert not error.retryable  # noqa: PT017
        else:
            raise AssertionError(f"a condition that did not hold was ignored: {can}")
        got = await store.get(key)
        assert (got.data, dict(got.info.metadata)) == (b"2", {"n": 2})
    assert await env.keys(store) == ["x"]
    if env.has(Can.RESIDUE):
        assert await env.faults.residue() == []


@STORAGE_BEHAVIOURS.add("S7", Can.CONDITIONAL_DELETE)
async def conditional_delete_deletes_what_was_read(env: StorageEnvironment) -> None:
    """With the current etag it deletes; with a stale one, or on a missing key, it raises, and the object stays."""
    store, key = await env.provider(), env.key("x")
    first = await store.write(key, b"1")
    second = await store.write(key, b"2")
    with raises(PreconditionFailedError):
        await store.delete(key, if_match=first.etag)
    assert await store.read(key) == b"2"
    await store.delete(key, if_match=second.etag)
    assert not await store.exists(key)
    with raises(PreconditionFailedError):
        await store.delete(key, if_match=second.etag)


@STORAGE_BEHAVIOURS.add("S7", Can.CONDITIONAL_CREATE, Can.CONDITIONAL_WRITE, Can.LOSE_ANSWER)
async def own_success_is_recognised(env: StorageEnvironment) -> None:
    """A conditional write is applied, its answer lost: the retry meets its own object, and is no failed precondition."""
    store = await env.provider()
    await env.faults.lose_answer()
    try:
        await store.write(env.key("new"), b"mine", {"n": 1}, if_absent=True)
    except WriteUnconfirmedError as error:
        assert error.retryable  # noqa: PT017 - success is as good
    assert await store.read(env.key("new")) == b"mine"
    info = await store.stat(env.key("new"))
    await env.faults.lose_answer()
    try:
        await store.write(env.key("new"), b"mine again", if_match=info.etag)
    except WriteUnconfirmedError as error:
        assert error.retryable  # noqa: PT017 - success is as good
    assert await store.read(env.key("new")) == b"mine again"
