"""Draining, checking and looking: when a run is at rest, what is said when it never is, and what a check refuses to judge."""

import asyncio

import pytest
from simulated_runs import forever, message, passing, run_once, swarm, told

from factflow_infra.protocols import ErrorHandling, MessageStatus
from factflow_infra_testing.errors import KitUsageError
from factflow_infra_testing.search.decisions import Fault, SwarmDecisions
from factflow_infra_testing.search.run import RunOptions
from factflow_infra_testing.simulation.checks import CheckFailedError, CheckUnknownError
from factflow_infra_testing.simulation.session import SimulationSession


def consumer(handle, **options):
    async def main(process):
        await process.queue().subscribe("orders", handle, **options)
        await forever()

    return main


async def ack(_):
    """Handled."""


# The two phases


def test_a_benign_drain_waits_for_quiet_only():
    async def scenario(sim):
        sim.start(consumer(ack), name="worker")
        await sim.queue().publish("orders", message("a"))
        await sim.drain(quiet=5)
        assert 5 <= sim.time() < 16
        sim.check.queue("orders")

    passing(scenario)


def test_a_drain_waits_for_a_subscription_that_is_still_reconnecting():
    """The message waits for it in a queue without a consumer, and longer than the quiet time."""
    handled = []

    async def handle(_):
        await asyncio.sleep(0.1)
        handled.append(asyncio.get_running_loop().time())

    async def scenario(sim):
        sim.start(consumer(handle), name="worker")
        await sim.sleep(1)
        await sim.queue().publish("orders", message("a"))
        sim.broker().downtime = 300
        sim.broker().restart(spare_laboratory=True)
        await sim.drain(quiet=5)
        sim.check.no_loss("orders")

    passing(scenario)
    assert handled[-1] > 300


def test_faults_last_while_there_is_something_to_do_and_end_before_convergence():
    """A worker that would be killed at each of its steps gets its work done once the faults have ended."""
    times = []

    async def handle(_):
        times.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.5)

    faults = [Fault("kill", "worker@handle orders", nth) for nth in range(1, 200)]

    async def scenario(sim):
        sim.start(consumer(handle), name="worker")
        await sim.queue().publish("orders", message("a"))
        await sim.drain(under_faults=30)
        sim.check.no_loss("orders")

    record = passing(scenario, *faults)
    kills = [op.invoked for op in record.history.of("kill")]
    assert len(kills) > 2
    assert max(kills) <= 31
    assert len(times) == len(kills) + 1


def test_faults_end_early_where_each_redelivery_meets_the_next():
    """A client that connects again after 100 ms gets all it had asked for once more, and loses it at once: a thousand times in
    a drain. That is no message that goes round for ever.
    """

    async def scenario(sim):
        sim.tier = "api"

        async def main(process):
            await process.queue("pulsar").subscribe("orders", ack, prefetch=50)
            await forever()

        sim.start(main, name="worker")
        await sim.queue("pulsar").publish_batch("orders", [message(f"m{n}") for n in range(40)])
        await sim.drain()
        sim.check.queue("orders")

    record = passing(scenario, decisions=SwarmDecisions(0, {"reset": 0.9}))
    (ended,) = [op for op in record.history.of("log") if op.detail.startswith("faults end here: ")]
    faults = [op.invoked for op in record.history.of("fault")]
    assert len(faults) > 100
    assert max(faults) <= ended.invoked < 120


def test_a_service_that_waits_a_moment_still_meets_its_faults():
    async def main(process):
        await asyncio.sleep(1.5)
        await process.queue().publish("orders", message("a"))

    async def scenario(sim):
        sim.start(main, name="producer")
        await sim.drain()

    record = passing(scenario, Fault("confirm-delayed", "orders", 1))
    assert record.fired == {"confirm-delayed": 1}


def test_after_the_drain_nothing_is_a_fault_and_paused_processes_went_on():
    async def scenario(sim):
        worker = sim.start(consumer(ack), name="worker")
        await sim.sleep(1)
        worker.pause(10_000)
        await sim.queue().publish("orders", message("a"))
        await sim.drain()
        assert worker.status == "running"
        exposed = sim.queue(exposed=True)
        await exposed.publish("other", message("b"))

    record = passing(scenario, Fault("publish-lost", "other", 1))
    assert record.fired == {}


def test_an_exposed_provider_of_the_test_meets_faults_and_its_own_does_not():
    async def publishing(sim, **options):
        queue = sim.queue(**options)
        return await queue.publish("orders", message("a"))

    refused = Fault("publish-refused", "orders", 1)
    passing(publishing, refused)
    record = run_once(lambda sim: publishing(sim, exposed=True), refused)
    assert type(record.failure).__name__ == "PublishRefusedError"


def test_a_service_that_only_polls_is_at_rest():
    async def main(process):
        storage = process.storage()
        while True:
            await asyncio.sleep(7)
            await storage.exists("switch")

    async def scenario(sim):
        sim.start(main, name="poller")
        await sim.drain()
        assert sim.time() < 200

    passing(scenario)


# Never at rest


def test_a_message_that_is_held_for_ever_is_named():
    async def handle(_):
        await forever()

    async def scenario(sim):
        sim.start(consumer(handle), name="worker")
        await sim.queue().publish("orders", message("a"))
        await sim.drain()

    record = run_once(scenario)
    assert isinstance(record.failure, CheckFailedError)
    assert str(record.failure) == (
        "convergence: no rest 4 h after the last fault: orders: 1 message unacked by worker ('a'), and there is a live consumer"
    )
    assert record.failure.verdict.checker == "convergence"


@pytest.mark.parametrize("plan", [(), (Fault("reset", "orders", 1),)], ids=["by itself", "after a fault"])
def test_a_message_that_goes_round_is_named(plan):
    async def handle(_):
        return MessageStatus.RETRY

    async def scenario(sim):
        sim.start(
            consumer(handle, error_handling=ErrorHandling(max_retries=None, retry_delay_seconds=0)), name="worker"
        )
        await sim.queue().publish("orders", message("round and round"))
        await sim.drain()

    record = run_once(scenario, *plan)
    assert isinstance(record.failure, CheckFailedError)
    text = str(record.failure)
    assert "'round and round' was delivered" in text
    assert "from orders, and goes on" in text


def test_a_service_that_never_rests_is_named():
    async def main(process):
        queue = process.queue()
        while True:
            await asyncio.sleep(50)
            await queue.publish("ticks", message(f"{process.time():.0f}"))

    async def scenario(sim):
        sim.start(main, name="clock")
        await sim.drain()

    record = run_once(scenario)
    assert "convergence: no rest 4 h after the last fault: it goes on and on: clock publish ticks (" in str(
        record.failure
    )


# Waiting for a delay


NATURAL = RunOptions()
"""Each profile on its own tier: what the clients do with a delay is part of it."""


def delaying(profile, delay, **options):
    async def main(process):
        queue = process.queue(profile)
        await queue.subscribe("orders", ack)
        if process.lives == 1:
            await queue.publish("orders", message("in a while"), delay=delay)
        await forever()

    async def scenario(sim):
        sim.start(main, name="worker")
        await sim.drain(**options)
        sim.check.no_loss("orders")

    return scenario


PROFILES = ("rabbitmq-quorum", "rabbitmq-classic", "artemis", "pulsar")


@pytest.mark.parametrize("profile", PROFILES)
def test_a_message_that_waits_for_a_long_delay_is_named_and_what_to_do(profile):
    record = run_once(delaying(profile, 6 * 3600), options=NATURAL)
    assert isinstance(record.failure, CheckFailedError)
    text = str(record.failure)
    assert "no rest 4 h after the last fault: orders: message 'in a while' waits for its delay until 21" in text
    assert "`await sim.drain(within=...)`" in text
    passing(delaying(profile, 6 * 3600, within=7 * 3600), options=NATURAL)


def test_a_delay_that_ends_when_the_time_does_is_no_unrest():
    """Until the last look there was a message that waited; what it makes the service do then is nothing that goes on and on."""
    passing(delaying("rabbitmq", 4 * 3600 + 30))


def test_many_messages_that_wait_are_named_in_a_line():
    async def scenario(sim):
        sim.start(consumer(ack), name="worker")
        for n in range(5):
            await sim.queue().publish("orders", message(f"m{n}"), delay=100)
        await sim.drain(within=0)

    assert str(run_once(scenario).failure).count("waits for its delay") == 3
    assert "'m2' waits for its delay until 100.0" in str(run_once(scenario).failure)
    assert "2 more wait" in str(run_once(scenario).failure)


def jumped(scenario, hours):
    """``scenario`` with its worker on a machine whose clock is ``hours`` fast."""

    async def run(sim):
        sim.loop.clock.jump(hours * 3600, host="localhost-a")
        start = sim.start
        sim.start = lambda main, **options: start(main, host="localhost-a", **options)
        await scenario(sim)

    return run


@pytest.mark.parametrize("hours", [5, 30, -5])
def test_a_delay_that_a_wrong_clock_makes_longer_is_no_unrest(hours):
    """A Pulsar is told when a message is due, by the clock of its sender."""
    passing(jumped(delaying("pulsar", 3600), hours), options=NATURAL)


def test_retries_on_a_wrong_clock_end_as_well():
    failed = []

    async def handle(_):
        failed.append(1)
        raise RuntimeError

    async def main(process):
        few = ErrorHandling(max_retries=3, retry_delay_seconds=10)
        await process.queue("pulsar").subscribe("orders", handle, error_handling=few)
        await forever()

    async def scenario(sim):
        sim.start(main, name="worker")
        await sim.queue("pulsar").publish("orders", message("a"))
        await sim.drain()
        assert sim.broker("pulsar").depth("dlq") == 1

    passing(jumped(scenario, 5), options=NATURAL)
    assert len(failed) == 4


@pytest.mark.parametrize(
    "times", [{"quiet": 0}, {"quiet": -1.0}, {"within": -1}, {"under_faults": float("nan")}, {"quiet": "5"}]
)
def test_times_of_a_drain_that_are_none_are_refused(times):
    async def scenario(sim):
        await sim.drain(**times)

    failure = run_once(scenario).failure
    assert isinstance(failure, KitUsageError)
    ((name, seconds),) = times.items()
    assert f"`{name}`" in str(failure)
    assert f"got {seconds!r}" in str(failure)


# What checks refuse to judge


CHECKS = {
    "no_loss": lambda check: check.no_loss("orders"),
    "no_phantom": lambda check: check.no_phantom("orders"),
    "no_duplicate_after_ack": lambda check: check.no_duplicate_after_ack("orders"),
    "redelivery_honesty": lambda check: check.redelivery_honesty("orders"),
    "fifo_per_key": lambda check: check.fifo_per_key("orders"),
    "bounded_redelivery": lambda check: check.bounded_redelivery("orders"),
    "in_flight_cap": lambda check: check.in_flight_cap("orders", 1),
    "exactly_once_effect": lambda check: check.exactly_once_effect(["a"], expected=["a"]),
    "queue": lambda check: check.queue("orders"),
}


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_before_the_drain_cannot_tell(name):
    async def scenario(sim):
        sim.start(consumer(ack), name="worker")
        await sim.queue().publish("orders", message("a"))
        await sim.sleep(1)
        with pytest.raises(CheckUnknownError, match=r"await sim\.drain\(\)` first"):
            CHECKS[name](sim.check)
        await sim.drain()
        CHECKS[name](sim.check)
        await sim.queue().publish("orders", message("b"))
        with pytest.raises(CheckUnknownError, match=r"await sim\.drain\(\)` again"):
            CHECKS[name](sim.check)
        await sim.drain()
        CHECKS[name](sim.check)

    passing(scenario)


def test_a_check_that_had_nothing_to_judge_is_no_pass_in_the_searchs_eyes():
    async def scenario(sim):
        sim.start(consumer(ack), name="worker")
        await sim.drain()
        assert sim.check.no_loss("orders").judgement == "unknown"
        sim.check.sometimes(False, "it rains")
        sim.check.sometimes(True, "it rains")
        sim.check.sometimes(False, "it rains")
        sim.check.sometimes(False, "it snows")

    assert passing(scenario).sometimes == {
        "no loss on orders could judge": False,
        "it rains": True,
        "it snows": False,
    }


def test_a_broken_promise_fails_with_its_verdict():
    async def scenario(sim):
        await sim.queue().subscribe("orders", ack)
        await sim.queue().publish("orders", message("a"))
        await sim.drain()
        sim.check.exactly_once_effect(["x", "x"])

    record = run_once(scenario)
    assert isinstance(record.failure, CheckFailedError)
    assert record.failure.verdict.keys == ("x",)


# Looking inside


def test_dead_letters_held_and_consumers():
    async def handle(received):
        if received.message_id == "bad":
            return MessageStatus.REJECT
        raise AssertionError("only the bad one is delivered")

    async def scenario(sim):
        queue = sim.queue()
        handling = ErrorHandling(dead_letter_queue="letters")
        async with await queue.subscribe("orders", handle, error_handling=handling):
            await queue.publish("orders", message("bad"))
            await sim.sleep(1)
            assert sim.has_consumer("orders")
        assert not sim.has_consumer("orders")
        await queue.publish("/queue/orders", message("later"))
        await queue.publish("orders", message("much later"), delay=1000)
        await sim.sleep(1)
        assert sim.dead_letters("orders") == sim.dead_letters("/queue/orders") == {"bad": "letters"}
        assert sim.dead_letters("letters") == {}
        assert sim.held("orders") == {"later", "much later"}
        assert sim.held("letters") == {"bad"}
        assert sim.held("unknown") == set()
        assert sim.broker() is sim.broker("rabbitmq-quorum")
        assert sim.canonical("/topic/news") == "/topic/news"
        assert sim.canonical("/queue/orders") == "orders"

    passing(scenario)


# The laboratory


def test_the_tests_own_calls_meet_no_faults_whatever_the_swarm():
    """A property over many swarms: what the test itself publishes and subscribes never raises, and is never lost."""
    fired = set()

    async def scenario(sim):
        sim.start(consumer(ack), name="worker")
        queue, storage, seen = sim.queue(), sim.storage(), []

        async def collect(received):
            seen.append(received.message_id)

        await queue.subscribe("mine", collect)
        for n in range(3):
            await queue.publish("orders", message(f"m{n}"))
            await queue.publish("mine", message(f"m{n}"))
            await storage.write(f"k{n}", b"x")
            await sim.sleep(5)
        await sim.drain()
        assert [key async for key in storage.list()] == ["k0", "k1", "k2"]
        assert set(seen) == {"m0", "m1", "m2"}
        sim.check.queue("orders")

    with SimulationSession() as session:
        for seed in range(60):
            fired.update(passing(scenario, decisions=swarm(seed), seed=seed, session=session).fired)
    assert {"kill", "terminate", "pause", "clock-jump", "broker-restart", "reset", "ack-lost"} <= fired


# The end of a run


def test_the_history_closes_with_the_run_and_the_users_traceback_stays():
    async def main(process):
        queue = process.queue()
        try:
            await forever()
        finally:
            await queue.publish("orders", message("too late"))

    def check_totals():
        raise ArithmeticError("the user's own")

    async def scenario(sim):
        sim.start(main, name="worker")
        await sim.sleep(1)
        check_totals()

    record = run_once(scenario)
    assert type(record.failure) is ArithmeticError
    names = []
    trace = record.failure.__traceback__
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert names[-2:] == ["scenario", "check_totals"]
    assert told(record, "start", "publish", "kill", "end") == [("start", "worker", "")]
    assert record.history.closed
    record.history.note(9, "worker", "log", "error")
    assert told(record, "log") == []


def test_a_warning_of_a_provider_is_in_the_history_of_whose_it_was():
    async def main(process):
        import logging

        logging.getLogger("factflow_infra.test").warning("something of %s", process.name)
        await forever()

    async def scenario(sim):
        sim.start(main, name="worker")
        await sim.sleep(1)

    (entry,) = passing(scenario).history.of("log")
    assert (entry.process, entry.target, entry.detail) == ("worker", "warning", "something of worker")


@pytest.mark.parametrize("profile", ["rabbitmq", "artemis"])
def test_the_tests_own_idle_connection_costs_nothing_unless_it_is_to(profile):
    """No fault meets it, so it needs no heart-beats; a service's connection has its own."""

    async def idle(sim, queue):
        await queue.publish("orders", message("a"))
        before = sim.loop.steps
        await sim.sleep(1800)
        return sim.loop.steps - before

    async def scenario(sim):
        sim.tier = "wire"
        assert await idle(sim, sim.queue(profile)) < 100
        for options in {"heartbeat": 30}, {"exposed": True}:
            assert await idle(sim, sim.queue(profile, **options)) > 200

    passing(scenario)
