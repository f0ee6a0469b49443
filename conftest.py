"""Options of the whole suite: tests marked ``live`` need a real server, or real time, and run only with ``--live``."""

from __future__ import annotations

import gc

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--live",
        action="store_true",
        help="run the tests against real servers, which are started for them; without a server they are skipped, "
        "and fail where CI is set",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "live: needs a real server, or real time; runs only with --live")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--live"):
        return
    skip = pytest.mark.skip(reason="needs a real server, or real time: run with --live")
    for item in items:
        if item.get_closest_marker("live") is not None:
            item.add_marker(skip)


def pytest_collection_finish() -> None:
    """What was collected stays to the end: the collector need not look through it in each full collection of the tests."""
    gc.collect()
    gc.freeze()
