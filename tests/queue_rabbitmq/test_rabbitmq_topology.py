"""Names, arguments and routes on RabbitMQ, and the steps that delays are rounded to."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factflow_infra.queue.naming import AmqpNamingStrategy
from factflow_infra.queue.rabbitmq.delays import DELAY_STEPS_MS, MAX_DELAY_SECONDS, delay_step
from factflow_infra.queue.rabbitmq.topology import (
    ExchangeBinding,
    ExchangeSpec,
    QueueBinding,
    QueueSpec,
    Topology,
)
from factflow_infra.queue.transport import Address

naming = AmqpNamingStrategy()


def address(text: str, subscription: str | None = None, *, durable: bool = True) -> Address:
    return Address(naming.destination(text), subscription, durable)


def topology(queue_type: str = "quorum", version: tuple[int, ...] = (3, 10, 8)) -> Topology:
    return Topology(queue_type, version)


class TestDelaySteps:
    @given(st.floats(0, MAX_DELAY_SECONDS))
    def test_never_shorter_and_not_much_longer(self, delay: float) -> None:
        step = delay_step(delay)
        assert step == 0 if delay == 0 else step in DELAY_STEPS_MS
        assert step >= delay * 1000 - 1e-3
        assert step <= max(10.0, delay * 1000 + 10, delay * 1000 * 4 / 3)

    @pytest.mark.parametrize("seconds", [0.01, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 600, 900, 3600, 86400, 7 * 86400])
    def test_what_people_write_is_exact(self, seconds: float) -> None:
        assert delay_step(seconds) == seconds * 1000

    def test_floating_point_does_not_reach_the_next_step(self) -> None:
        assert delay_step(0.1 + 0.2) == 300

    def test_steps_are_few_and_ascending(self) -> None:
        assert all(low < high for low, high in itertools.pairwise(DELAY_STEPS_MS))
        assert len(DELAY_STEPS_MS) < 100
        assert all(step == int(step) for step in DELAY_STEPS_MS)

    @pytest.mark.parametrize("delay", [-1.0, math.nan, math.inf, MAX_DELAY_SECONDS + 1])
    def test_refused(self, delay: float) -> None:
        with pytest.raises(ValueError, match="delay"):
            delay_step(delay)


class TestNames:
    def test_no_two_things_share_a_queue(self) -> None:
        texts = [
            "a",
            "a/b",
            "a-.sub.b",
            "a-.delay.10",
            "/topic/a",
            "/topic/a-.delayed",
            "exec:1:a",
            "amq.a",
            "/queue/a b",
        ]
        plan = topology()
        queues: dict[str, object] = {}
        for text in texts:
            kinds: list[tuple[Address, int]] = [(address(text), delay) for delay in (0, 10, 20)]
            if text.startswith("/topic/"):
                kinds += [(address(text, "s"), 0), (address(text, "s"), 10), (address(text, "s", durable=False), 0)]
                kinds = [kind for kind in kinds if kind[0].subscription or kind[1]]
            for kind in kinds:
                name = plan.route(*kind).routing_key
                assert queues.setdefault(name, kind) == kind
                assert len(name) <= 255

    @given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60))
    def test_the_longest_derived_name_fits(self, name: str) -> None:
        try:
            target = address(f"/topic/{name}", None)
            naming.check_subscription(target.destination, name)
        except ValueError:
            return
        for route in (
            topology().route(target, DELAY_STEPS_MS[-1]),
            topology().route(Address(target.destination, name), DELAY_STEPS_MS[-1]),
        ):
            assert all(len(part.name.encode()) <= 255 for part in route.declarations if isinstance(part, QueueSpec))


class TestArguments:
    @pytest.mark.parametrize(
        ("queue_type", "version", "arguments"),
        [
            ("quorum", (3, 10, 8), {"x-queue-type": "quorum"}),
            ("classic", (3, 10, 8), {"x-queue-type": "classic"}),
            ("quorum", (4, 0, 2), {"x-queue-type": "quorum", "x-delivery-limit": -1}),
            ("classic", (4, 0, 2), {"x-queue-type": "classic"}),
        ],
    )
    def test_of_a_queue(self, queue_type: str, version: tuple[int, ...], arguments: dict[str, Any]) -> None:
        queue, needed = topology(queue_type, version).source(address("q"))
        assert dict(queue.arguments) == arguments
        assert needed == (queue,)
        assert not queue.exclusive

    def test_only_quorum_queues_count(self) -> None:
        assert topology().counts_deliveries(topology().source(address("q"))[0])
        assert not topology("classic").counts_deliveries(topology("classic").source(address("q"))[0])
        assert not topology().counts_deliveries(topology().source(address("/topic/t", "u", durable=False))[0])

    @pytest.mark.parametrize("queue_type", ["quorum", "classic"])
    def test_delays_are_kept_safely_whatever_the_queue_type(self, queue_type: str) -> None:
        route = topology(queue_type).route(address("q"), 10_000)
        target, waiting = route.declarations
        assert isinstance(target, QueueSpec)
        assert isinstance(waiting, QueueSpec)
        assert (route.exchange, route.routing_key, route.mandatory) == ("", "q-.delay.10000", True)
        assert waiting.name == route.routing_key
        assert dict(waiting.arguments) == {
            "x-queue-type": "quorum",
            "x-message-ttl": 10_000,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "q",
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }

    def test_an_old_broker_gets_what_it_can_do(self) -> None:
        waiting = topology(version=(3, 9, 1)).route(address("q"), 10).declarations[-1]
        assert isinstance(waiting, QueueSpec)
        assert waiting.arguments["x-queue-type"] == "classic"
        assert "x-dead-letter-strategy" not in waiting.arguments


class TestTopics:
    def test_to_the_whole_topic(self) -> None:
        route = topology().route(address("/topic/t"), 0)
        assert (route.exchange, route.routing_key, route.mandatory) == ("t", "", False)
        assert route.declarations == (ExchangeSpec("t"),)

    def test_from_a_subscription(self) -> None:
        queue, needed = topology().source(address("/topic/t", "s"))
        assert needed == (ExchangeSpec("t"), queue, QueueBinding("t-.sub.s", "t"))

    def test_a_retry_reaches_its_subscription_alone(self) -> None:
        route = topology().route(address("/topic/t", "s"), 0)
        assert (route.exchange, route.routing_key, route.mandatory) == ("", "t-.sub.s", True)

    def test_unnamed_goes_with_its_connection(self) -> None:
        queue, _ = topology().source(address("/topic/t", "u", durable=False))
        assert queue.exclusive
        waiting = topology().route(address("/topic/t", "u", durable=False), 10).declarations[-1]
        assert isinstance(waiting, QueueSpec)
        assert waiting.exclusive

    def test_delayed_to_all(self) -> None:
        route = topology().route(address("/topic/t"), 10)
        assert ExchangeBinding("t", "t-.delayed") in route.declarations
        waiting = route.declarations[-1]
        assert isinstance(waiting, QueueSpec)
        assert waiting.arguments["x-dead-letter-exchange"] == "t-.delayed"
