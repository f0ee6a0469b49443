"""The state machine under arbitrary sequences of requests: what must hold on every broker, whatever happens."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from factflow_infra_testing.broker.entries import Message
from factflow_infra_testing.broker.model import Broker
from factflow_infra_testing.broker.profiles import profile_named
from factflow_infra_testing.broker.queue_types import Back, Flags
from factflow_infra_testing.broker.queues import QueueOptions
from factflow_infra_testing.search.decisions import PlannedDecisions

QUEUES = st.sampled_from(["p", "q"])


class BrokerMachine(RuleBasedStateMachine):
    """No message is lost or made up; no consumer holds more than its prefetch; flags and counts tell the truth."""

    profile = "rabbitmq-classic"
    limit: int | None = None
    sessions = Bundle("sessions")
    consumers = Bundle("consumers")

    def __init__(self):
        super().__init__()
        self.broker = Broker(profile_named(self.profile), PlannedDecisions())
        options = QueueOptions(delivery_limit=self.limit, dead_letter_exchange="", dead_letter_key="dlq")
        for name in ("p", "q"):
            self.broker.declare_queue(name, options=options)
        self.broker.declare_queue("dlq")
        self.broker.declare_exchange("topic")
        for name in ("p", "q"):
            self.broker.bind(name, "topic")
        self.sent = Counter()
        self.gone = Counter()  # acked, or transient at a restart
        self.returns = Counter()
        self.held = {}
        self.number = 0
        self.late = set()
        self.given = set()
        self.order = {"p": [], "q": []}
        self.now = 0.0

    def message(self, *, persistent=True):
        self.number += 1
        return Message(f"m{self.number:04}", None, persistent=persistent)

    @rule(target=sessions)
    def open(self):
        return self.broker.open_session(self.broker.open_connection("c"))

    @rule(queue=QUEUES)
    def publish(self, queue):
        message = self.message()
        self.sent[queue, message.key] += 1
        self.broker.publish("", queue, message)

    @rule()
    def publish_to_both(self):
        message = self.message()
        for queue in ("p", "q"):
            self.sent[queue, message.key] += 1
        self.broker.publish("topic", "", message)

    @rule(queue=QUEUES, delay=st.sampled_from([0.5, 1.0, 2.0]))
    def publish_later(self, queue, delay):
        message = self.message()
        self.sent[queue, message.key] += 1
        self.late.add(message.key)
        self.broker.schedule(self.now + delay, "", queue, message)

    @rule(seconds=st.sampled_from([0.5, 1.0]))
    def wait(self, seconds):
        self.now += seconds
        self.broker.advance(self.now)
        assert self.broker.next_due() > self.now

    @rule(target=consumers, session=sessions, queue=QUEUES, limit=st.integers(0, 3))
    def consume(self, session, queue, limit):
        if not session.open:
            return None
        return self.broker.consume(session, queue, partial(self.delivered, queue, limit), limit=limit)

    def delivered(self, queue, limit, delivery):
        key = (queue, delivery.entry.message.key)
        assert key not in self.held, "one copy, two holders"
        assert delivery.redelivered == bool(self.returns[key])
        if delivery.count is not None:
            assert delivery.count == self.returns[key] + 1
        if key not in self.given:
            self.given.add(key)
            self.order[queue].append(key[1])
        self.held[key] = delivery
        if limit:
            assert delivery.consumer.held <= limit

    @rule(consumer=consumes(consumers))
    def cancel(self, consumer):
        if consumer is not None:
            self.broker.cancel(consumer)

    @rule(data=st.data(), how=st.sampled_from(["ack", "nack", "reject"]))
    def settle(self, data, how):
        if not self.held:
            return
        key = data.draw(st.sampled_from(sorted(self.held)))
        delivery = self.held.pop(key)
        if how == "ack":
            self.gone[key] += 1
            assert self.broker.ack(delivery)
        elif how == "nack":
            self.returns[key] += delivery.queue.type.flags(Back.NACKED) is Flags.ALL
            assert self.broker.nack(delivery, requeue=True)
        else:
            assert self.broker.nack(delivery, requeue=False)
        assert not self.broker.ack(delivery)

    def lose(self, session, back=Back.LOST):
        seen = set()
        for delivery in session.unacked.values():
            key = (delivery.queue.name, delivery.entry.message.key)
            del self.held[key]
            oldest = delivery.queue not in seen
            seen.add(delivery.queue)
            flags = delivery.queue.type.flags(back)
            self.returns[key] += flags is Flags.ALL or flags is Flags.KEPT or (oldest and flags is Flags.OLDEST)

    @rule(session=consumes(sessions), whole=st.booleans())
    def close(self, session, whole):
        self.lose(session, Back.LOST if whole else Back.ENDED)
        left = {consumer.queue for consumer in session.consumers}
        self.end(session, whole)
        for queue in left:
            if queue.type.forgets_counts and not queue.consumers:
                for entry in queue:
                    self.returns[queue.name, entry.message.key] = 0

    def end(self, session, whole):
        if whole:
            self.broker.close_connection(session.connection)
        else:
            self.broker.close_session(session)

    @rule()
    def restart(self):
        for connection in self.broker.connections:
            for session in connection.sessions:
                self.lose(session)
        self.broker.restart()

    @invariant()
    def nothing_is_lost_or_made_up(self):
        found = Counter()
        for queue in ("p", "q"):
            for message in self.broker.ready(queue):
                found[queue, message.key] += 1
            for _, _, entry in self.broker.queues[queue].waiting:
                found[queue, entry.message.key] += 1
        for message in self.broker.ready("dlq"):
            found[message.deaths[-1].queue, message.key] += 1
        for _, _, queue, message in self.broker.scheduled:
            found[queue, message.key] += 1
        found.update(self.held.keys())
        found.update(self.gone)
        assert found == self.sent

    @invariant()
    def depths_add_up(self):
        for queue in ("p", "q"):
            held = sum(name == queue for name, _ in self.held)
            assert self.broker.unacked(queue) == held
            waiting = len(self.broker.queues[queue].waiting)
            assert self.broker.depth(queue) == len(self.broker.ready(queue)) + waiting + held

    @invariant()
    def first_deliveries_are_in_order(self):
        for queue, keys in self.order.items():
            prompt = [key for key in keys if key not in self.late]
            assert prompt == sorted(prompt), queue

    @invariant()
    def nobody_waits_in_vain(self):
        for queue in self.broker.queues.values():
            if len(queue):
                assert not any(consumer.has_credit() for consumer in queue.consumers)


def machine(name, profile, limit=None):
    return type(name, (BrokerMachine,), {"profile": profile, "limit": limit})


@pytest.mark.parametrize(
    ("profile", "limit"),
    [
        ("artemis", None),
        ("artemis", 2),
        ("pulsar", None),
        ("rabbitmq-classic", None),
        ("rabbitmq-quorum", None),
        ("rabbitmq-quorum", 2),
    ],
)
def test_invariants(profile, limit):
    case = machine("Machine", profile, limit).TestCase
    case.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
    case("runTest").runTest()
