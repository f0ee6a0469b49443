"""The checkers of storage: each planted bad history is caught, and no history of a real register is called bad."""

from __future__ import annotations

import random

import pytest

from factflow_infra_testing.history.checkers import Judgement
from factflow_infra_testing.history.operations import FAIL, INFO, OK, History
from factflow_infra_testing.history.storage_calls import StorageCall, Value
from factflow_infra_testing.history.storage_checkers import (
    STORAGE_CHECKERS,
    durable_writes,
    honest_listings,
    honoured_conditions,
    linearizable,
    whole_objects,
)

STORE = "s3 (aws)"


class Scribe:
    """Writes histories: ``begin`` and ``end``, or both at once."""

    def __init__(self, store=STORE):
        self.history = History()
        self.store = store

    def begin(self, kind, key="k", *, process="p", **asked):
        operation = self.history.begin(len(self.history.operations), process, kind, "s3", key)
        value = asked.pop("value", None)
        operation.call = StorageCall(self.store, value=None if value is None else Value(value, value), **asked)
        return operation

    def end(self, operation, outcome=OK, detail="", **told):
        for name, value in told.items():
            setattr(operation.call, name, Value(value, value) if name == "value" else value)
        self.history.finish(operation, operation.invoked, outcome, detail)

    def do(self, kind, key="k", outcome=OK, detail="", told=None, **asked):
        operation = self.begin(kind, key, **asked)
        self.end(operation, outcome, detail, **(told or {}))
        return operation

    def write(self, value, key="k", etag=None, **more):
        return self.do("write", key, value=value, told={"etag": etag or f"e-{value}"}, **more)

    def read(self, value, key="k", etag=None):
        return self.do("read", key, told={"value": value, "etag": etag or f"e-{value}"})

    def missing(self, key="k"):
        return self.do("read", key, FAIL, "ObjectNotFoundError")

    def list(self, *names, prefix=""):
        return self.do("list", prefix, told={"names": names})


def stale_read(s):
    s.write("a")
    s.write("b")
    s.read("a")


def lost_write(s):
    s.write("a")
    s.missing()


def read_goes_back(s):
    late = s.begin("write", value="b")
    s.write("a")
    s.read("b", etag="e")
    s.read("a")
    s.read("b", etag="e")
    s.end(late, INFO)


def failed_write_lands(s):
    s.write("a")
    s.do("write", value="b", outcome=FAIL, detail="StorageIOError")
    s.read("b")


def two_creates(s):
    s.write("a", absent=True)
    s.write("b", absent=True)


def two_matches(s):
    s.write("a")
    s.write("b", match="e-a")
    s.write("c", match="e-a")


def match_that_a_delete_has_used_up(s):
    s.write("a")
    s.do("delete", match="e-a")
    s.write("b", match="e-a")


def matches_of_what_the_first_has_changed(s):
    s.write("a")
    s.write("b", match="e-a")
    s.write("a", match="e-a")


def refused_create_of_nothing(s):
    s.do("write", value="a", absent=True, outcome=FAIL, detail="PreconditionFailedError")
    s.write("b")
    s.read("b")


def refused_match_that_holds(s):
    s.write("a")
    s.do("write", value="b", match="e-a", outcome=FAIL, detail="PreconditionFailedError")


def match_on_a_missing_key(s):
    s.write("a", match="e-x")
    s.read("a")


def conditional_delete_of_another(s):
    s.write("a")
    s.write("b")
    s.do("delete", match="e-a")


def delete_undone(s):
    s.write("a")
    s.do("delete")
    s.read("a")


def etag_changes(s):
    s.write("a", etag="1")
    s.read("a", etag="2")


def listing_misses(s):
    s.write("a")
    s.list()


def listing_shows_the_deleted(s):
    s.write("a")
    s.do("delete")
    s.list("k")


def copy_of_the_old(s):
    s.write("a")
    s.write("b")
    s.do("copy", "k -> l", source="k", told={"value": "a"})


def read_of_nothing_written(s):
    s.write("a")
    s.read("b")


BAD = {
    linearizable: [
        stale_read,
        lost_write,
        read_goes_back,
        failed_write_lands,
        two_creates,
        two_matches,
        match_that_a_delete_has_used_up,
        matches_of_what_the_first_has_changed,
        refused_create_of_nothing,
        refused_match_that_holds,
        match_on_a_missing_key,
        conditional_delete_of_another,
        delete_undone,
        etag_changes,
        listing_misses,
        listing_shows_the_deleted,
        copy_of_the_old,
        read_of_nothing_written,
    ],
    whole_objects: [failed_write_lands, read_of_nothing_written],
    durable_writes: [lost_write, listing_misses],
    honest_listings: [listing_misses, listing_shows_the_deleted],
    honoured_conditions: [
        two_creates,
        two_matches,
        match_that_a_delete_has_used_up,
        matches_of_what_the_first_has_changed,
        refused_create_of_nothing,
    ],
}


@pytest.mark.parametrize(
    ("checker", "plant"), [(checker, plant) for checker, plants in BAD.items() for plant in plants]
)
def test_a_planted_bad_history_is_caught(checker, plant):
    scribe = Scribe()
    plant(scribe)
    verdict = checker(scribe.history, STORE)
    assert verdict.judgement is Judgement.FAIL
    assert "'k'" in verdict.explanation


def test_writing_the_same_again_leaves_the_etag_that_it_named():
    scribe = Scribe()
    scribe.write("a")
    for _ in range(2):
        scribe.write("a", match="e-a")
    first, second = (scribe.begin("write", value=value, match="e-a") for value in "ab")
    scribe.end(first, etag="e-a")
    scribe.end(second, etag="e-b")
    for checker in (linearizable, honoured_conditions):
        assert checker(scribe.history, STORE).judgement is Judgement.PASS


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (("b", "a"), "comes after 'b'"),
        (("a", "a"), "comes after 'a'"),
        ((".factflow/metadata/1",), "hidden"),
        (("a", "\U0001f600", "\uffee"), "comes after"),
    ],
)
def test_listings_out_of_order_or_with_hidden_names(names, complaint):
    scribe = Scribe()
    scribe.list(*names)
    verdict = honest_listings(scribe.history, STORE)
    assert verdict.judgement is Judgement.FAIL
    assert complaint in verdict.explanation


def test_a_damaged_object_is_whole_only_where_a_fault_damaged_it():
    scribe = Scribe()
    scribe.write("a")
    scribe.do("read", "k", FAIL, "CorruptObjectError")
    assert whole_objects(scribe.history, STORE).judgement is Judgement.FAIL
    scribe.history.note(0, "p", "fault", "GetObject k", detail="s3-body-corrupt")
    assert whole_objects(scribe.history, STORE).judgement is Judgement.UNKNOWN


def test_an_unconfirmed_write_may_have_landed_or_not_or_land_late():
    for after in (("a", "a"), ("b", "b"), ("a", "b")):
        scribe = Scribe()
        scribe.write("a")
        scribe.do("write", value="b", outcome=INFO, detail="WriteUnconfirmedError")
        for value in after:
            scribe.read(value, etag=None if value == "a" else "e")
        assert linearizable(scribe.history, STORE).judgement is Judgement.PASS
        assert whole_objects(scribe.history, STORE).judgement is Judgement.PASS


def seen_then_deleted_then_there_again(
    s, *, times=1, between="delete", lost="PutObject k", by="p", outcome=OK, detail="", **condition
):
    """Client p's write lands, its answer is lost, and another takes the key away or writes it before p tries again."""
    if "match" in condition:
        s.write("old", etag=condition["match"])
    written = s.begin("write", value="a", **condition)
    for _ in range(times):
        if lost:
            s.history.note(0, by, "fault", lost, detail="s3-answer-lost (timeout)")
        s.read("a")
        if between == "delete":
            s.do("delete", process="q")
        else:
            s.do("write", process="q", value="b", told={"etag": "e-b"})
    s.end(written, outcome, detail, **({"etag": "e-a"} if outcome == OK else {}))
    s.read("a")
    return linearizable(s.history, STORE).judgement


@pytest.mark.parametrize(
    "how",
    [
        {"absent": True},
        {},
        {"lost": "PutObject folder/k"},
        {"lost": "CopyObject k"},
        {"outcome": INFO, "detail": "WriteUnconfirmedError"},
        {"times": 3, "absent": True},
    ],
)
def test_a_write_whose_answer_was_lost_may_be_made_again_where_the_key_was_deleted(how):
    """Found by the soak: 404 is what a write leaves that never arrived, and one that was deleted since."""
    assert seen_then_deleted_then_there_again(Scribe(), **how) == Judgement.PASS


@pytest.mark.parametrize(
    "how",
    [
        {"lost": ""},
        {"between": "write"},
        {"match": "e-old"},
        {"by": "q"},
        {"lost": "PutObject another"},
        {"lost": "HeadObject k"},
        {"lost": "CompleteMultipartUpload k"},
    ],
)
def test_no_other_write_is_made_again(how):
    assert seen_then_deleted_then_there_again(Scribe(), **how) == Judgement.FAIL


def test_a_write_is_made_again_as_often_as_its_answers_were_lost():
    scribe = Scribe()
    written = scribe.begin("write", value="a")
    scribe.history.note(0, "p", "fault", "PutObject k", detail="s3-answer-lost (500)")
    for _ in range(2):
        scribe.read("a")
        scribe.do("delete", process="q")
    scribe.end(written, etag="e-a")
    assert linearizable(scribe.history, STORE).judgement == Judgement.PASS
    scribe.read("a")
    assert linearizable(scribe.history, STORE).judgement == Judgement.FAIL


def test_a_delete_answered_with_success_came_before_no_write_that_names_what_it_deleted():
    """Found by the soak: what the provider says of a delete whose request was lost, and that somebody overtook."""
    for outcome, detail, judgement in ((OK, "", "FAIL"), (INFO, "WriteUnconfirmedError", "PASS")):
        scribe = Scribe()
        scribe.write("a")
        deleted = scribe.begin("delete", process="q")
        scribe.write("b", match="e-a")
        scribe.end(deleted, outcome, detail)
        scribe.read("b")
        assert linearizable(scribe.history, STORE).judgement is Judgement[judgement]


DISK = "filesystem of localhost"


def seen_before_the_power_was_lost(change, before, after, *, host="localhost", ended=False):
    """``change`` is under way, and seen, when the power is lost."""
    s = Scribe(DISK)
    if before is not None:
        s.write(before)
    changing = s.begin(change, value="b" if change == "write" else None)
    if change == "write":
        s.do("read", told={"value": "b", "etag": "e-b"}, process="q")
    else:
        s.missing()
    if ended:
        s.end(changing, etag="e-b")
    s.history.note(0, host, "power-loss", host, detail="unsynced lost")
    for value in after:
        if value is None:
            s.missing()
        else:
            s.read(value)
    return linearizable(s.history, DISK).judgement


@pytest.mark.parametrize(
    ("change", "before", "after"),
    [
        ("write", "a", "bb"),
        ("write", "a", "aa"),
        ("write", None, [None]),
        ("delete", "a", "aa"),
        ("delete", "a", [None]),
    ],
)
def test_what_was_under_way_when_the_power_was_lost_may_be_undone_though_it_was_seen(change, before, after):
    """Found by the soak: a file has its new name before its folder is synced, and others see it from then on."""
    assert seen_before_the_power_was_lost(change, before, after) is Judgement.PASS


@pytest.mark.parametrize(
    ("after", "how"),
    [
        ("a", {"ended": True}),
        ("a", {"host": "elsewhere"}),
        ("ba", {}),
        ("x", {}),
        ([None], {}),
    ],
)
def test_a_power_loss_undoes_nothing_else(after, how):
    """Neither what had ended, nor on another machine, nor later on, nor to what never stood there."""
    assert seen_before_the_power_was_lost("write", "a", after, **how) is Judgement.FAIL


def test_a_power_loss_falls_back_to_the_last_change_that_ended_or_any_since():
    for value, judgement in (("a", "FAIL"), ("b", "PASS"), ("c", "PASS"), ("d", "PASS")):
        s = Scribe(DISK)
        s.write("a")
        s.write("b")
        for unconfirmed in "cd":
            s.begin("write", value=unconfirmed)
            s.read(unconfirmed)
        s.history.note(0, "localhost", "power-loss", "localhost", detail="a mixture")
        s.read(value)
        assert linearizable(s.history, DISK).judgement is Judgement[judgement], value


def test_calls_that_overlap_have_no_order():
    scribe = Scribe()
    first, second = scribe.begin("write", value="a"), scribe.begin("write", value="b")
    read = scribe.begin("read")
    scribe.end(first, etag="e-a")
    scribe.end(second, etag="e-b")
    scribe.end(read, FAIL, "ObjectNotFoundError")
    scribe.read("a")
    assert linearizable(scribe.history, STORE).judgement is Judgement.PASS
    scribe.read("b")
    assert linearizable(scribe.history, STORE).judgement is Judgement.FAIL


def test_what_is_too_much_to_search_is_unknown():
    scribe = Scribe()
    for number in range(30):
        scribe.begin("write", value=f"v{number}")
    scribe.do("read", told={"value": "v3"})
    verdict = linearizable(scribe.history, STORE, limit=20)
    assert verdict.judgement is Judgement.UNKNOWN
    assert "'k'" in verdict.explanation


def test_an_empty_history_and_other_stores_are_not_judged():
    scribe = Scribe()
    scribe.write("a")
    scribe.missing()
    for checker in STORAGE_CHECKERS:
        assert checker(History(), STORE).judgement is Judgement.UNKNOWN
        assert checker(scribe.history, "filesystem of localhost").judgement is Judgement.UNKNOWN


class Register:
    """A true register of two keys, whose calls overlap: each takes effect at one moment between its begin and its end.

    ``etags_of_content``: equal contents have equal etags, as on S3; else each version has its own.
    """

    def __init__(self, seed, *, etags_of_content=False):
        self.random = random.Random(seed)
        self.scribe = Scribe()
        self.etags_of_content = etags_of_content
        self.state: dict[str, tuple[str, str]] = {}
        self.count = 0
        self.etags = ["e-none"]

    def run(self, operations):
        running = []
        while operations or running:
            if operations and (not running or self.random.random() < 0.5) and len(running) < 4:
                operations -= 1
                running.append([self.begin(), None])
                continue
            entry = self.random.choice(running)
            if entry[1] is None and self.random.random() < 0.7:
                entry[1] = self.effect(entry[0])
                if self.random.random() < 0.15 and entry[0].kind in ("write", "delete"):
                    self.scribe.end(entry[0], INFO, "WriteUnconfirmedError")  # and the answer is lost
                    running.remove(entry)
            elif entry[1] is not None:
                self.scribe.end(entry[0], *entry[1][:2], **entry[1][2])
                running.remove(entry)
            elif self.random.random() < 0.05 and entry[0].kind in ("write", "delete"):
                running.remove(entry)  # killed: it never lands
        return self.scribe.history

    def begin(self):
        kind = self.random.choice(["write", "write", "read", "read", "delete", "list", "copy", "stat"])
        key = self.random.choice(["k", "l"])
        condition = {}
        if kind in ("write", "delete") and self.random.random() < 0.5:
            if kind == "write" and self.random.random() < 0.5:
                condition = {"absent": True}
            else:
                condition = {"match": self.random.choice(self.etags[-4:])}
        if kind == "write":
            self.count += 1
            return self.scribe.begin(kind, key, value=f"v{self.count % 5}", **condition)
        if kind == "copy":
            return self.scribe.begin(kind, f"{key} -> l", source=key)
        return self.scribe.begin(kind, "" if kind == "list" else key, **condition)

    def effect(self, operation):
        call, key = operation.call, operation.key
        held = self.state.get(key)
        if operation.kind in ("write", "delete"):
            if (call.absent and held is not None) or (
                call.match is not None and (held is None or held[1] != call.match)
            ):
                return FAIL, "PreconditionFailedError", {}
            if operation.kind == "delete":
                self.state.pop(key, None)
                return OK, "", {}
            etag = self.new_etag(call.value.content)
            self.state[key] = (call.value.content, etag)
            self.etags.append(etag)
            return OK, "", {"etag": etag}
        if operation.kind == "list":
            return OK, "", {"names": tuple(sorted(self.state))}
        if operation.kind == "copy":
            source = self.state.get(call.source)
            if source is None:
                return FAIL, "ObjectNotFoundError", {}
            self.state["l"] = (source[0], self.new_etag(source[0]))
            return OK, "", {"value": source[0], "etag": self.state["l"][1]}
        if held is None:
            return FAIL, "ObjectNotFoundError", {}
        return OK, "", {"value": held[0], "etag": held[1]}

    def new_etag(self, content):
        self.count += 1
        return f"e-{content}" if self.etags_of_content else f"e{self.count}"


@pytest.mark.parametrize("etags_of_content", [False, True])
@pytest.mark.parametrize("block", range(4))
def test_histories_of_a_true_register_are_never_called_bad(block, etags_of_content):
    judged = 0
    for seed in range(block * 150, block * 150 + 150):
        history = Register(seed, etags_of_content=etags_of_content).run(24)
        for checker in STORAGE_CHECKERS:
            verdict = checker(history, STORE)
            assert verdict.judgement is not Judgement.FAIL, (seed, verdict)
            judged += verdict.judgement is Judgement.PASS and checker is linearizable
    assert judged > 140


def test_most_changes_to_an_answer_are_noticed():
    """The other direction: one answer of a true history is made wrong."""
    caught = tried = 0
    for seed in range(200):
        history = Register(seed).run(24)
        reads = [op for op in history.of("read") if op.outcome == OK]
        if not reads:
            continue
        tried += 1
        chosen = random.Random(seed).choice(reads)
        chosen.call.value, chosen.call.etag = Value("never", "never"), "never"
        caught += linearizable(history, STORE).judgement is Judgement.FAIL
    assert caught == tried
