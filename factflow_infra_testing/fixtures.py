"""Fixtures for tests that want a simulated backend and no search: one run, in virtual time, with fixed faults or none.

An ``async def`` test that uses one of them (with or without ``@pytest.mark.asyncio``) runs inside a simulation, on its loop.
Providers exist only there, so what other fixtures get at set-up is a stand-in that becomes the provider when the test runs.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Final

import pytest

from factflow_infra_testing.errors import KitUsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from factflow_infra_testing.search.decisions import Fault
    from factflow_infra_testing.simulation.simulation import Simulation

_STAND_INS = pytest.StashKey["dict[str, StandIn]"]()
_COROUTINE = pytest.StashKey["Callable[..., Any]"]()
FIXTURES: Final = ("queue_provider", "storage_provider", "simulated_broker", "s3_storage", "filesystem_storage")


class StandIn:
    """Forwards to the provider once the simulation runs."""

    def __init__(self, name: str, build: Callable[[Simulation], Any]) -> None:
        self._name = name
        self._build = build
        self._target: Any = None

    def __repr__(self) -> str:
        return f"<{self._name} of a simulation that is not running>" if self._target is None else repr(self._target)

    def __getattr__(self, attribute: str) -> Any:
        if self._target is None:
            raise KitUsageError(
                f"The fixture `{self._name}` was used before its test runs (`.{attribute}`): its simulation does not exist "
                "yet. Use it in the test itself, or hand it on without calling it."
            )
        return getattr(self._target, attribute)

    def bind(self, sim: Simulation) -> Any:
        self._target = self._build(sim)
        return self._target

    def unbind(self) -> None:
        self._target = None


def _stand_in(request: pytest.FixtureRequest, name: str, build: Callable[[Simulation, str], Any], default: str) -> Any:
    item: pytest.Item = request.node
    which = getattr(request, "param", default)
    if not isinstance(which, str):
        raise KitUsageError(f"The fixture `{name}` takes a name such as {default!r} as its parameter, got {which!r}.")
    if hasattr(getattr(item, "obj", None), "factflow_simulate"):
        raise KitUsageError(f"A @simulate test has `sim`; the fixture `{name}` is for tests without a search.")
    stand_in = StandIn(name, lambda sim: build(sim, which))
    item.stash.setdefault(_STAND_INS, {})[name] = stand_in
    return stand_in


@pytest.fixture
def queue_provider(request: pytest.FixtureRequest) -> Any:
    """A queue provider on a simulated broker; ``indirect`` parametrization names profile and tier: ``"rabbitmq:model"``."""

    def build(sim: Simulation, which: str) -> Any:
        profile, _, tier = which.partition(":")
        return sim.queue(profile, tier=tier or None, exposed=True)

    return _stand_in(request, "queue_provider", build, "rabbitmq")


@pytest.fixture
def simulated_broker(request: pytest.FixtureRequest) -> Any:
    """The simulated broker behind ``queue_provider``, whatever profile that has; or the one that its own parameter names."""
    if hasattr(request, "param") or "queue_provider" not in request.fixturenames:
        return _stand_in(request, "simulated_broker", lambda sim, which: sim.broker(which), "rabbitmq")
    callspec: Any = getattr(request.node, "callspec", None)
    which = "rabbitmq" if callspec is None else callspec.params.get("queue_provider", "rabbitmq")
    return _stand_in(request, "simulated_broker", lambda sim, _: sim.broker(str(which).partition(":")[0]), "rabbitmq")


@pytest.fixture
def storage_provider(request: pytest.FixtureRequest) -> Any:
    """A storage provider in the simulation: ``"filesystem"``, or ``"s3"`` by ``indirect`` parametrization."""
    return _stand_in(request, "storage_provider", lambda sim, which: sim.storage(which, exposed=True), "filesystem")


@pytest.fixture
def s3_storage(request: pytest.FixtureRequest) -> Any:
    """The S3 provider on a simulated S3."""
    return _stand_in(request, "s3_storage", lambda sim, which: sim.storage(which, exposed=True), "s3")


@pytest.fixture
def filesystem_storage(request: pytest.FixtureRequest) -> Any:
    """The filesystem provider on a simulated disk."""
    return _stand_in(request, "filesystem_storage", lambda sim, which: sim.storage(which, exposed=True), "filesystem")


def _marked_faults(item: pytest.Item) -> tuple[Fault, ...]:
    from factflow_infra_testing.search.options import check_plan

    plan: list[Any] = []
    for marker in item.iter_markers("faults"):
        if marker.kwargs:
            raise KitUsageError(f"@pytest.mark.faults takes Fault(...) values only, got {', '.join(marker.kwargs)}=.")
        plan += marker.args
    return check_plan(plan)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    names: list[str] = getattr(item, "fixturenames", [])
    ours = [name for name in FIXTURES if name in names]
    marked = item.get_closest_marker("faults") is not None
    test = getattr(item, "obj", None)
    if marked and hasattr(test, "factflow_simulate"):
        raise KitUsageError(
            "@pytest.mark.faults is for tests with simulated fixtures; give @simulate a `plan` instead."
        )
    if marked and not ours:
        raise KitUsageError(
            f"@pytest.mark.faults needs one of the fixtures {', '.join(FIXTURES)}; this test uses none."
        )
    if ours and not hasattr(test, "factflow_simulate") and not inspect.iscoroutinefunction(test):
        raise KitUsageError(
            f"The fixture `{ours[0]}` needs an `async def` test: its provider lives on the simulation's loop."
        )
    if ours:
        _marked_faults(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    __tracebackhide__ = True
    if item.stash.get(_STAND_INS, None):
        function: Any = item
        # Taken here because pytest-asyncio puts a synchronous function in its place for the call.
        item.stash[_COROUTINE] = test = function.obj
        if item.get_closest_marker("anyio") is not None:
            # As a synchronous one anyio's plugin leaves it alone; it would run it on a loop of its own.
            function.obj = functools.wraps(test)(lambda: None)
            try:
                return (yield)
            finally:
                function.obj = test
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    __tracebackhide__ = True
    coroutine = pyfuncitem.stash.get(_COROUTINE, None)
    if coroutine is None:
        return None
    from factflow_infra_testing.search.simulate import simulate

    stand_ins = pyfuncitem.stash[_STAND_INS]
    names = [*inspect.signature(coroutine).parameters]
    arguments = {name: pyfuncitem.funcargs[name] for name in names if name in pyfuncitem.funcargs}

    async def scenario(sim: Simulation) -> None:
        providers = {name: stand_in.bind(sim) for name, stand_in in stand_ins.items()}
        try:
            await coroutine(**{name: providers.get(name, value) for name, value in arguments.items()})
        finally:
            for stand_in in stand_ins.values():
                stand_in.unbind()

    simulate(plan=_marked_faults(pyfuncitem))(scenario)()
    return True
