"""What is leant on exists, and what is replaced still needs it."""

import importlib.util
import sys
import time

import pytest

from factflow_infra_testing.simulation import pins
from factflow_infra_testing.simulation.errors import SimulationEscapeError
from factflow_infra_testing.simulation.runner import run


def test_every_internal_is_where_it_was():
    assert pins.missing_internals(sys.version_info[:2]) == []


def test_a_missing_internal_is_named(monkeypatch):
    gone = pins.Internal("asyncio", "Task._no_such_thing", "to be missed")
    later = pins.Internal("asyncio", "Task._from_the_future", "not yet", since=(3, 99))
    monkeypatch.setattr(pins, "INTERNALS", (gone, later))
    assert pins.missing_internals((3, 11)) == ["asyncio.Task._no_such_thing"]


@pytest.mark.parametrize("pin", pins.PINS, ids=lambda pin: pin.name)
def test_a_pin_was_checked_with_what_is_installed(pin):
    if importlib.util.find_spec(pin.library) is None:
        pytest.skip(f"{pin.library} is not installed")
    assert pins.installed(pin) in pin.checked


def in_anyio_threads():
    anyio = pytest.importorskip("anyio")

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 1)
            began = await anyio.to_thread.run_sync(lambda: time.sleep(3) or time.monotonic())
        with anyio.move_on_after(1):
            await anyio.to_thread.run_sync(time.sleep, 5)
        shielded = time.monotonic()
        with anyio.move_on_after(1):
            await anyio.to_thread.run_sync(time.sleep, 5, abandon_on_cancel=True)
        abandoned = time.monotonic()
        return began, shielded, abandoned, await anyio.to_thread.run_sync(anyio.from_thread.run, anyio.sleep, 1)

    return run(main)


def test_anyio_threads_are_jobs():
    assert in_anyio_threads().result() == (3, 8, 9, None)


def test_anyio_threads_still_need_their_pin(monkeypatch):
    monkeypatch.setattr(pins, "PINS", ())
    assert isinstance(in_anyio_threads().error, SimulationEscapeError)
