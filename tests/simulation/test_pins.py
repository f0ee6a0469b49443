"""What is leant on exists, and what is replaced still needs it."""

import importlib.util
import sys

import pytest

from factflow_infra_testing.simulation import pins


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
