"""``datetime.now`` and ``datetime.utcnow`` in virtual time.

Both are C code that asks the operating system directly, so replacing ``time.time`` does not reach them (it does reach
``date.today`` and ``datetime.today``, which call it). A replaced *class* would not reach the modules that hold the real
one, and would break ``isinstance`` and pydantic's schemas; so the two entries in the class's own dictionary are replaced,
for the length of a session. A bound ``datetime.now`` that was stored before (``default_factory=datetime.now``) is not reached.
"""

from __future__ import annotations

import ctypes
import gc
import warnings
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any, cast

from factflow_infra_testing.simulation.entropy import active_world

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = ("now", "utcnow")


def _own_dictionary() -> dict[str, Any] | None:
    # The mapping proxy in front of a type's dictionary refers to nothing else.
    for thing in gc.get_referents(datetime.__dict__):
        if isinstance(thing, dict) and all(name in thing for name in NAMES):
            return cast("dict[str, Any]", thing)
    return None


def _forget_cached_methods() -> None:
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime))


def install() -> Callable[[], None]:
    """Replace both; the result puts them back."""
    own = _own_dictionary()
    if own is None or not hasattr(ctypes, "pythonapi"):  # another Python implementation
        warnings.warn("datetime.now() is not simulated on this interpreter", RuntimeWarning, stacklevel=2)
        return lambda: None
    originals = {name: own[name] for name in NAMES}
    real_now: Any = originals["now"]
    real_utcnow: Any = originals["utcnow"]

    def now(cls: type[datetime], tz: tzinfo | None = None) -> datetime:
        """The current time of the run, or the real one outside any."""
        world = active_world()
        if world is None:
            return real_now.__get__(None, cls)(tz)
        return cls.fromtimestamp(world.clock.wall(), tz)

    def utcnow(cls: type[datetime]) -> datetime:
        """As ``now``, in UTC without saying so."""
        world = active_world()
        if world is None:
            return real_utcnow.__get__(None, cls)()
        return cls.fromtimestamp(world.clock.wall(), UTC).replace(tzinfo=None)

    own.update(now=classmethod(now), utcnow=classmethod(utcnow))
    _forget_cached_methods()

    def restore() -> None:
        own.update(originals)
        _forget_cached_methods()

    return restore
