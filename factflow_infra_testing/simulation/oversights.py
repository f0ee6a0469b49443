"""What Python only whispers, told in the report: a coroutine that was never awaited, a task whose error nobody took.

They are notes beside the history (``History.noticed``), not operations: a library that is sloppy about its own tasks changes no digest.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import sys
import sysconfig
import warnings
from functools import cache
from pathlib import PurePath
from traceback import walk_tb
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from factflow_infra.errors import InfraError
from factflow_infra.queue.causes import quoted
from factflow_infra_testing.search.surroundings import Place
from factflow_infra_testing.simulation.entropy import active_world
from factflow_infra_testing.simulation.patches import Patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

_NAMES: Final = {"RecordedQueue": "queue", "RecordedStorage": "storage"}
"""What the recorders around providers are called by those who have one."""
_NOT_THEIRS: Final = (
    *(path for name in ("stdlib", "platstdlib", "purelib", "platlib") if (path := sysconfig.get_path(name))),
    *(str(PurePath(__file__).parents[2] / package) for package in ("factflow_infra", "factflow_infra_testing")),
)
"""Where code lies that the user of the kit has not written."""
_NEVER_RETRIEVED: Final = "exception was never retrieved"
_OF_FILES: Final = frozenset(
    {"os", "posix", "posixpath", "genericpath", "pathlib", "pathlib._local", "shutil", "io", "_io"}
)
"""Modules whose functions act on the simulated disk where they are looked up in a run that has one."""
_LONGEST: Final = 200


def of_task(context: dict[str, Any]) -> str:
    """What to say of a task of the code under test that failed unseen; empty for all else that a loop complains of."""
    task, error = context.get("future"), context.get("exception")
    code = getattr(getattr(task, "get_coro", lambda: None)(), "cr_code", None)
    if not context["message"].endswith(_NEVER_RETRIEVED) or code is None or not _theirs(code.co_filename):
        return ""
    return f"a task of {code.co_qualname} failed with {_error(error)}, and nobody asked for its result"


def of_handler(target: str, outcome: object) -> str:
    """What to say of a handler that raised ``outcome``, or returned it where it is no verdict; empty for errors that faults make."""
    if not isinstance(outcome, BaseException):
        return f"a handler of {target} returned {quoted(repr(outcome), _LONGEST)}, which is no verdict: MessageStatus.ACK, RETRY, REJECT or None"
    if isinstance(outcome, InfraError) and outcome.retryable:
        return ""
    frames = [frame for frame, _ in walk_tb(outcome.__traceback__) if _theirs(frame.f_code.co_filename)]
    return f"a handler of {target} failed with {_error(outcome)}{_place(frames[-1]) if frames else ''}"


def of_real_names(error: BaseException) -> str:
    """What to say of an ``error`` in a run with a simulated disk, where a function it came through had the real ``os`` or the like:
    it was imported there before the disk was, and is not replaced in the variables of a function. Else empty.
    """
    for frame, _ in walk_tb(error.__traceback__):
        code = frame.f_code
        if _theirs(code.co_filename) and code.co_name != "<module>":
            # Not what pytest keeps of an ``assert``: ``@py_assert7``.
            real = sorted(
                name for name, value in frame.f_locals.items() if name.isidentifier() and _is_of_real_files(value)
            )
            if real:
                return (
                    f"{', '.join(real)} in {code.co_qualname} {'is' if len(real) == 1 else 'are'} of the real disk, from before the "
                    "simulated one was there: import at the top of the module, or take the disk first"
                )
    return ""


def _is_of_real_files(value: object) -> bool:
    if isinstance(value, ModuleType):
        return value.__name__ in _OF_FILES
    return callable(value) and getattr(value, "__module__", None) in _OF_FILES


def _error(error: object) -> str:
    """Its class, and the first line of what it says."""
    said = str(error).strip().partition("\n")[0]
    return type(error).__name__ + (f": {quoted(said, _LONGEST)}" if said else "")


def patches() -> Iterator[Patch]:
    """The place where the interpreter says that a coroutine was never awaited."""
    yield Patch(warnings, "_warn_unawaited_coroutine", _warning)


def _warning(original: Callable[[Any], None]) -> Callable[[Any], None]:
    def _warn_unawaited_coroutine(coroutine: Any) -> None:
        world = active_world()
        if world is not None:
            first, _, rest = coroutine.__qualname__.partition(".")
            place = place_above(1)
            world.loop.notice(
                f"coroutine {_NAMES.get(first, first)}{'.' if rest else ''}{rest} was never awaited{place}"
            )
        if coroutine.cr_origin is None:
            # As the original does, which would blame this very line.
            warnings.warn(
                f"coroutine '{coroutine.__qualname__}' was never awaited",
                RuntimeWarning,
                stacklevel=2,
                source=coroutine,
            )
        else:
            original(coroutine)

    return _warn_unawaited_coroutine


def place_above(levels: int) -> str:
    """The place of so many calls above the caller, if it is in the code under test: ``, service.py:12``; else empty."""
    return _place(sys._getframe(levels + 1))  # noqa: SLF001 - see pins.INTERNALS


def whereabouts(callback: object, main: object) -> Place | None:
    """The innermost line of the code under test that the task behind ``callback`` stands at, or else the task ``main``."""
    for task in (getattr(callback, "__self__", None), main):
        found: Place | None = None
        current: Any = getattr(task, "get_coro", lambda: None)()
        while current is not None:
            frame: FrameType | None = getattr(current, "cr_frame", None) or getattr(current, "ag_frame", None)
            if frame is not None and _theirs(frame.f_code.co_filename):
                found = Place(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname)
            current = getattr(current, "cr_await", None) or getattr(current, "ag_await", None)
        if found is not None:
            return found
    return None


def _place(frame: FrameType | None) -> str:
    """Where the code under test had just dropped the coroutine, as far as that can be told."""
    if frame is None or not _theirs(frame.f_code.co_filename):
        return ""
    return f", {PurePath(frame.f_code.co_filename).name}:{frame.f_lineno}"


@cache
def _theirs(file: str) -> bool:
    return not file.startswith("<") and not any(PurePath(file).is_relative_to(path) for path in _NOT_THEIRS)
