"""A process that stands still amid a change keeps its key's lock: what waits for it, and what does not."""

from __future__ import annotations

import asyncio
import zlib

import pytest

from factflow_infra_testing import Fault, simulate


def stripe(key):
    return zlib.crc32(key.encode()) % 256


SAME, OTHER = (
    next(f"k{n}" for n in range(10_000) if (stripe(f"k{n}") == stripe("held")) is same) for same in (True, False)
)


def write(storage):
    return storage.write(SAME, b"mine")


def delete(storage):
    return storage.delete(SAME)


@pytest.mark.parametrize("change", [write, delete])
@simulate(plan=[Fault("disk-slow", "rename held", 1, 3)])  # long enough to be stopped amid it
async def test_who_waits_for_its_lock_may_give_up(sim, change):
    done = {}

    async def frozen(process):
        await process.storage().write("held", b"theirs")
        done["frozen"] = sim.time()

    async def other(process):
        storage = process.storage()
        await asyncio.sleep(1)
        await storage.write(OTHER, b"mine")
        assert [key async for key in storage.list()] == [OTHER]
        done["other"] = sim.time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await change(storage)
        done["gave up"] = sim.time()
        assert not await storage.exists(SAME)
        await change(storage)
        done["went on"] = sim.time()

    holder = sim.start(frozen, name="frozen")
    sim.start(other, name="other")
    await sim.sleep(0.5)
    holder.pause(60)
    await sim.drain()
    assert done["other"] < 2
    assert 6 <= done["gave up"] < 6.1
    assert 60 <= done["frozen"] <= done["went on"] < 61
    assert [key async for key in sim.storage("filesystem").list()] == sorted(
        ["held", OTHER, *([SAME] if change is write else [])]
    )
