"""All that the kit knows of Hypothesis' inside: in one place, and imported only where a test needs it.

``HypothesisHandle.inner_test`` is the documented seam for tools that make a coroutine test synchronous; the attributes
that ``@settings``, ``@example`` and ``@seed`` leave on a test are not documented, and are read with defaults.
"""

from __future__ import annotations

import base64
import copy
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

from factflow_infra_testing.errors import KitUsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hypothesis import settings as Settings  # noqa: N812 - Hypothesis' own name reads like a function

_SETTINGS = "_hypothesis_internal_use_settings"
_SEED = "_hypothesis_internal_use_seed"
_FORWARDED = ("hypothesis_explicit_examples", _SEED)
SEED_BITS = 64


class DivergedError(BaseException):
    """A run with another plan drew more from ``st.data()`` than the first run did: it is another test."""


def is_given(test: object) -> bool:
    """Whether ``@given`` has been applied to ``test``."""
    return bool(getattr(test, "is_hypothesis_test", False)) and hasattr(test, "hypothesis")


def inside_hypothesis() -> bool:
    """Whether a Hypothesis example is being run right now."""
    if "hypothesis" not in sys.modules:
        return False
    from hypothesis import currently_in_test_context

    return currently_in_test_context()


def effective_settings(wrapper: object) -> Settings:
    """The settings of the test: its own ``@settings``, or the loaded profile's."""
    from hypothesis import settings

    own = getattr(wrapper, _SETTINGS, None)
    return own if isinstance(own, settings) else settings.default or settings()


def share_fixtures(wrapper: Any) -> None:
    """Have Hypothesis let the test use fixtures of function scope: it is one run, and shares them with nobody."""
    from hypothesis import HealthCheck, settings

    parent = effective_settings(wrapper)
    suppressed = [*parent.suppress_health_check, HealthCheck.function_scoped_fixture]
    setattr(wrapper, _SETTINGS, settings(parent, suppress_health_check=suppressed))


def forced_seed() -> int | None:
    """The seed of ``--hypothesis-seed``, if it was given and is a number."""
    core = sys.modules.get("hypothesis.core")
    seed = getattr(core, "global_force_seed", None)
    return seed if isinstance(seed, int) and seed >= 0 else None


def prepare(given: Any, wrapper: object, *, max_examples: int, seed: int) -> None:
    """Give ``given`` (what ``@given`` returned) the settings of ``wrapper``, less what makes no sense over a search.

    No deadline and no ``too_slow``: an example may contain a minimisation. No database: what it stores is a sequence of
    choices for a swarm, the reproducer is the plan. One failure at a time: its plan is then held fixed.
    """
    from hypothesis import HealthCheck, Phase, settings

    parent = effective_settings(wrapper)
    for attribute in _FORWARDED:
        if hasattr(wrapper, attribute):
            setattr(given, attribute, getattr(wrapper, attribute))
    if getattr(given, _SEED, None) is None:
        setattr(given, _SEED, seed)  # as @seed does; the test's own @seed wins
    suppressed = {*parent.suppress_health_check, HealthCheck.too_slow, HealthCheck.differing_executors}
    setattr(
        given,
        _SETTINGS,
        settings(
            parent,
            max_examples=max_examples,
            deadline=None,
            database=None,
            report_multiple_bugs=False,
            print_blob=False,
            phases=[phase for phase in parent.phases if phase not in (Phase.explain, Phase.reuse)],
            suppress_health_check=[*suppressed],
            derandomize=False,  # the seed is the test's name's where the profile wants it derandomized
        ),
    )


def draw_swarm_seed() -> int | None:
    """The swarm's seed for the example that is being run, or None in an explicit ``@example``, which draws nothing."""
    from hypothesis.control import current_build_context
    from hypothesis.internal.conjecture.data import ConjectureData

    data = cast("object", current_build_context().data)
    if not isinstance(data, ConjectureData) or data.max_choices == 0:
        return None
    return data.draw_integer(0, (1 << SEED_BITS) - 1)


def is_final_example() -> bool:
    """Whether Hypothesis repeats its smallest failing example for the last time."""
    from hypothesis.control import current_build_context

    return bool(getattr(current_build_context(), "is_final", False))


def is_flaky(error: BaseException) -> bool:
    """Whether Hypothesis gave up because an example was not what it was before."""
    from hypothesis.errors import Flaky

    return isinstance(error, Flaky)


def choices_blob() -> tuple[str, str]:
    """What ``replay_choices`` needs to repeat the inputs of the example that is being run, and the version it is for."""
    from hypothesis.control import current_build_context
    from hypothesis.core import encode_failure
    from hypothesis.internal.conjecture.data import ConjectureData

    data = cast("object", current_build_context().data)
    if not isinstance(data, ConjectureData) or not data.choices:
        return "", ""
    return base64.b64encode(encode_failure(data.choices)).decode("ascii"), version("hypothesis")


def replay_choices(given: Any, blob: str, drawn_with: str) -> None:
    """Make ``given`` run only the inputs of ``blob``."""
    from hypothesis import reproduce_failure

    installed = version("hypothesis")
    if drawn_with != installed:
        raise KitUsageError(
            f"The saved inputs were drawn with Hypothesis {drawn_with}, this is {installed}: "
            "use the @example line of the report instead."
        )
    reproduce_failure(drawn_with, base64.b64decode(blob))(given)


class Inputs:
    """The drawn arguments of one example, given out afresh to each of its runs: a run may change what it was given."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)
        self._tapes: dict[str, list[Any]] = {}
        self._recorded = False

    @property
    def values(self) -> Mapping[str, Any]:
        return self._values

    def fresh(self) -> dict[str, Any]:
        """The arguments for one run."""
        first, self._recorded = not self._recorded, True
        return {name: self._copy(name, value, first=first) for name, value in self._values.items()}

    def rendered(self) -> dict[str, str]:
        """The arguments as text; what ``st.data()`` drew in the example's first run as a list."""
        return {
            name: f"<drawn: {', '.join(map(repr, self._tapes[name]))}>" if name in self._tapes else repr(value)
            for name, value in self._values.items()
        }

    def _copy(self, name: str, value: Any, *, first: bool) -> Any:
        if _is_data(value):
            tape = self._tapes.setdefault(name, [])
            return _Tape(value, tape, recording=first)
        try:
            return copy.deepcopy(value)
        except (TypeError, ValueError, AttributeError, copy.Error):
            return value  # a lock, a generator, a class of C: the test shares it between runs, as it would by hand


class _Tape:
    """``st.data()`` for a run: the first run draws and records, the others get the same in the same order."""

    def __init__(self, data: Any, drawn: list[Any], *, recording: bool) -> None:
        self._data = data
        self._drawn = drawn
        self._recording = recording
        self._next = 0

    def draw(self, strategy: Any, label: Any = None) -> Any:
        if self._recording:
            value = self._data.draw(strategy, label)
            self._drawn.append(copy.deepcopy(value))
            return value
        if self._next >= len(self._drawn):
            raise DivergedError
        self._next += 1
        return copy.deepcopy(self._drawn[self._next - 1])


def _is_data(value: object) -> bool:
    if "hypothesis" not in sys.modules:
        return False
    from hypothesis.strategies import DataObject

    return isinstance(value, cast("type[object]", DataObject))


def unwrapped(given: Any) -> Callable[..., Any]:
    """The function below ``@given``."""
    return given.hypothesis.inner_test
