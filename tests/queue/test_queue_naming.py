"""Names: what is refused, that encoding is reversible and without collisions, and the form of timestamps."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factflow_infra.errors import InvalidDestinationError, InvalidMessageError, SettingsError
from factflow_infra.queue.naming import (
    AmqpNamingStrategy,
    NamingStrategyRegistry,
    PulsarNamingStrategy,
    StompNamingStrategy,
)
from factflow_infra.queue.timestamps import format_timestamp, parse_timestamp
from factflow_infra.queue.transport import DestinationKind

AMQP = AmqpNamingStrategy()
STRATEGIES = {"amqp": AMQP, "pulsar": PulsarNamingStrategy(), "stomp": StompNamingStrategy()}

# Short, and rich in what the encodings themselves use.
TRICKY = st.text(st.sampled_from("amq.-:_%2DFf0 /éß漢😀*#partition-7sub"), min_size=1, max_size=14)
relaxed = settings(deadline=None)
NAMES = st.one_of(TRICKY, st.text(min_size=1, max_size=14))


def readable(strategy, text):
    try:
        return strategy.destination(text)
    except InvalidDestinationError:
        return None


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("orders", "queue", "orders"),
        ("/queue/orders", "queue", "orders"),
        ("/topic/orders", "topic", "orders"),
        ("exec:42:orders", "queue", "exec:42:orders"),
        ("/queue/42/orders", "queue", "42/orders"),
        ("queue/orders", "queue", "queue/orders"),
        ("/queue/queue/orders", "queue", "queue/orders"),
    ],
)
@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=list(STRATEGIES))
def test_destinations_that_every_broker_takes(strategy, text, kind, name):
    destination = strategy.destination(text)
    assert (destination.kind, destination.name, destination.text) == (kind, name, text)
    again = strategy.decode(strategy.encode(destination), destination.kind)
    assert (again.kind, again.name) == (kind, name)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "'' has an empty name"),
        ("/queue/", "'/queue/' has an empty name"),
        ("/", "starts with '/'"),
        ("/queues/a", "'/queues/a' starts with '/'"),
        ("/Queue/a", "'/Queue/a'"),
        ("/queue//a", "empty part"),
        ("a/", "empty part"),
        (" a", "starts or ends with white space"),
        ("a\u2003", "starts or ends with white space"),
        ("a\x00", "control character '\\x00'"),
        ("a\x7f", "control character '\\x7f'"),
        ("a\u0085b", "control character '\\x85'"),
        ("a\udfff", "lone surrogate"),
        ("é" * 513, "1026 bytes; at most 1024"),
        (7, "must be a str, got int: 7"),
        (b"a", "must be a str, got bytes: b'a'"),
    ],
)
@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=list(STRATEGIES))
def test_destinations_that_no_broker_takes(strategy, text, part):
    with pytest.raises(InvalidDestinationError) as caught:
        strategy.destination(text)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("orders.new_2:x-y", "orders.new_2:x-y"),
        ("exec:1:in", "exec:1:in"),
        ("1/in", "1-.2F.in"),
        ("a b", "a-.20.b"),
        ("漢/字", "-.E6BCA22FE5AD97."),
        ("a-.b", "a-.2D..b"),
        ("-.2F.", "-.2D..2F."),
        ("--.", "--.2D.."),
        ("amq.direct", "-.61.mq.direct"),
        ("amqp", "amqp"),
    ],
)
def test_amqp_names(name, encoded):
    assert AMQP.encode_name(name) == encoded
    assert AMQP.decode_name(encoded) == name


@pytest.mark.parametrize(
    "encoded", ["", "a/b", "a-.b", "-.2f.", "-.2.", "-.FF.", "-.61.", "amq.x", "x-.sub.y", "-.2F.-.2F."]
)
def test_what_amqp_encoding_never_gives_is_refused(encoded):
    with pytest.raises(InvalidDestinationError):
        AMQP.decode_name(encoded)


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=list(STRATEGIES))
@relaxed
@given(name=NAMES, topic=st.booleans())
def test_encoding_is_reversible(strategy, name, topic):
    destination = readable(strategy, ("/topic/" if topic else "/queue/") + name)
    if destination is not None:
        encoded = strategy.encode(destination)
        again = strategy.decode(encoded, destination.kind)
        assert (again.kind, again.name) == (destination.kind, destination.name)


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=list(STRATEGIES))
@relaxed
@given(one=NAMES, other=NAMES)
def test_no_two_destinations_share_a_name(strategy, one, other):
    first = readable(strategy, "/queue/" + one)
    texts = [one, other]
    if first is not None:
        # A name that is another's encoding: what a random pair would hardly hit.
        texts += [AMQP.encode_name(one), strategy.encode(first).removeprefix("persistent://public/default/queue.")]
    read = [readable(strategy, "/queue/" + text) for text in texts]
    destinations = [destination for destination in read if destination is not None]
    names = {destination.name for destination in destinations}
    assert len({strategy.encode(destination) for destination in destinations}) == len(names)


@relaxed
@given(topic=NAMES, subscription=NAMES, queue=NAMES, other=NAMES)
def test_amqp_names_are_legal_and_derived_ones_meet_no_destination(topic, subscription, queue, other):
    one = readable(AMQP, "/topic/" + topic)
    two = readable(AMQP, "/queue/" + queue)
    for destination in filter(None, (one, two)):
        encoded = AMQP.encode(destination)
        assert re.fullmatch(r"[a-zA-Z0-9_\-.:]+", encoded)
        assert not encoded.startswith("amq.")
        assert len(encoded) <= 215
        with pytest.raises(InvalidDestinationError):
            AMQP.decode_name(AMQP.derived(encoded, "retry", "10000"))
    if one is not None:
        try:
            AMQP.check_subscription(one, subscription)
            AMQP.check_subscription(one, other)
        except InvalidDestinationError:
            return
        mine, others = (AMQP.subscription_queue(one, name) for name in (subscription, other))
        assert (mine == others) is (subscription == other)
        if two is not None:
            assert mine != AMQP.encode(two)


@pytest.mark.parametrize("special", ["a*", "a#", "a>", "a,b", "a?b", "a::b"])
def test_stomp_refuses_what_its_brokers_give_a_meaning(special):
    with pytest.raises(InvalidDestinationError, match="wildcard or a separator"):
        StompNamingStrategy().destination(special)


def test_pulsar_names():
    strategy = PulsarNamingStrategy(tenant="acme", namespace="facts")
    assert strategy.encode(strategy.destination("a/b c")) == "persistent://acme/facts/queue.a%2Fb%20c"
    assert strategy.encode(strategy.destination("/topic/t")) == "persistent://acme/facts/topic.t"
    assert strategy.encode(strategy.destination("t-partition-3")).endswith("queue.t%2Dpartition-3")
    for bad in (
        "persistent://other/facts/queue.a",
        "persistent://acme/facts/a",
        "persistent://acme/facts/queue.a%2f",
        "",
    ):
        with pytest.raises(InvalidDestinationError):
            strategy.decode(bad)
    with pytest.raises(SettingsError, match=r"tenant.*'a/b'"):
        PulsarNamingStrategy(tenant="a/b")


def test_stomp_decodes_only_full_destinations():
    with pytest.raises(InvalidDestinationError, match="needs its /queue/ or /topic/"):
        StompNamingStrategy().decode("orders")


def test_registry():
    registry = NamingStrategyRegistry()
    assert registry.names == ("amqp", "pulsar", "stomp")
    assert isinstance(registry.get("stomp"), StompNamingStrategy)
    for unknown in ("kafka", None, []):
        with pytest.raises(SettingsError, match="known: amqp, pulsar, stomp"):
            registry.get(unknown)
    registry.register("kafka", AMQP)
    assert registry.get("kafka") is AMQP
    with pytest.raises(SettingsError, match="'kafka' is registered already"):
        registry.register("kafka", AMQP)
    assert "kafka" not in NamingStrategyRegistry().names


@relaxed
@given(
    st.datetimes(
        timezones=st.one_of(
            st.just(UTC), st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
        )
    )
)
def test_timestamps_round_trip(moment):
    text = format_timestamp(moment)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d", text)
    assert parse_timestamp(text) == moment
    assert parse_timestamp(text).utcoffset() == moment.utcoffset()


def test_the_form_of_timestamps():
    assert format_timestamp(datetime(2026, 4, 22, 18, 30, tzinfo=UTC)) == "2026-04-22T18:30:00.000000+00:00"
    with pytest.raises(InvalidMessageError, match="time zone"):
        format_timestamp(datetime(2026, 4, 22))  # noqa: DTZ001
    for bad in (
        "2026-04-22T18:30:00+00:00",
        "2026-04-22T18:30:00.123456Z",
        "2026-04-22 18:30:00.123456+00:00",
        "2026-13-22T18:30:00.123456+00:00",
        "٢026-04-22T18:30:00.123456+00:00",
        "",
    ):
        with pytest.raises(InvalidMessageError, match="timestamp"):
            parse_timestamp(bad)


def test_kind_of_an_amqp_name_is_told_by_the_caller():
    assert AMQP.decode("a", DestinationKind.TOPIC).text == "/topic/a"
