"""Attributes of other modules that are replaced for a session of simulated runs, and put back after it.

Nothing is replaced at import. What is put in place looks at the thread that calls it, and does what the original does
unless that thread is inside a run: other threads of the test process notice nothing.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

MISSING = object()


class Patch(NamedTuple):
    """``make(original)`` gives what stands in for attribute ``name`` of ``target``."""

    target: Any
    name: str
    make: Callable[[Any], Any]


_lock = threading.Lock()
_depth = 0
_undo: list[Callable[[], None]] = []


def _replace(patch: Patch) -> None:
    own = cast("Mapping[str, Any]", vars(patch.target))
    original = own.get(patch.name, MISSING)
    if original is MISSING:
        return  # not on this version or platform
    setattr(patch.target, patch.name, patch.make(original))
    _undo.append(lambda: setattr(patch.target, patch.name, original))


@contextmanager
def session() -> Generator[None]:
    """Patches are in place inside. May be nested, and entered from several threads: the outermost counts."""
    global _depth  # noqa: PLW0603 - what is replaced is global to the process too
    with _lock:
        _depth += 1
        if _depth == 1:
            try:
                _install()
            except BaseException:
                _depth = 0
                _restore()
                raise
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                _restore()


def is_active() -> bool:
    """Whether a session is open."""
    return _depth > 0


def _install() -> None:
    from factflow_infra_testing.api.pulsar import standing_in
    from factflow_infra_testing.simulation import datetimes, entropy, executor, guards, locks, oversights, pins

    for part in (entropy, locks, executor, guards, oversights, standing_in):
        for patch in part.patches():
            _replace(patch)
    _undo.append(datetimes.install())
    _undo.append(entropy.keep_random_state())
    _undo.extend(pins.install())


def _restore() -> None:
    while _undo:
        _undo.pop()()
