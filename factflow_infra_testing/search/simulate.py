"""``@simulate``: an ``async def test(sim)`` becomes an ordinary synchronous test that searches for a failing run."""

from __future__ import annotations

import functools
import inspect
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, overload

from factflow_infra_testing.errors import KitUsageError
from factflow_infra_testing.search import inputs as hypothesis_inputs
from factflow_infra_testing.search.execution import SIM, TestExecution
from factflow_infra_testing.search.options import Options, check_options
from factflow_infra_testing.search.run import Backend, default_backend

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from factflow_infra_testing.search.decisions import Fault
    from factflow_infra_testing.search.faults import Faults

    Test = Callable[..., Awaitable[None]]


@overload
def simulate(test: Test, /) -> Callable[..., None]: ...
@overload
def simulate(
    *,
    faults: Faults | None = None,
    max_examples: int | None = None,
    plan: Sequence[Fault] | None = None,
    found_with: str | None = None,
    seed: int | None = None,
    virtual_budget: float | None = None,
    tier: str | None = None,
    strict: bool = False,
    backend: Callable[[], Backend] = default_backend,
) -> Callable[[Test], Callable[..., None]]: ...
def simulate(
    test: Test | None = None,
    /,
    *,
    faults: Faults | None = None,
    max_examples: int | None = None,
    plan: Sequence[Fault] | None = None,
    found_with: str | None = None,
    seed: int | None = None,
    virtual_budget: float | None = None,
    tier: str | None = None,
    strict: bool = False,
    backend: Callable[[], Backend] = default_backend,
) -> Callable[..., Any]:
    """Search for a run of ``async def test(sim)`` that fails, and report the smallest fault plan that makes it fail.

    ``faults``: the kinds that may happen (all). ``max_examples``: runs to try (that of ``@settings`` or of Hypothesis' profile).
    ``plan``: run these faults and no others, once; an entry that takes no effect is a ``PlanMismatchError``. ``found_with``:
    the versions that ``plan`` was found with, as a report gives them; with others the summary says so. ``seed``: with ``plan``, the seed of the run; else the seed of the whole search (random, and told when a test fails). ``virtual_budget``:
    virtual seconds that one run may last. ``tier``: ``"model"`` or ``"wire"``, for queue providers that do not say. ``strict``: a fault that never fired or a ``sometimes`` that was never true fails
    the test. ``backend``: what runs a simulation.

    Stands above ``@given``, ``@example`` and below ``@pytest.mark``; fixtures and ``parametrize`` may stand beside ``sim``.
    """
    checked = check_options(
        faults=faults,
        max_examples=max_examples,
        plan=plan,
        found_with=found_with,
        seed=seed,
        virtual_budget=virtual_budget,
        tier=tier,
        strict=strict,
        backend=backend,
    )
    return _decorate(test, checked) if test is not None else functools.partial(_decorate, options=checked)


def _decorate(test: Callable[..., Any], options: Options) -> Callable[..., None]:
    given = test if hypothesis_inputs.is_given(test) else None
    inner = hypothesis_inputs.unwrapped(given) if given is not None else test
    if getattr(test, "factflow_simulate", None) is not None:
        raise KitUsageError(f"@simulate is on {_name(test)} twice.")
    if not inspect.iscoroutinefunction(inner):
        raise KitUsageError(f"@simulate is for `async def` tests; {_name(inner)} is not one.")
    signature = inspect.signature(test)
    if SIM not in signature.parameters:
        raise KitUsageError(f"@simulate gives its test the argument `{SIM}`, and {_name(inner)} does not take it.")

    @functools.wraps(test)
    def wrapper(*args: Any, **fixtures: Any) -> None:
        __tracebackhide__ = True
        if hypothesis_inputs.inside_hypothesis():
            raise KitUsageError(f"Put @simulate above @given, not below it: {_name(inner)}.")
        TestExecution(wrapper, inner, given, options, args, fixtures).run()

    wrapper.__signature__ = signature.replace(  # type: ignore[attr-defined]  # what pytest reads for fixtures
        parameters=[parameter for name, parameter in signature.parameters.items() if name != SIM]
    )
    # The marks of a Hypothesis test: its pytest plugin then checks for function-scoped fixtures, and lets @settings be.
    wrapper.is_hypothesis_test = True  # type: ignore[attr-defined]
    wrapper.hypothesis = SimpleNamespace(inner_test=wrapper)  # type: ignore[attr-defined]
    wrapper.factflow_simulate = options  # type: ignore[attr-defined]
    return wrapper


def _name(test: object) -> str:
    return getattr(test, "__qualname__", None) or repr(test)
