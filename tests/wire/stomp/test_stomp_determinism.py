"""Runs over STOMP, under every fault, are the same each time: in one process, and in fresh ones with other hash seeds."""

import asyncio
from pathlib import Path

import pytest
import stomp_runs
import stompman.connection_manager

from factflow_infra_testing.simulation import pins
from factflow_infra_testing.simulation.runner import run
from tests.fresh_processes import in_fresh_processes

# Killed processes never close the streams that stompman's client has open.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed")


@pytest.fixture(scope="module")
def first():
    return stomp_runs.digests()


def test_the_same_twice_in_one_process(first):
    assert all(" None " in found for found in first.values()), first
    assert len(set(first.values())) == len(first)
    again = stomp_runs.digests(seeds=(0, 1))
    assert again == {name: first[name] for name in again}


def test_the_same_in_fresh_processes(first):
    assert in_fresh_processes(stomp_runs.__file__, hash_seeds=(1, 2)) == [first, first]


def order_of_beginning(run_it):
    """In which order stompman begins to connect to fifty servers."""
    begun = []

    async def connect(number):
        begun.append(number)

    async def main():
        for done in stompman.connection_manager.asyncio.as_completed([connect(number) for number in range(50)]):
            await done

    run_it(main)
    return begun


def test_servers_are_connected_to_in_their_order():
    assert order_of_beginning(lambda main: run(main).result()) == list(range(50))
    assert order_of_beginning(lambda main: asyncio.run(main())) != list(range(50)), "asyncio no longer needs this pin"
    source = Path(stompman.connection_manager.__file__).read_text()
    assert "asyncio.as_completed(" in source, "the client no longer needs this pin"


def test_the_pin_names_an_installed_library():
    assert "stompman-servers" in {pin.name for pin in pins.PINS if pins.installed(pin)}
