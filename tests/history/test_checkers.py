"""Each checker: a history that it passes, one that it must fail, and one that it cannot judge."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from factflow_infra_testing.history import checkers
from factflow_infra_testing.history.checkers import Judgement
from factflow_infra_testing.history.operations import FAIL, INFO, OK, History, finish

ORDERS = "/queue/orders"


class Told:
    """A history told in one line an operation, a second apart."""

    def __init__(self) -> None:
        self.history = History()
        self.clock = 0.0

    def did(
        self, kind: str, key: str, outcome: str = OK, *, process: str = "p", target: str = ORDERS, detail: str = ""
    ):
        self.clock += 1
        operation = self.history.begin(self.clock, process, kind, target, key, detail)
        if outcome:
            self.clock += 1
            finish(operation, self.clock, outcome)
        return self


def event(kind: str, key: str, entry: int, *, redelivered: bool = False, count: int | None = None, time: float = 0.0):
    return SimpleNamespace(
        time=time,
        kind=kind,
        queue=ORDERS,
        key=key,
        entry=entry,
        client="c",
        redelivered=redelivered,
        count=count,
        source="",
    )


def test_no_loss_wants_every_confirmed_message_handled_or_dead_lettered():
    told = Told().did("publish", "a").did("publish", "b").did("publish", "c", INFO).did("handle", "a")
    lost = checkers.no_loss(told.history, ORDERS, dead_lettered=())
    assert lost.judgement is Judgement.FAIL
    assert lost.keys == ("b",)
    assert "'b'" in lost.explanation
    assert checkers.no_loss(told.history, ORDERS, dead_lettered={"b"}).judgement is Judgement.PASS


def test_no_loss_does_not_take_a_failed_or_unfinished_handling_for_a_handling():
    for outcome in (FAIL, INFO, ""):
        told = Told().did("publish", "a").did("handle", "a", outcome)
        assert checkers.no_loss(told.history, ORDERS, dead_lettered=()).judgement is Judgement.FAIL, outcome


def test_no_loss_tells_held_from_lost():
    told = Told().did("publish", "a")
    held = checkers.no_loss(told.history, ORDERS, dead_lettered=(), held={"a"})
    assert held.judgement is Judgement.FAIL
    assert "still holds" in held.explanation
    assert (
        checkers.no_loss(told.history, ORDERS, dead_lettered=(), held={"a"}, live=False).judgement is Judgement.UNKNOWN
    )


def test_no_loss_calls_nothing_lost_that_an_unrecorded_client_may_have_handled():
    told = Told().did("publish", "a")
    assert checkers.no_loss(told.history, ORDERS, dead_lettered=(), recorded=False).judgement is Judgement.UNKNOWN
    assert (
        checkers.no_loss(told.history, ORDERS, dead_lettered=(), held={"a"}, recorded=False).judgement is Judgement.FAIL
    )


def test_exactly_once_effect_takes_a_mapping_by_its_keys():
    assert checkers.exactly_once_effect({"a": 7, "b": 0}, expected=["a", "b"]).judgement is Judgement.PASS


def test_no_loss_without_a_confirmed_publish_cannot_tell():
    told = Told().did("publish", "a", INFO)
    assert checkers.no_loss(told.history, ORDERS, dead_lettered=()).judgement is Judgement.UNKNOWN


def test_no_loss_judges_a_topic_by_subscription():
    told = Told().did("publish", "a", target="/topic/news").did("handle", "a", target="/topic/news#one")
    assert checkers.no_loss(told.history, "/topic/news#one", dead_lettered=()).judgement is Judgement.PASS
    assert checkers.no_loss(told.history, "/topic/news#two", dead_lettered=()).judgement is Judgement.FAIL


def test_no_phantom():
    assert (
        checkers.no_phantom(Told().did("publish", "a", INFO).did("handle", "a").history, ORDERS).judgement
        is Judgement.PASS
    )
    never_sent = checkers.no_phantom(Told().did("publish", "a").did("handle", "x").history, ORDERS)
    assert never_sent.judgement is Judgement.FAIL
    before = checkers.no_phantom(Told().did("handle", "a").did("publish", "a").history, ORDERS)
    assert before.judgement is Judgement.FAIL
    assert checkers.no_phantom(Told().history, ORDERS).judgement is Judgement.UNKNOWN


def test_no_duplicate_after_ack_goes_by_the_entry_not_the_id():
    acked = [event("delivered", "a", 1), event("acked", "a", 1)]
    assert checkers.no_duplicate_after_ack(acked, ORDERS).judgement is Judgement.PASS
    copy = [*acked, event("delivered", "a", 2)]
    assert checkers.no_duplicate_after_ack(copy, ORDERS).judgement is Judgement.PASS
    again = [*acked, event("delivered", "a", 1)]
    assert checkers.no_duplicate_after_ack(again, ORDERS).judgement is Judgement.FAIL
    assert checkers.no_duplicate_after_ack(acked[:1], ORDERS).judgement is Judgement.UNKNOWN


@pytest.mark.parametrize(
    ("events", "judgement"),
    [
        ([event("delivered", "a", 1), event("delivered", "a", 1, redelivered=True)], Judgement.PASS),
        ([event("delivered", "a", 1, count=1), event("delivered", "a", 1, redelivered=True, count=2)], Judgement.PASS),
        ([event("delivered", "a", 1, redelivered=True)], Judgement.FAIL),
        ([event("delivered", "a", 1, count=2)], Judgement.FAIL),
        ([event("delivered", "a", 1), event("delivered", "a", 1)], Judgement.FAIL),
        (
            [
                event("delivered", "a", 1, count=1),
                event("delivered", "a", 1, redelivered=True, count=3),
                event("delivered", "a", 1, redelivered=True, count=2),
            ],
            Judgement.FAIL,
        ),
        ([], Judgement.UNKNOWN),
    ],
)
def test_redelivery_honesty(events, judgement):
    assert checkers.redelivery_honesty(events, ORDERS).judgement is judgement


def test_a_crashed_broker_may_flag_what_it_kept_but_never_unflag():
    flagged = [event("delivered", "a", 1, redelivered=True)]
    assert checkers.redelivery_honesty(flagged, ORDERS, crashed=True).judgement is Judgement.PASS
    unflagged = [event("delivered", "a", 1), event("delivered", "a", 1)]
    assert checkers.redelivery_honesty(unflagged, ORDERS, crashed=True).judgement is Judgement.FAIL


def test_fifo_per_key():
    sent = Told().did("publish", "a").did("publish", "b")
    assert checkers.fifo_per_key(sent.did("handle", "a").did("handle", "b").history, ORDERS).judgement is Judgement.PASS
    swapped = Told().did("publish", "a").did("publish", "b").did("handle", "b").did("handle", "a")
    verdict = checkers.fifo_per_key(swapped.history, ORDERS)
    assert verdict.judgement is Judgement.FAIL
    assert verdict.keys == ("a", "b")


def test_fifo_per_key_compares_within_a_key_and_a_producer_only():
    other_key = (
        Told().did("publish", "a", detail="k1").did("publish", "b", detail="k2").did("handle", "b").did("handle", "a")
    )
    assert checkers.fifo_per_key(other_key.history, ORDERS).judgement is Judgement.UNKNOWN
    other = Told().did("publish", "a").did("publish", "b", process="q").did("handle", "b").did("handle", "a")
    assert checkers.fifo_per_key(other.history, ORDERS).judgement is Judgement.UNKNOWN


def test_fifo_per_key_leaves_out_what_had_come_back():
    told = (
        Told()
        .did("publish", "a")
        .did("publish", "b")
        .did("handle", "b")
        .did("handle", "a", detail="redelivered, delivery 2")
    )
    assert checkers.fifo_per_key(told.history, ORDERS).judgement is Judgement.UNKNOWN


def test_fifo_per_key_does_not_order_publishes_that_overlapped():
    told = Told()
    first = told.history.begin(0.0, "p", "publish", ORDERS, "a")
    second = told.history.begin(0.1, "p", "publish", ORDERS, "b")
    finish(first, 1.0, OK)
    finish(second, 1.0, OK)
    told.did("handle", "b").did("handle", "a")
    assert checkers.fifo_per_key(told.history, ORDERS).judgement is Judgement.UNKNOWN


def test_bounded_redelivery():
    told = Told().did("publish", "a")
    for _ in range(4):
        told.did("handle", "a", FAIL)

    def judge(dead, events=()):
        return checkers.bounded_redelivery(told.history, events, ORDERS, max_retries=3, dead_lettered=dead)

    assert judge({"a"}).judgement is Judgement.PASS
    assert judge(()).judgement is Judgement.FAIL
    told.did("handle", "a", FAIL)
    assert "5 times, the bound is 4" in judge({"a"}).explanation
    assert judge({"a"}, [event("requeued", "a", 1)]).judgement is Judgement.PASS
    assert judge({"a"}, [event("requeued", "b", 2)]).judgement is Judgement.FAIL
    idle = checkers.bounded_redelivery(Told().history, (), ORDERS, max_retries=3, dead_lettered=())
    assert idle.judgement is Judgement.UNKNOWN


def test_in_flight_cap_counts_what_runs_at_once():
    told = Told().did("handle", "a", "").did("handle", "b", "")
    assert checkers.in_flight_cap(told.history, ORDERS, cap=2).judgement is Judgement.PASS
    verdict = checkers.in_flight_cap(told.history, ORDERS, cap=1)
    assert verdict.judgement is Judgement.FAIL
    assert verdict.keys == ("a", "b")
    assert (
        checkers.in_flight_cap(Told().did("handle", "a").did("handle", "b").history, ORDERS, cap=1).judgement
        is Judgement.PASS
    )


def test_in_flight_cap_ends_a_killed_handling_at_the_kill():
    told = Told().did("handle", "a", "")
    told.clock += 1
    told.history.note(told.clock, "p", "kill", "p")
    told.did("handle", "b", "")
    assert checkers.in_flight_cap(told.history, ORDERS, cap=1).judgement is Judgement.PASS


def test_in_flight_cap_ends_a_handling_with_its_process_however_that_ended():
    told = Told().did("handle", "a", "")
    told.clock += 1
    told.history.note(told.clock, "p", "end", "p", detail="crashed: OSError: no")
    told.did("handle", "b", "")
    assert checkers.in_flight_cap(told.history, ORDERS, cap=1).judgement is Judgement.PASS


def test_in_flight_cap_knows_handlings_that_take_no_time():
    told = Told()

    def handling(key, began, ended):
        operation = told.history.begin(began, "p", "handle", ORDERS, key)
        finish(operation, ended, OK)

    handling("a", 1.0, 1.0)
    handling("b", 1.0, 1.0)
    handling("c", 1.0, 2.0)
    handling("d", 2.0, 2.0)
    assert checkers.in_flight_cap(told.history, ORDERS, cap=1).judgement is Judgement.PASS
    handling("e", 3.0, 4.0)
    handling("f", 3.5, 3.5)
    assert checkers.in_flight_cap(told.history, ORDERS, cap=1).keys == ("e", "f")
    assert checkers.in_flight_cap(told.history, ORDERS, cap=2).judgement is Judgement.PASS


def test_exactly_once_effect():
    assert checkers.exactly_once_effect(["a", "b"]).judgement is Judgement.PASS
    assert "'a' 2 times" in checkers.exactly_once_effect(["a", "a"]).explanation
    missing = checkers.exactly_once_effect(["a", "x"], expected=["a", "b"])
    assert missing.judgement is Judgement.FAIL
    assert "no effect of 'b'" in missing.explanation
    assert "unexpected 'x'" in missing.explanation
