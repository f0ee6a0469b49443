"""Time and randomness of a run: the same seed gives the same of both.

``activate`` makes a ``World`` the one of the calling thread; the functions that stand in for those of ``time``, ``os``,
``random`` and ``uuid`` (placed by ``patches.session``) ask for it at every call, and pass on where there is none.
"""

from __future__ import annotations

import os
import queue
import random
import sys
import tempfile
import threading
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from factflow_infra_testing.simulation.patches import MISSING, Patch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from contextlib import AbstractContextManager

    from factflow_infra_testing.simulation.clock import Clock
    from factflow_infra_testing.simulation.executor import Job
    from factflow_infra_testing.simulation.loop import DeterministicLoop

NODE = 0x0242AC110002
"""The hardware address that ``uuid.uuid1`` uses in a run."""

# Counters that live in their modules for as long as the process: a run must begin with none. (module, attribute, value)
FRESH: tuple[tuple[str, str, Any], ...] = (
    ("uuid", "_last_timestamp", None),
    ("uuid", "_last_timestamp_v6", None),
    ("uuid", "_last_timestamp_v7", None),
    ("uuid", "_last_counter_v7", 0),
    ("tempfile", "_name_sequence", None),
)


class World:
    """What a run gives to code that asks for the time, for random bytes, or to sleep."""

    __slots__ = ("clock", "job", "loop", "random", "sleep")

    def __init__(self, loop: DeterministicLoop, seed: int) -> None:
        self.loop = loop
        self.clock: Clock = loop.clock
        self.random = random.Random(seed)  # noqa: S311 - reproducible is the point
        self.sleep: Callable[[float], None] = loop.advance
        self.job: Job | None = None

    def of_job(self, job: Job, sleep: Callable[[float], None]) -> World:
        """The same world, as a thread job sees it."""
        world = World.__new__(World)
        world.loop, world.clock, world.random = self.loop, self.clock, self.random
        world.sleep, world.job = sleep, job
        return world


class _Here(threading.local):
    world: World | None = None


_here = _Here()


def active_world() -> World | None:
    """The world of the run that the calling thread is in, or None."""
    return _here.world


def enter(world: World | None) -> None:
    """Make ``world`` the one of the calling thread."""
    _here.world = world


class _Outside:
    __slots__ = ("_before",)

    def __enter__(self) -> None:
        self._before = _here.world
        _here.world = None

    def __exit__(self, *_: object) -> None:
        _here.world = self._before


def outside() -> AbstractContextManager[None]:
    """Be in the real world inside: for the kit's own dealings with it."""
    return _Outside()


@contextmanager
def activate(world: World, seed: int) -> Generator[None]:
    """Be in ``world`` inside, with the random module seeded and the counters of other runs out of sight."""
    before = _here.world
    saved: list[tuple[Any, str, Any]] = []
    _here.world = world
    random.seed(seed)
    for path, name, value in FRESH:
        module = sys.modules.get(path)
        if module is not None and (old := getattr(module, name, MISSING)) is not MISSING:
            saved.append((module, name, old))
            setattr(module, name, value)
    try:
        yield
    finally:
        _here.world = before
        for module, name, old in saved:
            setattr(module, name, old)


def keep_random_state() -> Callable[[], None]:
    """What puts the random module back to where it is now."""
    state = random.getstate()
    return lambda: random.setstate(state)


def _clock_patch(name: str, read: Callable[[Clock], float], target: Any = time) -> Patch:
    def make(original: Callable[[], float]) -> Callable[[], float]:
        def now() -> float:
            world = _here.world
            return original() if world is None else read(world.clock)

        now.__name__ = now.__qualname__ = name
        return now

    return Patch(target, name, make)


def _gettime_patch(name: str, wall: Callable[[Clock], float], monotonic: Callable[[Clock], float]) -> Patch:
    """The clocks by number: those that show the time of day, and all others, which only ever run."""

    def make(original: Callable[[int], float]) -> Callable[[int], float]:
        def gettime(clk_id: int, /) -> float:
            world = _here.world
            if world is None:
                return original(clk_id)
            return (wall if clk_id in _WALL_CLOCKS else monotonic)(world.clock)

        gettime.__name__ = gettime.__qualname__ = name
        return gettime

    return Patch(time, name, make)


_WALL_CLOCKS = tuple(getattr(time, name) for name in ("CLOCK_REALTIME", "CLOCK_TAI") if hasattr(time, name))


def _seconds_patch(name: str) -> Patch:
    """localtime, gmtime and ctime read the clock when they are given no seconds."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def convert(secs: float | None = None, /) -> Any:
            world = _here.world
            return original(world.clock.wall() if secs is None and world is not None else secs)

        convert.__name__ = convert.__qualname__ = name
        return convert

    return Patch(time, name, make)


def _sleep(original: Callable[[float], None]) -> Callable[[float], None]:
    def sleep(secs: float, /) -> None:
        """Of a thread job: lets everything else go on. Of a coroutine: holds everything up, as it does for real."""
        world = _here.world
        if world is None:
            original(secs)
            return
        if secs < 0:
            raise ValueError("sleep length must be non-negative")
        if world.job is None and secs > 0:
            world.loop.held_up(secs)
        world.sleep(secs)

    return sleep


def _strftime(original: Callable[..., str]) -> Callable[..., str]:
    def strftime(form: str, moment: Any = None, /) -> str:
        return original(form, time.localtime() if moment is None else moment)

    return strftime


def _urandom(original: Callable[[int], bytes]) -> Callable[[int], bytes]:
    def urandom(size: int, /) -> bytes:
        world = _here.world
        return original(size) if world is None else world.random.randbytes(size)

    return urandom


def _getrandom(original: Callable[[int, int], bytes]) -> Callable[..., bytes]:
    def getrandom(size: int, flags: int = 0) -> bytes:
        world = _here.world
        return original(size, flags) if world is None else world.random.randbytes(size)

    return getrandom


def _seed(original: Callable[..., None]) -> Callable[..., None]:
    """Without a seed a generator asks the operating system, in C."""

    def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
        world = _here.world
        if a is None and world is not None and self is not world.random:
            a = world.random.getrandbits(64)
        original(self, a, version)

    return seed


def _module_seed(original: Callable[..., None]) -> Callable[..., None]:
    def seed(a: Any = None, version: int = 2) -> None:
        world = _here.world
        original(world.random.getrandbits(64) if a is None and world is not None else a, version)

    return seed


def _getnode(original: Callable[[], int]) -> Callable[[], int]:
    def getnode() -> int:
        return original() if _here.world is None else NODE

    return getnode


def _time_uuid(original: Callable[[], tuple[bytes, Any]] | None) -> Callable[[], tuple[bytes, Any]] | None:
    if original is None:
        return None

    def generate() -> tuple[bytes, Any]:
        world = _here.world
        if world is None:
            return original()
        # With a node given, the uuid module counts in Python, from time.time_ns.
        return uuid.uuid1(node=NODE, clock_seq=world.random.getrandbits(14)).bytes, None

    return generate


def _default_tempdir(original: Callable[..., str]) -> Callable[..., str]:
    def find(*args: Any) -> str:
        # Whether the process has looked for its folder before is not to be seen in a run: looking makes up names.
        with outside():
            return original(*args)

    return find


def patches() -> Iterator[Patch]:
    """Everything that tells the time or makes something up."""
    yield _clock_patch("time", lambda clock: clock.wall())
    yield _clock_patch("time_ns", lambda clock: clock.wall_ns())
    for name in ("monotonic", "perf_counter", "process_time", "thread_time"):
        yield _clock_patch(name, lambda clock: clock.monotonic())
        yield _clock_patch(f"{name}_ns", lambda clock: clock.monotonic_ns())
    yield _gettime_patch("clock_gettime", lambda clock: clock.wall(), lambda clock: clock.monotonic())
    yield _gettime_patch("clock_gettime_ns", lambda clock: clock.wall_ns(), lambda clock: clock.monotonic_ns())
    # What these two imported by name, for the timeouts of what they build on locks.
    yield _clock_patch("_time", lambda clock: clock.monotonic(), threading)
    yield _clock_patch("time", lambda clock: clock.monotonic(), queue)
    for name in ("localtime", "gmtime", "ctime"):
        yield _seconds_patch(name)
    yield Patch(time, "strftime", _strftime)
    yield Patch(time, "sleep", _sleep)
    yield Patch(os, "urandom", _urandom)
    yield Patch(os, "getrandom", _getrandom)
    yield Patch(random, "_urandom", _urandom)  # SystemRandom, and with it the secrets module
    yield Patch(random.Random, "seed", _seed)
    yield Patch(random, "seed", _module_seed)
    yield Patch(uuid, "getnode", _getnode)
    yield Patch(uuid, "_generate_time_safe", _time_uuid)
    yield Patch(tempfile, "_get_default_tempdir", _default_tempdir)


__all__ = ["NODE", "World", "activate", "active_world", "enter", "keep_random_state", "outside", "patches"]
