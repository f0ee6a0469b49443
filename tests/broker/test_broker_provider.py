"""The production engine on the simulated broker: nothing is lost, whatever the broker and the line do."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from factflow_infra.errors import InvalidDestinationError, QueueError
from factflow_infra.queue.messages import ErrorHandling, MessageStatus, QueueMessage
from factflow_infra_testing.broker import (
    BROKER_FAULTS,
    SimulatedBroker,
    SimulatedQueueProvider,
    faults_of,
    profile_named,
)
from factflow_infra_testing.broker.entries import Message
from factflow_infra_testing.search.decisions import Fault, PlannedDecisions, SwarmDecisions
from factflow_infra_testing.simulation.loop import DeterministicLoop

PROFILES = ["activemq-classic", "artemis", "pulsar", "rabbitmq-classic", "rabbitmq-quorum"]


def run(main):
    loop = DeterministicLoop()
    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


@pytest.mark.parametrize("profile", PROFILES)
def test_a_retry_goes_behind_and_what_is_rejected_to_the_dead_letter_queue(profile):
    async def main():
        broker = SimulatedBroker(profile)
        lab = SimulatedQueueProvider(broker)
        worker = SimulatedQueueProvider(broker, client="worker", exposed=True)
        handled = []

        async def handler(message):
            handled.append((message.message_id, message.delivery_count))
            verdicts = {"retry": MessageStatus.RETRY, "reject": MessageStatus.REJECT}
            return verdicts.get(message.message_id)

        await worker.subscribe("work", handler, error_handling=ErrorHandling(max_retries=1, retry_delay_seconds=5))
        for name in ("retry", "reject", "fine"):
            await lab.publish("work", QueueMessage(b"", message_id=name))
        await asyncio.sleep(20)
        assert broker.idle()
        assert [name for name, _ in handled] == ["retry", "reject", "fine", "retry"]
        dead = broker.messages("/queue/dlq")
        assert [(m.message_id, m.headers["factflow-dead-letter-reason"]) for m in dead] == [
            ("reject", "rejected"),
            ("retry", "retries-exhausted"),
        ]
        assert [message.source for message in broker.broker.ready("dlq")] == ["work", "work"]
        await worker.stop()
        await lab.stop()
        assert broker.idle()

    run(main)


def test_a_message_that_no_provider_wrote_ends_in_the_dead_letter_queue():
    async def main():
        broker = SimulatedBroker()
        worker = SimulatedQueueProvider(broker, client="worker")
        handled = []

        async def handler(message):
            handled.append(message.message_id)

        await worker.subscribe("work", handler)
        broker.enqueue("work", Message("poison", b"\xff"))
        broker.enqueue("work", Message("poison-2", object()))
        await worker.publish("work", QueueMessage(b"", message_id="fine"))
        await asyncio.sleep(1)
        assert handled == ["fine"]
        assert broker.broker.depth("dlq") == 2
        await worker.stop()

    run(main)


def test_inspection_takes_destinations_as_they_are_written():
    async def main():
        broker = SimulatedBroker()
        provider = SimulatedQueueProvider(broker)
        await (await provider.subscribe("/topic/news", print, subscription="audit")).close()
        await provider.publish("/topic/news", QueueMessage(b"", message_id="1"))
        await provider.publish("work", QueueMessage(b"", message_id="2"))
        assert [m.message_id for m in broker.messages("/topic/news", subscription="audit")] == ["1"]
        assert [m.message_id for m in broker.messages("/queue/work")] == ["2"]
        assert (broker.depth("work"), broker.purge("work"), broker.depth("work")) == (1, 1, 0)
        assert (broker.depth("nowhere"), broker.messages("nowhere"), broker.purge("nowhere")) == (0, [], 0)
        await provider.stop()

    run(main)


@pytest.mark.asyncio
async def test_it_runs_on_a_stock_loop_too():
    broker = SimulatedBroker()
    provider = SimulatedQueueProvider(broker)
    done = asyncio.Event()

    async def handler(_):
        done.set()

    async with provider:
        await provider.subscribe("work", handler)
        await provider.publish("work", QueueMessage(b""))
        await asyncio.wait_for(done.wait(), 5)


def test_bad_names_are_refused_before_anything_is_sent():
    async def main():
        broker = SimulatedBroker()
        provider = SimulatedQueueProvider(broker)
        with pytest.raises(InvalidDestinationError):
            await provider.publish("/odd/name", QueueMessage(b""))
        assert broker.broker.connections == {}
        await provider.stop()

    run(main)


async def publish_surely(provider, destination, message):
    """What a producer with an outbox does: again, until it is confirmed."""
    while True:
        try:
            await provider.publish(destination, message)
        except QueueError:
            await asyncio.sleep(0.2)
        else:
            return


def storm(profile, decisions):
    """A producer and two workers through the faults; returns what was confirmed, handled, and the events."""

    async def main():
        broker = SimulatedBroker(profile, decisions)
        events = []
        broker.observe(events.append)
        lab = SimulatedQueueProvider(broker)
        producer = SimulatedQueueProvider(broker, client="producer", exposed=True)
        handled = Counter()

        async def handler(message):
            await asyncio.sleep(0.01)
            await publish_surely(workers[0], "done", QueueMessage(b"", message_id=message.message_id))
            handled[message.message_id] += 1

        workers = [SimulatedQueueProvider(broker, client=f"worker-{n}", exposed=True) for n in range(2)]
        rules = ErrorHandling(max_retries=None, retry_delay_seconds=0.5)
        for worker in workers:
            while True:
                try:
                    await worker.subscribe("work", handler, concurrency=2, error_handling=rules)
                    break
                except QueueError:
                    await asyncio.sleep(0.2)
        sent = [f"m{n}" for n in range(6)]
        for name in sent[:3]:
            await lab.publish("work", QueueMessage(b"", message_id=name))
        for name in sent[3:]:
            await publish_surely(producer, "work", QueueMessage(b"", message_id=name))
        await asyncio.sleep(60)
        decisions.quiet()
        if broker.broker.stranded:
            broker.restart()
        await asyncio.sleep(400)
        pending = broker.pending()
        for provider in (lab, producer, *workers):
            await provider.stop()
        return sent, handled, events, pending

    return run(main)


@pytest.mark.parametrize("profile", PROFILES)
def test_nothing_is_lost_in_a_storm_of_faults(profile):
    fired = Counter()
    for seed in range(40):
        decisions = SwarmDecisions(seed, dict.fromkeys(BROKER_FAULTS, 0.08))
        sent, handled, events, pending = storm(profile, decisions)
        fired.update(fault.kind for fault in decisions.deviations)
        assert sorted(handled) == sent, (seed, decisions.deviations)
        assert pending == [], (seed, pending)
        seen = Counter()
        for event in events:
            if event.kind == "delivered":
                again = event.entry in seen
                seen[event.entry] += 1
                # A classic queue flags everything after a crash, on the real broker too.
                if profile in ("activemq-classic", "artemis", "pulsar"):
                    assert again or not event.redelivered
                else:
                    assert event.redelivered is again or (event.redelivered and profile == "rabbitmq-classic")
                if profile == "pulsar":  # it forgets the count with the last consumer
                    assert event.count in range(1, seen[event.entry] + 1)
                else:
                    assert event.count == (seen[event.entry] if profile == "rabbitmq-quorum" else None)
    assert set(fired) == set(faults_of(profile_named(profile)))


def test_a_storm_is_the_same_each_time_and_its_record_replays_it():
    def digest(decisions):
        random.seed(0)  # the engine's backoff has jitter; a Simulation seeds this
        _, handled, events, _ = storm("rabbitmq-quorum", decisions)
        return sorted(handled.items()), [(e.time, e.kind, e.queue, e.client, e.entry) for e in events]

    rates = dict.fromkeys(BROKER_FAULTS, 0.08)
    drawn = SwarmDecisions(3, rates)
    first = digest(drawn)
    assert digest(SwarmDecisions(3, rates)) == first
    replayed = PlannedDecisions(drawn.deviations)
    assert digest(replayed) == first
    assert replayed.deviations == drawn.deviations


def test_each_kind_of_fault_alone_loses_nothing():
    for kind, row in BROKER_FAULTS.items():
        profile = "rabbitmq-quorum" if kind in faults_of(profile_named("rabbitmq-quorum")) else "artemis"
        losses = [Fault("ack-lost", "work", 1)] if profile == "artemis" else []
        for choice in range(1, 1 + max(1, len(row.choices))):
            plan = [Fault(kind, queue, nth, choice) for queue in ("work", "done") for nth in (1, 2)]
            decisions = PlannedDecisions(plan + losses)
            sent, handled, _, pending = storm(profile, decisions)
            assert sorted(handled) == sent, (kind, choice)
            assert pending == [], (kind, choice)
            if choice == 1:
                assert kind in {fault.kind for fault in decisions.deviations}
