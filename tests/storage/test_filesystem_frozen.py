"""A process that stands still amid a change keeps its key's lock: what waits for it, and what does not."""

from __future__ import annotations

import asyncio
import zlib
from unittest.mock import patch

import pytest

from factflow_infra.storage.filesystem import steps
from factflow_infra.storage.filesystem.locks import AbandonedError, HeldError
from factflow_infra.storage.filesystem.workers import Workers
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


RUN_IN_TURN = Workers.run_in_turn


async def wait_in_a_thread(self, _stripe, job, _ready):
    """In place of ``run_in_turn``: whoever waits keeps the thread, and the place, that it runs with."""

    def wait(abandoned):
        while True:
            try:
                return job(abandoned)
            except HeldError:
                if abandoned.wait(1):
                    raise AbandonedError from None

    return await self.run(wait)


async def wait_without_a_queue(self, stripe, job, ready):
    self._here().turns.clear()
    return await RUN_IN_TURN(self, stripe, job, ready)


async def writes_of(sim, writers, waiter):
    """``writers`` of one process begin, one after the other, to write what a frozen process holds; ``waiter`` is called then."""

    async def frozen(process):
        await process.storage().write("held", b"theirs")

    async def other(process):
        storage = process.storage()
        await asyncio.sleep(1)
        writing = []
        for number in range(writers):
            writing.append(asyncio.create_task(storage.write("held", b"mine", {"number": number})))
            await asyncio.sleep(0.037)
        await waiter(storage, writing)

    holder = sim.start(frozen, name="frozen")
    sim.start(other, name="other")
    await sim.sleep(0.5)
    holder.pause(20)
    await sim.drain()


@pytest.mark.parametrize("in_turn", [RUN_IN_TURN, wait_in_a_thread])
@simulate(plan=[Fault("disk-slow", "rename held", 1, 3)])
async def test_other_keys_are_written_while_many_wait(sim, in_turn):
    took = []

    async def waiter(storage, writing):
        begun = sim.time()
        await storage.write(OTHER, b"mine")
        await storage.read(OTHER)
        took.append(sim.time() - begun)
        for task in writing:
            task.cancel()
        await asyncio.wait(writing)
        took.append(sim.time() - begun)

    with patch.object(Workers, "run_in_turn", in_turn):
        await writes_of(sim, 64, waiter)
    if in_turn is RUN_IN_TURN:
        assert took[1] < 0.1
    else:
        assert took[0] > 10


@pytest.mark.parametrize("in_turn", [RUN_IN_TURN, wait_without_a_queue])
@simulate(plan=[Fault("disk-slow", "rename held", 1, 3)])
async def test_who_waits_is_served_in_order_and_only_the_first_asks(sim, in_turn):
    attempts, served = [], []
    try_lock = steps.try_lock

    def counted(descriptor):
        attempts.append(descriptor)
        return try_lock(descriptor)

    async def waiter(storage, writing):
        for number, task in enumerate(writing):
            task.add_done_callback(lambda _, number=number: served.append(number))
        await asyncio.sleep(5)
        for cancelled in (0, 7):  # the one that asks, and one that waits for it
            writing[cancelled].cancel()
        await asyncio.sleep(0.1)
        assert sorted(served) == [0, 7]
        await asyncio.wait(writing)
        assert (await storage.stat("held")).metadata == {"number": served[-1]}

    with patch.object(Workers, "run_in_turn", in_turn), patch.object(steps, "try_lock", counted):
        await writes_of(sim, 12, waiter)
    in_order = served[2:] == [number for number in range(12) if number not in (0, 7)]
    assert (in_order, len(attempts) < 1000) == ((True, True) if in_turn is RUN_IN_TURN else (False, False)), (
        served,
        len(attempts),
    )
