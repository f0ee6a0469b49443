"""Routing: which queues get a message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factflow_infra_testing.broker.entries import Message
from factflow_infra_testing.broker.exchanges import ExchangeKind, headers_match, topic_matches
from factflow_infra_testing.broker.model import Broker
from factflow_infra_testing.broker.outcomes import Outcome
from factflow_infra_testing.broker.profiles import profile_named
from factflow_infra_testing.search.decisions import PlannedDecisions


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("*.b", "a.b", True),
        ("*", "a.b", False),
        ("#", "", True),
        ("#", "a.b.c", True),
        ("a.#", "a", True),
        ("a.#.c", "a.c", True),
        ("a.#.c", "a.b.b.c", True),
        ("a.#.c", "a.b.b.d", False),
        ("#.#", "a", True),
        ("*.#.*", "a", False),
        ("*.#.*", "a.b", True),
        ("a.*", "a.", True),
    ],
)
def test_topic_patterns(pattern, key, matches):
    assert topic_matches(pattern.split("."), key.split(".")) is matches


def reference(pattern, words):
    """The obvious recursive definition."""
    if not pattern:
        return not words
    head, rest = pattern[0], pattern[1:]
    if head == "#":
        return any(reference(rest, words[at:]) for at in range(len(words) + 1))
    return bool(words) and head in ("*", words[0]) and reference(rest, words[1:])


@given(st.lists(st.sampled_from("ab*#"), max_size=6), st.lists(st.sampled_from("ab"), max_size=6))
def test_topic_patterns_match_as_defined(pattern, words):
    assert topic_matches(pattern, words) is reference(pattern, words)


@pytest.mark.parametrize(
    ("arguments", "headers", "matches"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}, True),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"a": 1, "b": 2, "x-match": "any"}, {"a": 1}, True),
        ({"a": 1, "x-match": "any"}, {"a": 2}, False),
        ({"x-match": "all", "x-own": 1}, {}, True),
        ({"x-match": "all-with-x", "x-own": 1}, {}, False),
        ({"a": None}, {"a": "anything"}, True),
        ({}, {}, True),
    ],
)
def test_headers(arguments, headers, matches):
    assert headers_match(arguments, headers) is matches


def test_routing_by_kind():
    broker = Broker(profile_named("rabbitmq-classic"), PlannedDecisions())
    for name in "pqr":
        broker.declare_queue(name)
    for kind in ExchangeKind:
        broker.declare_exchange(kind.value, kind)
    for exchange in ("fanout", "direct", "topic"):
        broker.bind("p", exchange, "k.1")
        broker.bind("p", exchange, "k.1")
        broker.bind("q", exchange, "k.2")
        broker.bind("q", exchange, "k.*")
    broker.bind("r", "headers", "", {"kind": "x"})

    def publish(exchange, key, headers=None):
        outcome = broker.publish(exchange, key, Message("m", None, headers=headers))
        found = "".join(name for name in broker.queues for _ in range(broker.purge(name)))
        return found if outcome is Outcome.ROUTED else outcome

    assert publish("fanout", "whatever") == "pq", "each queue once, however often it is bound"
    assert publish("direct", "k.1") == "p"
    assert publish("direct", "k.3") is Outcome.UNROUTED
    assert publish("topic", "k.1") == "pq"
    assert publish("headers", "", {"kind": "x"}) == "r"
    assert publish("headers", "") is Outcome.UNROUTED
    broker.delete_queue("p")
    assert publish("fanout", "") == "q"
