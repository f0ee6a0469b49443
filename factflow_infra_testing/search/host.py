"""Who runs the search: a test runner with options, or nobody in particular. Set for the length of one test."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from factflow_infra_testing.search.coverage import Coverage
    from factflow_infra_testing.search.replay import SavedPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What one test's search came to, for the runner's own summary."""

    test: str
    coverage: Coverage
    seed: int
    failed: bool


def _drop_text(text: str) -> None:
    """Nobody asked."""


def _drop_summary(summary: Summary) -> None:
    """Nobody asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The options of a run of tests. ``artifacts`` is the folder for what a failure leaves; None leaves nothing."""

    test: str = ""
    """The node id of the test, where a runner knows one."""
    seed: int | None = None
    examples: int | None = None
    tier: str | None = None
    """The tier of tests that do not say."""
    replay: SavedPlan | None = None
    strict: bool = False
    artifacts: Path | None = None
    finished: Callable[[Summary], None] = field(default=_drop_summary)
    notice: Callable[[str], None] = field(default=_drop_text)
    """Takes what there is to say of a plan that passed, and was found elsewhere."""
    report: Callable[[str], None] | None = None
    """Takes the full text of a failure; without it the text is a note on the exception."""


_current: ContextVar[Host] = ContextVar("factflow_infra_testing_host", default=Host())  # noqa: B039 - frozen


def current_host() -> Host:
    return _current.get()


class hosted:  # noqa: N801 - a context manager, read as a verb
    """``with hosted(host):`` the searches inside belong to ``host``."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def __enter__(self) -> Host:
        self._token = _current.set(self._host)
        return self._host

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)
