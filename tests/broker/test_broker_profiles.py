"""Each row of the profile table against what the real broker was seen to do (``docs/facts.md``)."""

from __future__ import annotations

from dataclasses import fields

import pytest

from factflow_infra.errors import SettingsError
from factflow_infra_testing.broker.entries import Message
from factflow_infra_testing.broker.errors import RefusalCode, RefusedError
from factflow_infra_testing.broker.exchanges import ExchangeKind
from factflow_infra_testing.broker.model import Broker
from factflow_infra_testing.broker.outcomes import Outcome
from factflow_infra_testing.broker.profiles import PROFILES, profile_named
from factflow_infra_testing.broker.queues import Overflow, QueueOptions
from factflow_infra_testing.search.decisions import Fault, PlannedDecisions

CLASSIC, QUORUM, LIMITED = "rabbitmq-classic", "rabbitmq-quorum", "rabbitmq-quorum with a delivery limit"
LIMIT = 3


class Bench:
    """A broker with one queue ``q`` (dead letters in ``dlq``), and what its consumers were given."""

    def __init__(self, row: str = CLASSIC, faults=(), **options):
        if row == LIMITED:
            options.setdefault("delivery_limit", LIMIT)
            options.setdefault("dead_letter_exchange", "")
            options.setdefault("dead_letter_key", "dlq")
        self.events = []
        self.broker = Broker(
            profile_named(QUORUM if row == LIMITED else row), PlannedDecisions(faults), observer=self.events.append
        )
        self.queue = self.broker.declare_queue("q", options=QueueOptions(**options))
        self.broker.declare_queue("dlq")
        self.seen = []

    def publish(self, names, queue="q", **how):
        for name in names:
            self.broker.publish("", queue, Message(name, None, **how))

    def session(self, client="client", *, laboratory=False, limit=0):
        return self.broker.open_session(self.broker.open_connection(client, laboratory=laboratory), limit=limit)

    def consume(self, label="", limit=0, session=None, **how):
        """A consumer, and the list of its deliveries."""
        got = []

        def deliver(delivery):
            got.append(delivery)
            self.seen.append(label + shown(delivery))

        consumer = self.broker.consume(session or self.session(label), "q", deliver, limit=limit, **how)
        return consumer, got

    def hold(self, count):
        """Take ``count`` messages with a consumer that is then cancelled: they stay unacked."""
        consumer, got = self.consume(limit=count)
        self.broker.cancel(consumer)
        return consumer.session, got

    def drain(self, queue="q"):
        session, found = self.session(), []
        while (delivery := self.broker.get(session, queue, auto_ack=True)) is not None:
            found.append(shown(delivery))
        return " ".join(found)


def shown(delivery):
    count = f"c{delivery.count - 1}" if delivery.count is not None and delivery.count > 1 else ""
    return f"{delivery.entry.message.key}{'R' if delivery.redelivered else ''}{count}"


@pytest.mark.parametrize(
    ("row", "nacked", "expected"),
    [
        (CLASSIC, [2], "2R 6 7"),
        (CLASSIC, [4, 2], "2R 4R 6 7"),
        (CLASSIC, [3, 1, 5], "1R 3R 5R 6 7"),
        (QUORUM, [2], "6 7 2Rc1"),
        (QUORUM, [4, 2], "6 7 4Rc1 2Rc1"),
        (LIMITED, [2], "2Rc1 6 7"),
        (LIMITED, [4, 2], "4Rc1 2Rc1 6 7"),
        (LIMITED, [3, 1, 5], "3Rc1 1Rc1 5Rc1 6 7"),
    ],
)
def test_where_nacked_messages_go(row, nacked, expected):
    bench = Bench(row)
    bench.publish("1234567")
    _, got = bench.hold(5)
    for number in nacked:
        assert bench.broker.nack(got[number - 1], requeue=True)
    assert bench.drain() == expected


@pytest.mark.parametrize(
    ("row", "expected"),
    [(CLASSIC, "1R 3R 4R 5 6"), (QUORUM, "1Rc1 3Rc1 4Rc1 5 6"), (LIMITED, "1Rc1 3Rc1 4Rc1 5 6")],
)
@pytest.mark.parametrize("connection", [False, True])
def test_what_a_lost_session_held_comes_back_in_order(row, expected, connection):
    bench = Bench(row)
    bench.publish("123456")
    session, got = bench.hold(4)
    bench.broker.ack(got[1])
    if connection:
        bench.broker.close_connection(session.connection)
    else:
        bench.broker.close_session(session)
    assert bench.drain() == expected
    assert not bench.broker.ack(got[0]), "an ack from before is no ack of the copy that came back"


@pytest.mark.parametrize(
    ("row", "expected"),
    [(CLASSIC, "1R 2R 3R 4R 5"), (QUORUM, "3Rc1 4Rc1 1Rc1 2Rc1 5"), (LIMITED, "3Rc1 4Rc1 1Rc1 2Rc1 5")],
)
def test_order_among_what_two_sessions_gave_back(row, expected):
    bench = Bench(row)
    bench.publish("12345")
    (first, _), (second, _) = bench.hold(2), bench.hold(2)
    bench.broker.close_session(second)
    bench.broker.close_session(first)
    assert bench.drain() == expected


@pytest.mark.parametrize(
    ("row", "how", "expected"),
    [
        (CLASSIC, "nack", "1 1R 1R 1R 1R 1R"),
        (QUORUM, "nack", "1 2 1Rc1 2Rc1 1Rc2 2Rc2"),
        (LIMITED, "nack", "1 1Rc1 1Rc2 1Rc3 2 2Rc1"),
        (CLASSIC, "close", "1 1R 1R 1R 1R 1R"),
        (QUORUM, "close", "1 1Rc1 1Rc2 1Rc3 1Rc4 1Rc5"),
        (LIMITED, "close", "1 1Rc1 1Rc2 1Rc3 2 2Rc1"),
    ],
)
def test_counts_and_the_delivery_limit(row, how, expected):
    bench = Bench(row)
    bench.publish("12")
    for _ in range(6):
        session, got = bench.hold(1)
        if how == "nack":
            bench.broker.nack(got[0], requeue=True)
        bench.broker.close_session(session)
    assert " ".join(bench.seen) == expected
    dead = bench.broker.ready("dlq")
    assert [message.key for message in dead] == (["1"] if row == LIMITED else [])
    if dead:
        assert [death.reason for death in dead[0].deaths] == ["delivery_limit"]
        assert bench.drain("dlq") == "1", "a dead letter starts unflagged"


@pytest.mark.parametrize("row", [CLASSIC, QUORUM, LIMITED])
@pytest.mark.parametrize(
    ("limits", "published", "acks", "expected"),
    [
        ((1, 1, 1), "12345", ["B0", "C0"], "A1 B2 C3 B4 C5"),
        ((2, 2), "123456", ["A0", "A1"], "A1 B2 A3 B4 A5 A6"),
        ((2, 5), "123456789", ["A0", "A1"], "A1 B2 A3 B4 B5 B6 B7 A8 A9"),
        ((0, 0, 0), "123456789", [], "A1 B2 C3 A4 B5 C6 A7 B8 C9"),
    ],
)
def test_consumers_take_turns_up_to_their_prefetch(row, limits, published, acks, expected):
    bench = Bench(row)
    consumers = {"ABC"[at]: bench.consume("ABC"[at], limit=limit)[1] for at, limit in enumerate(limits)}
    bench.publish(published)
    for ack in acks:
        bench.broker.ack(consumers[ack[0]][int(ack[1])])
    assert " ".join(bench.seen) == expected


@pytest.mark.parametrize(("row", "expected"), [(CLASSIC, "A1 B1R"), (QUORUM, "A1 B1Rc1"), (LIMITED, "A1 B1Rc1")])
def test_a_nacked_message_goes_to_the_next_in_turn(row, expected):
    bench = Bench(row)
    _, got = bench.consume("A", limit=1)
    bench.consume("B", limit=1)
    bench.publish("1")
    bench.broker.nack(got[0], requeue=True)
    assert " ".join(bench.seen) == expected


@pytest.mark.parametrize(("row", "expected"), [(CLASSIC, "A1 A2 B3"), (QUORUM, "A1 B2 A3"), (LIMITED, "A1 B2 A3")])
def test_a_full_consumer_leaves_the_line_at_once_or_when_its_turn_comes(row, expected):
    bench = Bench(row)
    _, got = bench.consume("A", limit=1)
    bench.publish("1")
    bench.consume("B", limit=1)
    bench.broker.ack(got[0])
    bench.publish("23")
    assert " ".join(bench.seen) == expected


def test_a_nack_past_the_delivery_limit_gives_room_for_two():
    bench = Bench(LIMITED, delivery_limit=1)
    _, got = bench.consume(limit=1)
    bench.publish("1234")
    bench.broker.nack(got[0], requeue=True)
    assert " ".join(bench.seen) == "1 1Rc1"
    bench.broker.nack(got[1], requeue=True)
    assert " ".join(bench.seen) == "1 1Rc1 2 3"
    bench.broker.ack(got[2])
    assert " ".join(bench.seen) == "1 1Rc1 2 3 4"


@pytest.mark.parametrize(
    ("row", "expected"), [(CLASSIC, "A1 B2 A3 B4 A1R"), (QUORUM, "A1 B2 A3 B4 A5"), (LIMITED, "A1 B2 A3 B4 A1Rc1")]
)
def test_a_nacked_message_goes_to_the_nacking_consumer_where_no_other_has_room(row, expected):
    bench = Bench(row)
    _, got = bench.consume("A", limit=2)
    bench.consume("B", limit=2)
    bench.publish("123456")
    bench.broker.nack(got[0], requeue=True)
    assert " ".join(bench.seen) == expected


@pytest.mark.parametrize(
    ("row", "crash", "expected"),
    [
        (CLASSIC, False, "2R 3R 4R 5 8"),
        (CLASSIC, True, "2R 3R 4R 5R 8R"),
        (QUORUM, False, "2Rc1 3Rc1 5 6t 7t 8 4Rc1"),
        (LIMITED, False, "4Rc1 2Rc1 3Rc1 5 6t 7t 8"),
    ],
)
def test_what_a_restart_keeps(row, crash, expected):
    bench = Bench(row)
    bench.publish("12345")
    bench.publish(["6t", "7t"], persistent=False)
    bench.publish("8")
    consumer, got = bench.consume(limit=2)
    bench.broker.ack(got[0])
    assert len(got) == 3
    bench.broker.cancel(consumer)
    _, fourth = bench.hold(1)
    bench.broker.nack(fourth[0], requeue=True)
    bench.broker.declare_queue("transient", durable=False)
    exclusive = bench.session()
    bench.broker.declare_queue("exclusive", owner=exclusive.connection)
    bench.broker.restart(crash=crash)
    assert bench.drain() == expected
    assert sorted(bench.broker.queues) == ["dlq", "q"]
    assert not bench.broker.ack(got[1])


def test_a_restart_that_spares_the_laboratory():
    bench = Bench()
    bench.publish("12")
    session = bench.session(laboratory=True)
    consumer, got = bench.consume("lab", limit=1, session=session)
    bench.broker.declare_queue("mine", owner=session.connection)
    bench.broker.restart(spare_laboratory=True)
    assert "mine" in bench.broker.queues
    assert bench.broker.ack(got[0])
    assert consumer.active
    assert " ".join(bench.seen) == "lab1 lab2"


def test_cancelled_consumers_messages_stay_ackable_and_no_more_come():
    bench = Bench()
    consumer, got = bench.consume(limit=2)
    bench.publish("123")
    bench.broker.cancel(consumer)
    bench.broker.cancel(consumer)
    assert bench.broker.ack(got[0])
    assert not bench.broker.ack(got[0])
    assert (bench.broker.depth("q"), bench.broker.unacked("q")) == (2, 1)
    assert len(got) == 2


@pytest.mark.parametrize("row", [CLASSIC, QUORUM])
def test_rejected_messages_are_dead_lettered_or_dropped(row):
    bench = Bench(row, dead_letter_exchange="", dead_letter_key="dlq")
    bench.publish("123")
    _, got = bench.hold(3)
    bench.broker.nack(got[1], requeue=False)
    bench.broker.nack(got[0], requeue=False)
    assert bench.drain("dlq") == "2 1"
    plain = Bench(row)
    plain.publish("1")
    plain.broker.nack(plain.hold(1)[1][0], requeue=False)
    assert plain.broker.depth("q") == 0
    assert plain.events[-1].kind == "dropped"
    assert plain.events[-1].reason == "rejected"


@pytest.mark.parametrize("row", [CLASSIC, QUORUM])
def test_a_message_expires_only_at_the_head(row):
    bench = Bench(row, dead_letter_exchange="", dead_letter_key="dlq")
    bench.publish("a", ttl=3.0)
    bench.publish("b", ttl=0.1)
    bench.broker.advance(0.4)
    assert bench.broker.depth("q") == 2
    assert bench.broker.next_due() == 3.0
    bench.broker.advance(3.0)
    assert bench.broker.depth("q") == 0
    assert bench.drain("dlq") == "a b"


@pytest.mark.parametrize("row", [CLASSIC, QUORUM])
def test_a_held_message_past_its_time_expires_when_it_comes_back(row):
    bench = Bench(row, message_ttl=0.5, dead_letter_exchange="", dead_letter_key="dlq")
    bench.publish("ab")
    _, got = bench.hold(1)
    bench.broker.advance(0.8)
    assert bench.drain("dlq") == "b"
    bench.broker.nack(got[0], requeue=True)
    bench.broker.advance(0.8)
    assert bench.drain("dlq") == "a"


def test_a_full_queue_drops_its_head_or_refuses():
    bench = Bench(max_length=2, dead_letter_exchange="", dead_letter_key="dlq")
    bench.publish("1234")
    assert (bench.drain(), bench.drain("dlq")) == ("3 4", "1 2")
    strict = Bench(max_length=2, overflow=Overflow.REJECT_PUBLISH)
    outcomes = [strict.broker.publish("", "q", Message(name, None)) for name in "123"]
    assert outcomes == [Outcome.ROUTED, Outcome.ROUTED, Outcome.REFUSED]
    assert strict.drain() == "1 2"


def test_delayed_messages_join_the_tail_when_due_and_survive_a_restart():
    bench = Bench()
    bench.broker.schedule(2.0, "", "q", Message("late", None))
    bench.broker.schedule(1.0, "", "q", Message("gone", None, persistent=False))
    bench.broker.schedule(1.0, "", "nowhere", Message("lost", None))
    bench.broker.restart()
    bench.publish("12")
    assert bench.broker.next_due() == 1.0
    bench.broker.advance(1.5)
    assert bench.broker.depth("q") == 2
    bench.broker.advance(2.5)
    assert bench.broker.next_due() == float("inf")
    bench.publish("3")
    assert bench.drain() == "1 2 late 3"


def test_an_unused_queue_expires_and_one_with_a_consumer_does_not():
    bench = Bench(expires=10.0)
    consumer, _ = bench.consume()
    bench.broker.advance(50.0)
    assert "q" in bench.broker.queues
    bench.broker.cancel(consumer)
    assert bench.broker.next_due() == 60.0
    bench.broker.advance(60.0)
    assert "q" not in bench.broker.queues


def test_an_auto_delete_queue_goes_with_its_last_consumer():
    bench = Bench()
    broker, session, ended = bench.broker, bench.session(), []
    broker.declare_queue("temporary", auto_delete=True)
    broker.publish("", "temporary", Message("1", None))
    got = []
    consumer = broker.consume(session, "temporary", got.append, cancelled=lambda: ended.append(1))
    broker.cancel(consumer)
    assert "temporary" not in broker.queues
    assert broker.ack(got[0]), "an ack for a queue that is gone is no error"
    assert ended == [], "who cancels is not told"


def test_what_was_held_of_a_deleted_queue_is_told_to_be_dropped():
    bench = Bench()
    bench.publish("123")
    session, got = bench.hold(2)
    bench.broker.delete_queue("q")
    bench.broker.nack(got[0], requeue=False)
    bench.broker.close_session(session)
    assert [(e.kind, e.key, e.reason) for e in bench.events[-3:]] == [
        ("dropped", "3", "purged"),
        ("dropped", "1", "deleted"),
        ("dropped", "2", "deleted"),
    ]


def test_deleting_a_queue_ends_its_consumers():
    bench = Bench()
    ended = []
    bench.consume(cancelled=lambda: ended.append(1))
    bench.publish("1")
    assert bench.broker.delete_queue("q") == 0
    assert ended == [1]
    assert bench.broker.publish("", "q", Message("2", None)) is Outcome.UNROUTED


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (lambda b, _: b.broker.queue("nope"), RefusalCode.NOT_FOUND),
        (lambda b, _: b.broker.publish("nope", "", Message("1", None)), RefusalCode.NOT_FOUND),
        (lambda b, s: b.broker.consume(s, "mine", print), RefusalCode.RESOURCE_LOCKED),
        (lambda b, s: b.broker.declare_queue("mine", owner=s.connection), RefusalCode.RESOURCE_LOCKED),
        (lambda b, _: b.broker.declare_queue("q", durable=False), RefusalCode.PRECONDITION_FAILED),
        (lambda b, _: b.broker.declare_queue("x", queue_type="quorum", durable=False), RefusalCode.PRECONDITION_FAILED),
        (
            lambda b, s: b.broker.declare_queue("x", queue_type="quorum", owner=s.connection),
            RefusalCode.PRECONDITION_FAILED,
        ),
        (lambda b, _: b.broker.declare_queue("x", queue_type="stream"), RefusalCode.PRECONDITION_FAILED),
        (
            lambda b, _: b.broker.declare_queue("x", queue_type="classic", options=QueueOptions(delivery_limit=1)),
            RefusalCode.PRECONDITION_FAILED,
        ),
        (lambda b, _: b.broker.declare_exchange("e", ExchangeKind.DIRECT), RefusalCode.PRECONDITION_FAILED),
        (lambda b, _: b.broker.declare_exchange(""), RefusalCode.ACCESS_REFUSED),
    ],
)
def test_refusals(request_, code):
    bench = Bench(QUORUM)
    bench.broker.declare_queue("mine", owner=bench.session().connection)
    bench.broker.declare_exchange("e")
    before = sorted(bench.broker.queues)
    with pytest.raises(RefusedError) as refused:
        request_(bench, bench.session())
    assert refused.value.code is code
    assert sorted(bench.broker.queues) == before


def test_a_session_limit_is_shared_by_its_consumers_and_a_window_counts_bytes():
    bench = Bench()
    session = bench.session(limit=2)
    _, first = bench.consume("A", session=session)
    _, second = bench.consume("B", session=session)
    bench.publish("1234")
    assert bench.seen == ["A1", "B2"]
    bench.broker.ack(first[0])
    bench.broker.ack(second[0])
    assert sorted(bench.seen[2:]) == ["A3", "B4"]
    other = Bench()
    _, got = other.consume(window=10)
    other.publish("123", size=6)
    assert len(got) == 2
    other.broker.ack(got[0])
    assert len(got) == 3


def test_reorder_gives_the_turn_to_another_consumer_that_has_room():
    bench = Bench(faults=[Fault("reorder", "q", 2)])
    bench.consume("A", limit=2)
    bench.publish("1")
    bench.consume("B")
    bench.publish("2345")
    assert " ".join(bench.seen) == "A1 A2 B3 B4 B5", "asked at 2 (A or B); then A was full, and there was no choice"
    other = Bench(faults=[Fault("reorder", "q", 2)])
    other.consume("A")
    other.consume("B")
    other.publish("123")
    assert " ".join(other.seen) == "A1 A2 B3"
    assert [event.reason for event in other.events if event.kind == "fault"] == ["reorder"]


def test_duplicate_sends_the_tests_message_again_and_nobody_elses():
    def run(faults, *, lab_message, lab_consumer=False):
        bench = Bench(faults=faults)
        bench.consume(session=bench.session(laboratory=lab_consumer))
        bench.publish("12", laboratory=lab_message)
        bench.broker.advance(0.0)
        return " ".join(bench.seen)

    plan = [Fault("duplicate", "q", 1)]
    assert run(plan, lab_message=True) == "1 2 1", "not flagged: it is a message of its own"
    assert run([], lab_message=True) == "1 2"
    assert run(plan, lab_message=False) == "1 2", "what was confirmed once is there once"
    assert run(plan, lab_message=True, lab_consumer=True) == "1 2"


@pytest.mark.parametrize("row", sorted(PROFILES))
def test_duplicate_is_asked_once_a_message_also_where_the_broker_forgets_that_it_delivered_it(row):
    bench = Bench(row, faults=[Fault("duplicate", "q", 2)])
    first = bench.session()
    bench.consume(session=first)
    bench.publish("1", laboratory=True)
    bench.broker.close_session(first)
    bench.consume()
    bench.broker.advance(0.0)
    assert [name[0] for name in bench.seen] == ["1", "1"]


def test_unknown_profiles_are_named_with_the_known_ones():
    with pytest.raises(
        SettingsError,
        match=r"'kafka'; known profiles: activemq-classic, artemis, pulsar, rabbitmq, rabbitmq-classic, rabbitmq-quorum, rabbitmq-stomp",
    ):
        profile_named("kafka")
    assert profile_named("rabbitmq") is profile_named(QUORUM)


def test_every_field_of_every_row_cites_a_fact_that_the_docs_have(pytestconfig):
    facts = (pytestconfig.rootpath / "docs" / "facts.md").read_text()
    for profile in PROFILES.values():
        for row in (profile, *profile.queue_types.values()):
            names = {field.name for field in fields(row)} - {"name", "evidence"}
            assert set(row.evidence) == names
            missing = [fact for fact in row.evidence.values() if f"**{fact}**" not in facts]
            assert missing == []


@pytest.mark.parametrize("row", [CLASSIC, QUORUM, "activemq-classic", "rabbitmq-stomp"])
def test_what_has_expired_behind_the_head_is_not_delivered_after_it(row):  # RMQ-17, AMQ-15, RST-14
    bench = Bench(row)
    bench.publish("1")
    bench.publish("2", ttl=0.5)
    bench.broker.advance(1.0)
    bench.publish("3")
    bench.consume()
    assert [name[0] for name in bench.seen] == ["1", "3"]


ARTEMIS = "artemis"


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("unsubscribe", "1 3 4 5 6"),  # ART-2
        ("disconnect", "1R 3 4 5 6"),  # ART-2
        ("lose", "1R 3 4 5 6"),  # ART-3
        ("stop", "1R 3 4 5 6"),  # ART-27
        ("crash", "1 3 4 5 6"),  # ART-26
    ],
)
def test_what_artemis_gives_back_and_flags(how, expected):
    bench = Bench(ARTEMIS)
    bench.publish("123456")
    session, got = bench.hold(4)
    bench.broker.ack(got[1])
    if how == "unsubscribe":
        bench.broker.close_session(session)
    elif how in ("stop", "crash"):
        bench.broker.restart(crash=how == "crash")
    else:
        bench.broker.close_connection(session.connection, goodbye=how == "disconnect")
    assert bench.drain() == expected


def test_art_5_artemis_counts_only_what_it_flags_and_then_gives_the_message_up():
    bench = Bench(ARTEMIS)
    bench.broker.declare_queue("few", label="few things")
    bench.publish("12", queue="few")
    for _ in range(10):
        session = bench.session()
        taken = bench.broker.consume(session, "few", lambda _: None)
        assert taken.held == 2
        bench.broker.close_connection(session.connection)
    assert bench.drain("few") == "2"
    (dead,) = bench.broker.ready("DLQ")
    assert (dead.key, dead.source) == ("1", "few things")
    assert bench.drain("DLQ") == "1"


def test_art_4_what_a_lost_connection_held_is_stranded_until_the_broker_restarts():
    bench = Bench(ARTEMIS, [Fault("messages-stranded", "q", 2)])
    connection = bench.broker.open_connection("client")
    for label in ("a", "b"):
        bench.consume(label, limit=2, session=bench.broker.open_session(connection))
    bench.publish("123456")
    assert " ".join(bench.seen) == "a1 b2 a3 b4"
    bench.broker.close_connection(connection)
    assert [entry.message.key for entry in bench.broker.queue("q").stranded] == ["2", "4"]
    assert (bench.broker.depth("q"), bench.broker.stranded) == (6, 2)
    assert bench.drain() == "1R 3 5 6"
    bench.broker.restart()
    assert bench.drain() == "2 4"


@pytest.mark.parametrize("how", ["goodbye", "laboratory", "rabbitmq"])
def test_nothing_is_stranded_by_a_goodbye_nor_for_the_test_itself_nor_by_another_broker(how):
    bench = Bench(CLASSIC if how == "rabbitmq" else ARTEMIS, [Fault("messages-stranded", "q", 1)])
    bench.publish("12")
    session = bench.session(laboratory=how == "laboratory")
    bench.consume(session=session)
    bench.broker.close_connection(session.connection, goodbye=how == "goodbye")
    assert not bench.broker.stranded
    assert bench.drain().replace("R", "") == "1 2"


def test_art_28_consumers_stand_in_a_ring():
    bench = Bench(ARTEMIS)
    a = bench.consume("A", limit=1)[1]
    bench.consume("B", limit=2)
    c = bench.consume("C", limit=1)[1]
    bench.publish("12345")
    assert " ".join(bench.seen) == "A1 B2 C3 B4"
    bench.broker.ack(a[0])
    bench.broker.ack(c[0])
    bench.publish("678")
    assert " ".join(bench.seen) == "A1 B2 C3 B4 A5 C6"


def test_art_29_messages_expire_anywhere_and_go_to_the_expiry_queue():
    bench = Bench(ARTEMIS, expiry_queue="ExpiryQueue")
    bench.publish("1", ttl=60)
    bench.publish("2", ttl=0.5)
    bench.publish("3")
    bench.publish("4", ttl=0.25)
    assert bench.broker.next_due() == 0.25
    bench.broker.advance(0.5)
    assert bench.drain("ExpiryQueue") == "4 2"
    assert bench.drain() == "1 3"


def test_art_30_a_delayed_message_is_routed_at_once_and_then_comes_first():
    bench = Bench(ARTEMIS)
    bench.broker.declare_exchange("topic")
    bench.broker.declare_queue("early")
    bench.broker.bind("early", "topic")
    bench.publish("0")
    bench.broker.schedule(5, "topic", "", Message("news", None))
    bench.broker.schedule(5, "", "q", Message("late", None))
    bench.broker.declare_queue("afterwards")
    bench.broker.bind("afterwards", "topic")
    bench.publish("12")
    assert [bench.broker.depth(name) for name in ("q", "early", "afterwards")] == [4, 1, 0]
    assert bench.broker.next_due() == 5
    bench.broker.advance(5)
    assert bench.drain() == "late 0 1 2"
    assert (bench.drain("early"), bench.drain("afterwards")) == ("news", "")


def test_art_28_the_ring_begins_anew_when_a_consumer_comes_or_goes():
    bench = Bench(ARTEMIS)
    bench.consume("A")
    bench.consume("B")
    bench.publish("1")
    third, _ = bench.consume("C")
    bench.publish("2345")
    bench.broker.cancel(third)
    bench.publish("67")
    assert " ".join(bench.seen) == "A1 A2 B3 C4 A5 A6 B7"
