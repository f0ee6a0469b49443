"""Names that a test calls things by: what nothing in the run is called is refused, and the message says what there is."""

import pytest
from simulated_runs import forever, message, passing, run_once

from factflow_infra.errors import SettingsError
from factflow_infra.protocols import ErrorHandling
from factflow_infra_testing.errors import KitUsageError
from factflow_infra_testing.search.decisions import Fault


async def worker(process):
    queue, storage = process.queue("rabbitmq"), process.storage("filesystem")

    async def handle(received):
        await storage.write("done", received.body)

    await queue.subscribe("orders", handle, error_handling=ErrorHandling(dead_letter_queue="orders.dead"))
    await queue.subscribe("/topic/news", handle, subscription="audit")
    await forever()


async def play(sim, look):
    sim.start(worker, name="worker", host="a")
    await sim.queue("rabbitmq").publish("orders", message("m"))
    await sim.drain()
    result = look(sim)
    if result is not None and hasattr(result, "__await__"):
        await result


def outcome(look, *plan):
    return run_once(lambda sim: play(sim, look), *plan).failure


WRONG = {
    "power loss": (lambda sim: sim.power_loss("b"), "no host in this run called 'b'; there is 'a'"),
    "power loss of the host unless given": (lambda sim: sim.power_loss(), "called 'localhost'; there is 'a'"),
    "partition": (lambda sim: sim.partition("b", "rabbitmq"), "no host called 'b'; known: 'a', "),
    "partition from an unused broker": (
        lambda sim: sim.partition("a", "artemis"),
        "nothing in this run uses the broker 'artemis', which the test asked for; in use: 'rabbitmq-quorum'",
    ),
    "half a heal": (lambda sim: sim.heal("a"), "got 'a' alone"),
    "an unused broker": (
        lambda sim: sim.broker("artemis").depth("dlq"),
        "nothing in this run uses the broker 'artemis'",
    ),
    "depth": (
        lambda sim: sim.broker().depth("ordres") and None,
        "sim.broker('rabbitmq-quorum') was asked for 'ordres', and has had no such queue; there are 'orders', '/topic/news#audit'",
    ),
    "messages": (lambda sim: sim.broker().messages("ordres") and None, "was asked for 'ordres'"),
    "purge": (lambda sim: sim.broker().purge("ordres") and None, "was asked for 'ordres'"),
    "depth of a topic": (lambda sim: sim.broker().depth("/topic/news") and None, "was asked for '/topic/news'"),
    "a subscription": (
        lambda sim: sim.broker().depth("/topic/news", subscription="adit") and None,
        "was asked for '/topic/news#adit'",
    ),
    "fail over": (lambda sim: sim.broker().fail_over("a"), "no host called 'a'; it has 'rabbitmq-quorum', "),
    "disconnect": (lambda sim: sim.broker().disconnect("wroker"), "no client called 'wroker' has been connected"),
    "no_loss": (
        lambda sim: sim.check.no_loss("ordres") and None,
        "no queue in this run called 'ordres'; there are 'orders'",
    ),
    "queue": (lambda sim: sim.check.queue("ordres"), "no queue in this run called 'ordres'"),
    "fifo": (lambda sim: sim.check.fifo_per_key("/topic/nws") and None, "no queue in this run called '/topic/nws'"),
    "bounded": (
        lambda sim: sim.check.bounded_redelivery("/topic/news", subscription="adit") and None,
        "no queue in this run called '/topic/news#adit'",
    ),
    "in_flight_cap": (
        lambda sim: sim.check.in_flight_cap("orders", 1, process="wroker") and None,
        "no process called 'wroker'; there are 'worker', 'test'",
    ),
    "check of a storage": (
        lambda sim: sim.check.storage("s3"),
        "no storage in this run called 's3 (aws)'; there is 'filesystem of a'",
    ),
    "check of a host": (lambda sim: sim.check.durable_writes(host="b") and None, "called 'filesystem of b'"),
    "check of the host unless given": (lambda sim: sim.check.storage(), "called 'filesystem of localhost'"),
    "reading back": (lambda sim: sim.read_back(host="b"), "called 'filesystem of b'; there is 'filesystem of a'"),
    "storage": (
        lambda sim: sim.storage("filesystem", host="b") and None,
        "no process is on a host called 'b', and nothing was written to its disk; there is 'a'",
    ),
    "storage of the host unless given": (lambda sim: sim.storage("filesystem") and None, "called 'localhost'"),
    "disk": (lambda sim: sim.disk(host="b") and None, "called 'b'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_name_that_nothing_has_is_refused_with_those_that_there_are(name):
    look, says = WRONG[name]
    failure = outcome(look)
    assert isinstance(failure, KitUsageError), failure
    assert says in str(failure)


RIGHT = {
    "power loss": lambda sim: sim.power_loss("a"),
    "partition": lambda sim: sim.partition("a", "rabbitmq", seconds=1),
    "the dead-letter queue that will be": lambda sim: sim.broker().depth("orders.dead") and None,
    "the one that providers have": lambda sim: sim.broker().messages("/queue/dlq") and None,
    "a subscription": lambda sim: sim.broker().depth("/topic/news", subscription="audit") and None,
    "what there is": lambda sim: sim.broker().queues() == ["orders", "/topic/news#audit"] or pytest.fail("others"),
    "checks": lambda sim: [sim.check.queue(name) for name in ("orders", "orders.dead", "/topic/news#audit")] and None,
    "a process": lambda sim: sim.check.in_flight_cap("orders", 1, process="worker") and None,
    "storage": lambda sim: sim.check.storage(host="a"),
    "a client": lambda sim: sim.broker().disconnect("worker"),
}


@pytest.mark.parametrize("name", RIGHT)
def test_names_that_something_has_are_taken(name):
    assert outcome(RIGHT[name]) is None


def test_an_unknown_profile_of_s3_is_refused_by_checks_too():
    failure = outcome(lambda sim: sim.check.storage("s3", profile="azure"))
    assert isinstance(failure, SettingsError)
    assert "'azure'" in str(failure)
    assert "'minio'" in str(failure)


def test_a_disk_that_the_test_fills_needs_no_process():
    async def scenario(sim):
        sim.start(worker, name="worker", host="a")
        await sim.storage("filesystem", host="b").write("for later", b"")
        assert await sim.storage("filesystem", host="b").exists("for later")

    passing(scenario)


def test_a_queue_may_be_asked_for_before_it_is_there():
    async def scenario(sim):
        sim.start(worker, name="worker", host="a")
        while "orders" not in sim.broker().queues():
            assert sim.broker().depth("orders") == 0
            await sim.sleep(0.01)

    passing(scenario)


def test_a_failed_assertion_tells_of_the_name_that_may_be_why():
    def look(sim):
        assert sim.broker().depth("ordres") == 1

    failure = outcome(look)
    assert isinstance(failure, AssertionError)
    assert "was asked for 'ordres'" in failure.__notes__[-1]


@pytest.mark.parametrize("plan", [(Fault("kill", "worker@start", 1),), (Fault("ack-lost", "orders", 1),)])
def test_under_faults_a_service_may_not_have_got_so_far(plan):
    assert outcome(lambda sim: sim.check.no_loss("orders.failed") and None, *plan) is None
    assert outcome(lambda sim: sim.broker().depth("orders.failed") and None, *plan) is None


@pytest.mark.parametrize("seconds", [0, -1, float("inf")])
def test_times_that_are_none(seconds):
    failure = outcome(lambda sim: sim.partition("a", "rabbitmq", seconds=seconds))
    assert isinstance(failure, KitUsageError)
    assert f"got {seconds!r}" in str(failure)
    assert isinstance(outcome(lambda sim: sim.processes()["worker"].pause(seconds)), KitUsageError)
