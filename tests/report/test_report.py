"""The report of a failure: its text as a snapshot, the timeline's limits, the page, the file of a plan."""

from __future__ import annotations

import functools
import html.parser
import json
from types import SimpleNamespace

import pytest

from factflow_infra_testing.errors import KitUsageError
from factflow_infra_testing.history.operations import History, finish
from factflow_infra_testing.report.failure import FailureReport, publish
from factflow_infra_testing.report.html import CAP, timeline_page
from factflow_infra_testing.report.text import decorator, timeline
from factflow_infra_testing.report.timeline import Names, describe, rows
from factflow_infra_testing.search.decisions import Fault
from factflow_infra_testing.search.failures import Signature
from factflow_infra_testing.search.host import Host
from factflow_infra_testing.search.replay import SavedPlan, artifacts_folder, forget_artifacts, read_plan
from factflow_infra_testing.search.run import RunRecord
from factflow_infra_testing.search.search import Finding
from factflow_infra_testing.search.surroundings import surroundings

IDS = ["3f2a9c1e-0b7d-4c55-9a10-aa11bb22cc33", "77aa0c1e-0b7d-4c55-9a10-aa11bb22cc33"]
PLAN = (Fault("ack-lost", "/queue/invoices", 1), Fault("kill", "worker@write s3", 1, 2))


def history():
    made = History()
    made.note(0.0, "worker", "start", "worker")
    for n, key in enumerate(IDS):
        operation = made.begin(0.001 * n, "test", "publish", "/queue/invoices", key)
        finish(operation, 0.001 * n + 0.0005, "ok")
    handling = made.begin(0.002, "worker", "handle", "/queue/invoices", IDS[0])
    finish(handling, 0.004, "ok", "ack")
    made.note(0.004, "broker", "fault", "/queue/invoices", IDS[0], "ack-lost")
    made.begin(0.005, "worker", "write", "s3", "invoices/0.json")
    made.note(0.006, "worker", "kill", "worker", "", "falls silent")
    made.note(1.006, "worker", "restart", "worker")
    written = made.begin(1.007, "worker", "write", "s3", "invoices/0.json")
    finish(written, 61.1, "info", "WriteUnconfirmedError")
    return made


def finding(plan=PLAN, **changes):
    record = RunRecord(
        failure=AssertionError("invoice 0 written twice"), history=history(), digest="d", virtual_seconds=61.1
    )
    fields = {
        "signature": Signature("AssertionError", "tests/test_invoices.py:12"),
        "plan": plan,
        "seed": 0,
        "record": record,
        "recorded": 23,
        "runs": 31,
        "exhausted": False,
    }
    return Finding(**{**fields, **changes})


def report(**changes):
    fields = {
        "test": "tests/test_invoices.py::test_once[a b]",
        "finding": finding(),
        "inputs": {},
        "search_seed": 7,
        "examples": 12,
        "given_plan": False,
        "reproduced": "",
        "blob": "",
        "hypothesis_version": "",
    }
    return FailureReport(**{**fields, **changes})


SNAPSHOT = """\
Violated: AssertionError at tests/test_invoices.py:12
    invoice 0 written twice

Found in run 12 of the search with --factflow-seed=7; 23 deviations reduced to 2 in 31 runs.

Minimal plan (2 faults):

    @simulate(plan=[Fault('ack-lost', '/queue/invoices', 1), Fault('kill', 'worker@write s3', 1, 2)])
    @example(n=3)

    ack-lost on /queue/invoices, number 1: the connection is lost before an ack reaches the broker: the message comes
      again
    kill (silent) on worker@write s3, number 1: a process is killed at an await: its peers see a reset, or only fall
      silent

Timeline (61.100 virtual seconds; !! marks a fault):

       seconds  worker                                                test                   broker
         0.000  start
         0.000                                                        publish invoices 3f2a
         0.001                                                        publish invoices 77aa
         0.002  handle invoices 3f2a (ack)
 !!      0.004                                                                               ack-lost invoices 3f2a
         0.005  write s3 invoices/0.json -> never ended
 !!      0.006  kill (falls silent)
         1.006  restart
         1.007  write s3 invoices/0.json -> effect unknown
                  (WriteUnconfirmedError)"""


class TestText:
    def test_snapshot(self):
        assert publish(report(inputs={"n": "3"}), Host()) == SNAPSHOT

    def test_no_line_is_too_wide_but_those_to_copy(self):
        text = publish(report(), Host())
        assert max(len(line) for line in text.splitlines() if "@simulate" not in line) <= 121

    def test_without_faults(self):
        text = publish(report(finding=finding(plan=(), recorded=0)), Host())
        assert "Minimal plan (no fault is needed):\n\n    @simulate(plan=[])\n\nTimeline" in text
        assert "Found in run 12 of the search with --factflow-seed=7." in text

    def test_a_budget_that_ended_is_told(self):
        assert "Smallest plan found so far (2 faults):" in publish(report(finding=finding(exhausted=True)), Host())

    def test_a_replay_and_a_fixed_plan_have_no_search_to_tell_of(self):
        assert "Replayed: reproduced 3 of 3 times." in publish(report(reproduced="3 of 3", given_plan=True), Host())
        assert "Found in run" not in publish(report(given_plan=True), Host())

    def test_a_failure_without_message_or_history(self):
        bare = finding(record=RunRecord(failure=AssertionError()))
        text = publish(report(finding=bare), Host())
        assert "(no message)" in text
        assert "(nothing was recorded)" in text

    def test_the_decorator_is_python_whatever_its_length(self):
        plan = [Fault("kill", f"worker@write /queue/a-rather-long-name-{n}", n + 1, 2) for n in range(4)]
        for text, options in [
            (decorator(plan, 5, {}), {"plan": plan, "seed": 5, "found_with": surroundings()}),
            (decorator(plan[:1], 0, {}), {"plan": plan[:1]}),
            (decorator([], 9, {}), {"plan": [], "seed": 9}),
        ]:
            captured = {}
            names = {"simulate": functools.partial(dict.update, captured), "Fault": Fault}
            exec(text.removeprefix("@"), names)
            assert captured == options

    def test_inputs_that_are_no_python_are_a_comment(self):
        assert decorator([], 0, {"n": "1", "x": "<object>"}) == "@simulate(plan=[])\n# inputs: n=1, x=<object>"


class TestTimeline:
    def many(self, count):
        made = History()
        for n in range(count):
            made.note(n, "worker", "log", "", f"k{n}")
        made.note(count, "worker", "kill", "worker")
        for n in range(count, 2 * count):
            made.note(n, "worker", "log", "", f"k{n}")
        return made.operations

    def test_what_is_left_out_is_said_and_faults_stay(self):
        text = timeline(self.many(100), limit=20)
        assert len(text.splitlines()) < 30
        assert "!!" in text
        shown = sum("log" in line or "kill" in line for line in text.splitlines())
        skipped = sum(int(line.split()[1]) for line in text.splitlines() if "more ..." in line)
        assert shown + skipped == 201
        assert "k0" in text
        assert "k199" in text

    def test_many_processes_get_one_column(self):
        made = History()
        for n in range(8):
            made.note(n, f"process-{n}", "start", f"process-{n}")
        assert "process-7  start" in timeline(made.operations)

    def test_ids_are_shortened_without_confusion(self):
        keys = [
            "aaaa-1111-2222-3333",
            "aaaa-1111-2222-4444",
            "bbbb-1111-2222-3333",
            "short",
            "a/very/long/object/key.json",
        ]
        operations = [SimpleNamespace(key=key) for key in keys]
        names = Names(operations)
        shortened = [names.short(key) for key in keys]
        assert len(set(shortened)) == len(keys)
        assert shortened[2:] == ["bbbb", "short", "a/very/long/object/key.json"]

    def test_how_an_operation_ended(self):
        operations = history().operations
        names = Names(operations)
        told = [describe(operation, names) for operation in operations]
        assert told[3] == "handle invoices 3f2a (ack)"
        assert told[4] == "ack-lost invoices 3f2a"
        assert told[5] == "write s3 invoices/0.json -> never ended"

    def test_rows_keep_the_order(self):
        shown = rows(self.many(50), limit=30)
        assert [row.time for row in shown] == sorted(row.time for row in shown)


class _Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.open = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


class TestPage:
    def page(self, operations, **changes):
        fields = {"title": "t", "failure": "f", "plan": PLAN, "virtual_seconds": 1.0}
        text = timeline_page(operations, **{**fields, **changes})
        page = _Page()
        page.feed(text)
        assert page.open == []
        return text, page

    def boxes(self, page):
        return [attributes["class"] for tag, attributes in page.tags if attributes.get("class", "").startswith("op ")]

    def test_each_operation_is_a_box_coloured_by_outcome(self):
        _, page = self.page(history().operations)
        assert sorted(self.boxes(page)) == sorted(["op ok"] * 5 + ["op fault"] * 2 + ["op open", "op info"])

    def test_it_loads_nothing(self):
        text, page = self.page(history().operations)
        assert "http" not in text
        assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe"}

    def test_what_is_shown_is_escaped(self):
        made = History()
        made.note(0, "<b>", "log", "<script>", '"><script>')
        text, _ = self.page(made.operations, title="<i>", failure="<u>", plan=[Fault("kill", "<p>", 1)])
        assert not [tag for tag in ("<b>", "<script>", "<i>", "<u>", "<p>") if tag in text]

    def test_overlapping_operations_have_lanes_of_their_own(self):
        made = History()
        first, second = (made.begin(t, "w", "write", "s3", str(t)) for t in (0.0, 0.1))
        finish(first, 1.0, "ok")
        finish(second, 2.0, "ok")
        _, page = self.page(made.operations)
        places = [a["style"].rsplit("grid-column:", 1)[1] for _, a in page.tags if a.get("class", "").startswith("op ")]
        assert places == ["2", "3"]

    def test_the_cap_is_stated(self):
        made = History()
        for n in range(CAP + 500):
            made.note(n * 0.001, "w", "log", "", str(n))
        text, page = self.page(made.operations)
        assert f"{CAP} of {CAP + 500} operations; the page shows at most {CAP}." in text
        assert len(self.boxes(page)) == CAP

    def test_an_empty_history(self):
        text, _ = self.page([], plan=())
        assert "No fault is needed." in text


class TestArtifacts:
    def test_they_are_written_and_told(self, tmp_path):
        text = publish(report(inputs={"n": "3"}, blob="YWJj", hypothesis_version="6"), Host(artifacts=tmp_path))
        folder = artifacts_folder(tmp_path, report().test)
        assert f"--factflow-replay {folder}/plan.json" in text
        assert "pytest 'tests/test_invoices.py::test_once[a b]' -p factflow_infra_testing" in text
        lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
        assert [line["kind"] for line in lines] == [operation.kind for operation in history().operations]
        assert (folder / "timeline.html").read_text().startswith("<!doctype html>")
        assert (tmp_path / ".gitignore").read_text() == "*\n"
        saved = read_plan(folder / "plan.json")
        assert (saved.plan, saved.test, saved.inputs, saved.blob) == (PLAN, report().test, {"n": "3"}, "YWJj")

    def test_tests_that_differ_have_folders_that_differ(self, tmp_path):
        tests = [
            "a/test_x.py::test",
            "b/test_x.py::test",
            "test_x.py::test[a/b]",
            "test_x.py::test[a_b]",
            "x" * 300,
            "../..",
            "",
        ]
        folders = [artifacts_folder(tmp_path, test) for test in tests]
        assert len(set(folders)) == len(tests)
        assert all(folder.parent == tmp_path and len(folder.name) < 120 for folder in folders)

    def test_forgetting_leaves_what_is_not_ours(self, tmp_path):
        publish(report(), Host(artifacts=tmp_path))
        folder = artifacts_folder(tmp_path, report().test)
        (folder / "notes.txt").write_text("mine")
        forget_artifacts(tmp_path, report().test)
        assert [path.name for path in folder.iterdir()] == ["notes.txt"]
        forget_artifacts(tmp_path, "another")


class TestPlanFile:
    def test_round_trip(self, tmp_path):
        saved = SavedPlan(test="t::é", plan=PLAN, seed=3, inputs={"n": "'ü'"}, failure="f")
        (tmp_path / "plan.json").write_text(saved.to_json(), "utf-8")
        assert read_plan(tmp_path / "plan.json") == saved

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (None, "Cannot read the plan"),
            ("", "not JSON"),
            ("[]", "not a JSON object"),
            ("{}", "has plan format None; this version reads format 1"),
            ('{"format": 2}', "has plan format 2"),
            ('{"format": 1}', "KeyError: 'test'"),
            ('{"format": 1, "test": "t", "plan": [{"kind": "kill"}]}', "TypeError"),
            ('{"format": 1, "test": "t", "plan": [{"kind": "kill", "target": "w", "nth": 0}]}', "counts from 1"),
            ('{"format": 1, "test": "t", "plan": [], "seed": "x"}', "ValueError"),
        ],
    )
    def test_what_is_no_plan_says_so(self, tmp_path, text, message):
        path = tmp_path / "plan.json"
        if text is not None:
            path.write_text(text)
        with pytest.raises(KitUsageError, match=message) as excinfo:
            read_plan(path)
        assert str(path) in str(excinfo.value)


def test_what_a_service_polls_is_one_row():
    made = History()
    made.note(0.0, "worker", "start", "worker")
    for n in range(1, 50):
        finish(made.begin(n, "worker", "list", "filesystem", "outbox/"), n, "ok")
    finish(made.begin(50.0, "worker", "list", "filesystem", "outbox/"), 50.0, "fail", "StorageIOError")
    finish(made.begin(51.0, "worker", "write", "filesystem", "a"), 51.0, "ok")
    finish(made.begin(52.0, "worker", "write", "filesystem", "a"), 52.0, "ok")
    told = [(row.time, row.cell) for row in rows(made.operations, limit=40)]
    assert told == [
        (0.0, "start"),
        (1, "list filesystem outbox/ (49 times, to 49.000)"),
        (50.0, "list filesystem outbox/ -> fail (StorageIOError)"),
        (51.0, "write filesystem a"),
        (52.0, "write filesystem a"),
    ]
    few = rows(made.operations, limit=3)
    assert sum(row.skipped or 1 for row in few if row.skipped) + sum("49 times" in row.cell for row in few) * 48 + sum(
        not row.skipped for row in few
    ) == len(made.operations)
