"""Runs on the wire, under every fault, are the same each time: in one process, and in fresh ones with other hash seeds."""

import aio_pika
import pytest
import wire_runs
from aiormq.abc import TaskWrapper

from factflow_infra_testing.simulation import pins
from factflow_infra_testing.simulation.loop import DeterministicLoop
from factflow_infra_testing.simulation.patches import session
from tests.fresh_processes import in_fresh_processes


@pytest.fixture(scope="module")
def first():
    return wire_runs.digests()


def test_the_same_three_times_in_one_process(first):
    assert all(" None " in found for found in first.values()), first
    assert len(set(first.values())) == len(first)
    for _ in range(2):
        again = wire_runs.digests(seeds=(0, 1))
        assert again == {name: first[name] for name in again}


def test_the_same_in_fresh_processes(first):
    assert in_fresh_processes(wire_runs.__file__, hash_seeds=(1, 2)) == [first, first]


def test_tasks_of_the_client_are_ordered_by_their_serial_numbers():
    loop = DeterministicLoop()
    coroutine = wire_runs.process_end(None)
    try:
        task = loop.create_task(coroutine)
        with session():
            assert hash(TaskWrapper(task)) == hash(task)
        wrapper = TaskWrapper(task)
        assert hash(wrapper) == object.__hash__(wrapper), "the client no longer needs this pin"
    finally:
        task._log_destroy_pending = False
        coroutine.close()
        loop.close()


def test_a_collected_connection_says_no_goodbye():
    loop = DeterministicLoop()
    try:
        closed = []
        connection = aio_pika.Connection("amqp://somewhere/", loop=loop)
        connection.close = lambda: closed.append(1)
        with session():
            aio_pika.Connection.__del__(connection)
        assert not closed
        with pytest.raises(TypeError):  # what stands in for close gives nothing to await
            aio_pika.Connection.__del__(connection)
        assert closed, "the client no longer needs this pin"
        connection._closed.cancel()
    finally:
        loop.close()


def test_pins_name_installed_libraries():
    assert {"aiormq-tasks", "aio-pika-farewell"} <= {pin.name for pin in pins.PINS if pins.installed(pin)}
