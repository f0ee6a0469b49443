"""The pytest plugin: options, the host of each search, artifacts and the summary. Loaded by ``-p factflow_infra_testing``."""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

from factflow_infra_testing.errors import KitUsageError
from factflow_infra_testing.search.host import Host, Summary, hosted
from factflow_infra_testing.search.inputs import is_given, share_fixtures
from factflow_infra_testing.search.replay import SavedPlan, read_plan
from factflow_infra_testing.search.run import TIERS

if TYPE_CHECKING:
    from collections.abc import Generator

PROPERTY: Final = "factflow"
_NOTICE: Final = "factflow notice"
_SECTION: Final = "factflow report"
_REPLAY = pytest.StashKey[SavedPlan | None]()
_SUMMARY = pytest.StashKey["SummaryCollector"]()


def _seed(text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 64:
        raise argparse.ArgumentTypeError(f"a whole number from 0 to 2**64 - 1, got {text!r}")
    return value


def _examples(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1, got {text!r}")
    return int(text)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("factflow", "simulated queues and storage")
    group.addoption(
        "--factflow-seed", type=_seed, default=None, metavar="N", help="search the same runs again (default: random)"
    )
    group.addoption(
        "--factflow-examples",
        type=_examples,
        default=None,
        metavar="N",
        help="runs to try in each search, instead of the test's own",
    )
    group.addoption(
        "--factflow-tier",
        choices=TIERS,
        default=None,
        help="how much of a queue provider is real, for tests that do not say (default: wire where there is one)",
    )
    group.addoption(
        "--factflow-replay",
        default=None,
        metavar="PATH",
        help="run the plan.json of a failure, and only the test that it belongs to",
    )
    group.addoption(
        "--factflow-strict",
        action="store_true",
        default=False,
        help="fail a search in which a wanted fault never fired or a `sometimes` was never true",
    )
    group.addoption(
        "--factflow-artifacts",
        default=".factflow",
        metavar="DIR",
        help="where a failure leaves its artifacts (.factflow)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "faults(*faults): the faults that take place in a test that uses the simulated fixtures"
    )
    path = config.getoption("--factflow-replay")
    try:
        config.stash[_REPLAY] = None if path is None else read_plan(Path(path))
    except KitUsageError as error:
        raise pytest.UsageError(f"--factflow-replay: {error}") from error
    if not hasattr(config, "workerinput"):
        collector = config.stash[_SUMMARY] = SummaryCollector()
        config.pluginmanager.register(collector, "factflow-infra-testing-summary")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    replay = config.stash[_REPLAY]
    if replay is None:
        return
    wanted = [item for item in items if item.nodeid == replay.test]
    if not wanted:
        collected = ", ".join(item.nodeid for item in items[:3]) or "nothing"
        raise pytest.UsageError(f"--factflow-replay: the plan belongs to {replay.test!r}; collected was {collected}.")
    others = [item for item in items if item.nodeid != replay.test]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = wanted


def pytest_runtest_setup(item: pytest.Item) -> None:
    test = getattr(item, "obj", None)
    below = getattr(getattr(test, "hypothesis", None), "inner_test", None)
    if hasattr(below, "factflow_simulate") and below is not getattr(test, "__func__", test):
        raise KitUsageError("Put @simulate above @given, not below it: it makes of both one search.")


def host_of(item: pytest.Item) -> Host:
    """What a search in ``item`` is told about its runner."""
    config = item.config
    strict = bool(config.getoption("--factflow-strict"))
    artifacts = str(config.getoption("--factflow-artifacts"))

    def finished(summary: Summary) -> None:
        coverage = summary.coverage
        item.user_properties.append(
            (
                PROPERTY,
                json.dumps(
                    {
                        "test": summary.test,
                        "runs": coverage.runs,
                        "seed": summary.seed,
                        "failed": summary.failed,
                        "never_fired": list(coverage.never_fired),
                        "never_held": list(coverage.never_held),
                    }
                ),
            )
        )

    def notice(text: str) -> None:
        item.user_properties.append((_NOTICE, text))

    def report(text: str) -> None:
        item.add_report_section("call", _SECTION, text)

    shown = config.getoption("showcapture", "all") == "all"  # else the section would not be printed
    return Host(
        test=item.nodeid,
        seed=config.getoption("--factflow-seed"),
        examples=config.getoption("--factflow-examples"),
        tier=config.getoption("--factflow-tier"),
        replay=config.stash[_REPLAY],
        strict=strict,
        artifacts=config.rootpath / artifacts,
        finished=finished,
        notice=notice,
        report=report if shown else None,
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    __tracebackhide__ = True
    test = getattr(item, "obj", None)
    with hosted(host_of(item)), warnings.catch_warnings():
        if hasattr(test, "factflow_simulate"):
            wrapper: Any = getattr(test, "__func__", test)
            if wrapper.factflow_simulate.plan is not None and not is_given(wrapper.__wrapped__):
                share_fixtures(wrapper)
            # A module-wide `pytestmark = pytest.mark.asyncio` also hits tests that @simulate has made synchronous.
            warnings.filterwarnings("ignore", message=r"The test .* is marked with '@pytest\.mark\.asyncio'")
        return (yield)


class SummaryCollector:
    """Gathers what the searches report, from this process or from the workers, for the terminal summary."""

    def __init__(self) -> None:
        self.searches: list[dict[str, Any]] = []
        self.notices: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call":
            return
        for name, value in report.user_properties:
            if name == PROPERTY:
                self.searches.append(cast("dict[str, Any]", json.loads(str(value))))
            elif name == _NOTICE:
                self.notices.append(str(value))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        weak = [each for each in self.searches if not each["failed"] and (each["never_fired"] or each["never_held"])]
        verbose = config.get_verbosity() > 0
        if not weak and not self.notices and not (verbose and self.searches):
            return
        terminalreporter.section("factflow")
        for text in sorted(self.notices):
            terminalreporter.line(text)
        runs = sum(each["runs"] for each in self.searches)
        if not weak and not (verbose and self.searches):
            return
        terminalreporter.line(f"{_count(len(self.searches), 'search', 'searches')}, {_count(runs, 'run', 'runs')}")
        for each in sorted(weak, key=lambda summary: summary["test"]):
            if each["never_fired"]:
                terminalreporter.line(
                    f"{each['test']}: never fired in {_count(each['runs'], 'run', 'runs')}: {', '.join(each['never_fired'])}"
                )
            if each["never_held"]:
                labels = ", ".join(map(repr, each["never_held"]))
                terminalreporter.line(
                    f"{each['test']}: `sometimes` never true in {_count(each['runs'], 'run', 'runs')}: {labels}"
                )


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
