"""Tasks, futures and handles whose hash is a serial number of their loop, not an address.

A ``TaskGroup``, ``asyncio.wait`` and many libraries hold tasks in sets, whose order follows the hash. An address differs
from process to process; a serial does not. The number is given on first use, which is itself deterministic.
"""

# pyright: reportPrivateUsage=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# ruff: noqa: SLF001 - a handle is cut for its loop: the two share private state, as in asyncio itself
from __future__ import annotations

import asyncio
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from factflow_infra_testing.simulation.loop import DeterministicLoop
    from factflow_infra_testing.simulation.owners import Owner


class SimulatedFuture(asyncio.Future[Any]):
    """A future with a deterministic hash."""

    __slots__ = ("serial",)
    serial: int

    def __hash__(self) -> int:
        try:
            return self.serial
        except AttributeError:
            loop: Any = self._loop
            self.serial = loop.next_serial()
            return self.serial


class SimulatedTask(asyncio.Task[Any]):
    """A task with a deterministic hash, name and owner."""

    __slots__ = ("owner", "serial")
    serial: int
    owner: Owner | None

    def __init__(self, coro: Any, serial: int, owner: Owner | None, **options: Any) -> None:
        self.serial = serial  # before asyncio's own part: that puts the task into a set
        self.owner = owner
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self.serial


class SimulatedHandle(asyncio.Handle):
    """``asyncio.Handle`` without what debugging on a real loop needs."""

    __slots__ = ()
    _repr: Any = None
    _source_traceback: Any = None

    def __init__(
        self, callback: Callable[..., object], args: tuple[Any, ...], loop: DeterministicLoop, context: Context | None
    ) -> None:
        self._context = copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True
        self._callback = None
        self._args = ()


class SimulatedTimer(asyncio.TimerHandle):
    """``asyncio.TimerHandle``, likewise; ordered by the loop through ``(when, sequence)``."""

    __slots__ = ()
    _repr: Any = None
    _source_traceback: Any = None

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: DeterministicLoop,
        context: Context | None,
    ) -> None:
        self._context = copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._when = when
        self._scheduled = True

    def cancel(self) -> None:
        if not self._cancelled:
            self._cancelled = True
            self._callback = None
            self._args = ()
            if self._scheduled:
                self._loop._timer_handle_cancelled(self)


def label_of(callback: Any) -> str:
    """What a callback is called in a trace or report: stable from process to process (no address)."""
    task = getattr(callback, "__self__", None)
    if isinstance(task, asyncio.Task):
        return f"task {task.get_name()}"
    inner = getattr(callback, "func", None)
    if inner is not None:
        return label_of(inner)
    return getattr(callback, "__qualname__", None) or type(callback).__qualname__
