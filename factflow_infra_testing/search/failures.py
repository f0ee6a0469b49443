"""Telling failures apart, and showing the part of a traceback that is the user's."""

from __future__ import annotations

import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGES = Path(__file__).resolve().parent.parent.parent
_FOREIGN = (
    str(_PACKAGES / "factflow_infra") + "/",
    str(_PACKAGES / "factflow_infra_testing") + "/",
    sysconfig.get_path("stdlib") + "/",
    sysconfig.get_path("platstdlib") + "/",
    "<",  # <frozen importlib>, <string>: nothing to look at
)
# The demo is a user of the kit that ships inside it.
_OURS_AS_USER = str(_PACKAGES / "factflow_infra_testing" / "demo") + "/"
_SITE = f"/{'site-packages'}/"


@dataclass(frozen=True, slots=True)
class Signature:
    """What makes two failures the same: the type (or the check that failed) and the user's line that it came from."""

    kind: str
    where: str

    def __str__(self) -> str:
        return f"{self.kind} at {self.where}" if self.where else self.kind


def signature_of(error: BaseException) -> Signature:
    """The signature of ``error``. Its message is left out: ids and counts in it differ between runs of one defect."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        members = sorted({str(signature_of(member)) for member in group.exceptions})
        return Signature(type(group).__name__, "; ".join(members))
    checker = getattr(getattr(error, "verdict", None), "checker", None)  # a CheckFailedError's
    kind = f"{type(error).__name__}[{checker}]" if isinstance(checker, str) else type(error).__name__
    places = [place for place in _places(error.__traceback__) if _is_users(place[0])]
    return Signature(kind, f"{places[-1][0]}:{places[-1][1]}" if places else "")


def is_control(error: BaseException) -> bool:
    """Whether ``error`` steers a test runner, Hypothesis or the interpreter, and says nothing about the code under test."""
    if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
        return True
    control: list[type[BaseException]] = []
    for module, names in (
        ("hypothesis.errors", ("StopTest", "UnsatisfiedAssumption", "Frozen")),
        ("_pytest.outcomes", ("Skipped", "XFailed", "Exit")),
    ):
        loaded = sys.modules.get(module)  # an error of a module that was never imported cannot have been raised
        if loaded is not None:
            control.extend(getattr(loaded, name) for name in names if hasattr(loaded, name))
    if "unittest.case" in sys.modules:
        control.append(sys.modules["unittest.case"].SkipTest)
    return isinstance(error, tuple(control))


def trimmed(error: BaseException) -> BaseException:
    """``error`` with only the user's frames in its traceback and in those of its causes, where there are any."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        each = pending.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        pending += [each.__cause__, each.__context__]
        kept: TracebackType | None = None
        for entry in reversed(list(_entries(each.__traceback__))):
            if _is_users(entry.tb_frame.f_code.co_filename):
                kept = TracebackType(kept, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
        if kept is not None:
            each.__traceback__ = kept
    return error


def _entries(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _places(traceback: TracebackType | None) -> Iterator[tuple[str, int]]:
    for entry in _entries(traceback):
        yield entry.tb_frame.f_code.co_filename, entry.tb_lineno


def _is_users(filename: str) -> bool:
    if filename.startswith(_OURS_AS_USER):
        return True
    return not filename.startswith(_FOREIGN) and _SITE not in filename
