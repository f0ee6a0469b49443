"""The fixtures for tests without a search: in virtual time, with fixed faults or none. Used here as a user does."""

from __future__ import annotations

import asyncio

import pytest

from factflow_infra.errors import ObjectNotFoundError
from factflow_infra.protocols import MessageStatus, QueueMessage
from factflow_infra_testing.search.decisions import Fault

pytest_plugins = ["pytester"]


class Service:
    def __init__(self, queue):
        self.queue = queue


@pytest.fixture
def service(queue_provider):
    return Service(queue_provider)


async def deliveries(queue, count):
    seen = []
    done = asyncio.Event()

    async def handler(message):
        seen.append(message)
        if len(seen) == count:
            done.set()
        return MessageStatus.ACK

    async with await queue.subscribe("orders", handler):
        await asyncio.wait_for(done.wait(), 3600)
        await asyncio.sleep(3600)  # virtual: nothing more comes
    return seen


async def test_a_queue(queue_provider):
    await queue_provider.publish("orders", QueueMessage(b"1"))
    (message,) = await deliveries(queue_provider, 1)
    assert message.body == b"1"


@pytest.mark.asyncio
async def test_with_the_mark_of_pytest_asyncio_too(queue_provider):
    await queue_provider.publish("orders", QueueMessage(b"1"))
    assert asyncio.get_running_loop().time() < 10  # the simulation's loop, not pytest-asyncio's


@pytest.mark.faults(Fault("ack-lost", "orders", 1))
async def test_a_fixed_fault(queue_provider):
    await queue_provider.publish("orders", QueueMessage(b"1"))
    first, second = await deliveries(queue_provider, 2)
    assert first.message_id == second.message_id
    assert second.redelivered


async def test_what_another_fixture_hands_on_works_when_the_test_runs(service, queue_provider):
    await service.queue.publish("orders", QueueMessage(b"1"))
    assert len(await deliveries(queue_provider, 1)) == 1


@pytest.mark.parametrize("queue_provider", ["rabbitmq-classic", "rabbitmq-quorum"], indirect=True)
@pytest.mark.parametrize("body", [b"1", b""])
async def test_profiles(queue_provider, body):
    await queue_provider.publish("orders", QueueMessage(body))
    assert [message.body for message in await deliveries(queue_provider, 1)] == [body]


async def test_the_broker_can_be_looked_into(queue_provider, simulated_broker):
    await queue_provider.publish("orders", QueueMessage(b"1", message_id="m1"))
    assert [message.message_id for message in simulated_broker.messages("orders")] == ["m1"]


@pytest.mark.parametrize("queue_provider", ["rabbitmq-classic", "artemis:model"], indirect=True)
async def test_the_broker_is_the_one_behind_the_provider(queue_provider, simulated_broker):
    await queue_provider.publish("orders", QueueMessage(b"1"))
    assert simulated_broker.depth("orders") == 1


async def roundtrip(storage):
    await storage.write("a/b", b"1")
    assert await storage.read("a/b") == b"1"
    with pytest.raises(ObjectNotFoundError):
        await storage.read("a/c")


async def test_storage(storage_provider):
    await roundtrip(storage_provider)


async def test_filesystem(filesystem_storage):
    await roundtrip(filesystem_storage)


async def test_s3(s3_storage):
    await roundtrip(s3_storage)


class TestMethods:
    async def test_a_method(self, queue_provider):
        await queue_provider.publish("orders", QueueMessage(b"1"))


HEAD = """\
import pytest
from factflow_infra_testing import Fault, simulate
"""
INI = """\
[pytest]
addopts = -p factflow_infra_testing -p no:cacheprovider -p no:randomly
filterwarnings = error
asyncio_default_fixture_loop_scope = function
"""


@pytest.mark.parametrize(
    ("source", "outcome", "message"),
    [
        ("def test_it(queue_provider): pass", "errors", "needs an `async def` test"),
        ("@pytest.mark.faults()\ndef test_it(): pass", "errors", "needs one of the fixtures queue_provider"),
        ("@pytest.mark.faults('kill')\nasync def test_it(queue_provider): pass", "errors", "got 'kill'"),
        (
            "async def test_it(queue_provider, simulated_broker):\n    assert simulated_broker.depth('orders') == 0",
            "failed",
            "was asked for 'orders', and has had no such queue; there is none",
        ),
        ("@pytest.mark.faults(kind='kill')\nasync def test_it(queue_provider): pass", "errors", "got kind="),
        (
            "@pytest.mark.faults(Fault('kil', 'w', 1))\nasync def test_it(queue_provider): pass",
            "errors",
            "No such fault kind: 'kil'",
        ),
        (
            "@pytest.mark.faults(Fault('ack-lost', '/queue/ordres', 1))\nasync def test_it(queue_provider): pass",
            "failed",
            "'ack-lost' was never decided",
        ),
        ("@simulate\nasync def test_it(sim, queue_provider): pass", "errors", "A @simulate test has `sim`"),
        ("@pytest.mark.faults()\n@simulate\nasync def test_it(sim): pass", "errors", "give @simulate a `plan`"),
        (
            "@pytest.fixture\ndef eager(queue_provider):\n    return queue_provider.health()\nasync def test_it(eager): pass",
            "errors",
            "`queue_provider` was used before its test runs",
        ),
        (
            "@pytest.mark.parametrize('queue_provider', [7], indirect=True)\nasync def test_it(queue_provider): pass",
            "errors",
            "takes a name such as 'rabbitmq' as its parameter, got 7",
        ),
    ],
)
def test_wrong_use_is_answered_plainly(pytester, source, outcome, message):
    pytester.makeini(INI)
    pytester.makepyfile(test_it=HEAD + source)
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(**{outcome: 1})
    assert message in result.stdout.str()


def test_a_failure_shows_the_timeline(pytester):
    pytester.makeini(INI)
    pytester.makepyfile(
        test_it=HEAD
        + """
from factflow_infra.protocols import QueueMessage

async def test_it(queue_provider):
    await queue_provider.publish("orders", QueueMessage(b"1", message_id="m1"))
    assert False, "no"
"""
    )
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([">*assert False, *", "*Timeline*", "*publish orders m1"])


ANYIO = (
    HEAD
    + """
import asyncio
from factflow_infra.protocols import QueueMessage

pytestmark = pytest.mark.anyio  # a habit in modules with async tests

async def test_a_fixture(queue_provider):
    await queue_provider.publish("orders", QueueMessage(b"1"))
    await asyncio.sleep(3600)  # virtual

async def test_its_own():
    await asyncio.sleep(0)

@simulate(max_examples=2)
async def test_a_search(sim):
    await sim.sleep(3600)
"""
)


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_beside_the_plugin_of_anyio(pytester, mode):
    """It runs marked tests on a loop of its own; one that uses a fixture of ours belongs into its simulation."""
    pytest.importorskip("anyio")
    pytester.makeini(INI + f"asyncio_mode = {mode}\n")
    pytester.makepyfile(test_it=ANYIO + "\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n")
    pytester.runpytest_inprocess().assert_outcomes(passed=3)


@pytest.mark.parametrize("options", ["plan=[]", "plan=[], seed=3"])
def test_one_run_may_use_fixtures_of_function_scope(pytester, options):
    """Hypothesis refuses them where they would be shared between runs."""
    pytester.makeini(INI)
    pytester.makepyfile(
        test_it=HEAD
        + f"""
@simulate({options})
async def test_one_run(sim, tmp_path):
    assert tmp_path.exists()

class TestIt:
    @simulate({options})
    async def test_a_method(self, sim, tmp_path):
        assert tmp_path.exists()

@simulate(max_examples=2)
async def test_several(sim, tmp_path):
    pass
"""
    )
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*function-scoped fixture 'tmp_path'*"])


def test_the_traceback_of_an_escape_is_the_users(pytester):
    pytester.makeini(INI)
    pytester.makepyfile(
        test_it=HEAD
        + """
import socket

async def main(process):
    socket.create_connection(("example.com", 80))

@simulate(max_examples=2)
async def test_it(sim):
    sim.start(main)
    await sim.sleep(1)
"""
    )
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "blocking clients do before they connect. Use asyncio.open_connection()" in text
    result.stdout.fnmatch_lines([">*socket.create_connection((*"])
    assert "plugin.py" not in text
    assert "fixtures.py" not in text
