"""The searches in these tests are the test's own: they must not be taken for searches of this test run."""

from __future__ import annotations

import pytest

from factflow_infra_testing.search.host import Host, hosted


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call():
    with hosted(Host()):
        return (yield)
