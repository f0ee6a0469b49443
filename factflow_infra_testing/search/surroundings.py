"""Where else a plan holds: some of its faults are aimed at a step of the event loop, and how many there are depends on more than the test.

A ``kill`` on ``worker@start`` number 37 is the 37th callback of that process. Another version of Python or of a client library takes
more or fewer to the same point, and so does a change of the code under test: the fault then strikes somewhere else, and a test that
passes says nothing. So a plan with such faults carries what it was found with, and where each one struck.
"""

from __future__ import annotations

import linecache
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePath
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from factflow_infra_testing.errors import KitUsageError
from factflow_infra_testing.search.faults import known_kinds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from factflow_infra_testing.search.decisions import Fault

_PYTHON: Final = "Python"
_LIBRARIES: Final = ("aio-pika", "aiormq", "faststream", "pulsar-client", "stompman")
"""Those whose steps a run may count."""
_MODULES: Final[Mapping[str, str]] = MappingProxyType({"pulsar-client": "pulsar"})
"""Those that are called otherwise than their library."""


class Place(NamedTuple):
    """A line of the code under test."""

    file: str
    line: int
    function: str

    @property
    def code(self) -> str:
        """What stands there, whatever the number of its line: what is compared with where a fault struck before."""
        linecache.checkcache(self.file)  # it may be another one than when this process began
        return f"{self.function}: {linecache.getline(self.file, self.line).strip()}"

    def __str__(self) -> str:
        return f"{self.function}, {PurePath(self.file).name}:{self.line}"


def counts_steps(plan: Iterable[Fault]) -> bool:
    """Whether a fault of ``plan`` is aimed at a step beyond the first: that one is the first anywhere."""
    registry = known_kinds()
    return any(fault.nth > 1 and fault.kind in registry and registry[fault.kind].steps for fault in plan)


def surroundings(libraries: Iterable[str] = ()) -> str:
    """What a plan depends on whose run had clients made with ``libraries``: ``Python 3.12, aio-pika 10.2.1``."""
    loaded = [name for name in libraries if _MODULES.get(name, name.replace("-", "_")) in sys.modules]
    used = ((name, _version(name)) for name in (_PYTHON, *loaded))
    return ", ".join(f"{name} {number}" for name, number in used if number)


def check_found_with(found_with: object) -> str:
    """``found_with`` as ``@simulate`` takes it. Raises ``KitUsageError``."""
    known = (_PYTHON, *_LIBRARIES)
    if isinstance(found_with, str) and all(name in known and number for name, number in _pairs(found_with)):
        return found_with
    raise KitUsageError(
        f"`found_with` takes versions such as {surroundings()!r}, of {', '.join(known)}; got {found_with!r}."
    )


def differing(found_with: str) -> str:
    """What is other here than in ``found_with``: ``Python 3.11 instead of 3.12``; empty where nothing is."""
    here = ((name, _version(name), then) for name, then in _pairs(found_with))
    return ", ".join(f"{name} {now or 'missing'} instead of {then}" for name, now, then in here if now != then)


def elsewhere(
    plan: Sequence[Fault], found_with: str, then: Mapping[Fault, str], now: Mapping[Fault, Place]
) -> list[str]:
    """What there is to say of a plan that ran: faults that struck another line than when it was found, and other versions.

    ``then``: where they struck, as ``Place.code``.
    """
    told = [
        f"{fault!r} struck {now[fault]} (`{now[fault].code.partition(': ')[2]}`); when the plan was found it struck {then[fault]!r}"
        for fault in plan
        if fault in now and then.get(fault, now[fault].code) != now[fault].code
    ]
    if found_with and counts_steps(plan) and (others := differing(found_with)):
        told.append(
            f"the plan counts steps of the event loop, and was found with other versions ({others}): "
            "its faults may strike elsewhere now, so where it passes, search again"
        )
    return told


def _pairs(found_with: str) -> list[tuple[str, str]]:
    split = (each.strip().partition(" ") for each in found_with.split(","))
    return [(name, number.strip()) for name, _, number in split]


def _version(name: str) -> str:
    """Empty where it is not installed."""
    if name == _PYTHON:
        return f"{sys.version_info.major}.{sys.version_info.minor}"
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
