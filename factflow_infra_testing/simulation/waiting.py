"""Who waits where: the report that the guards attach to their errors."""

from __future__ import annotations

import asyncio
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, cast

from factflow_infra_testing.simulation.tasks import label_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

MAX_TASKS = 40
MAX_FRAMES = 12


def _place(frame: FrameType, line: int | None) -> str:
    path = PurePath(frame.f_code.co_filename)
    return f"{'/'.join(path.parts[-2:])}:{line or frame.f_code.co_firstlineno} {frame.f_code.co_qualname}"


def _awaited(thing: Any) -> str:
    if isinstance(thing, asyncio.Task):
        return f"task {cast('asyncio.Task[Any]', thing).get_name()}"
    name = type(thing).__name__
    return "a future" if "Future" in name else f"a {name}"


def coroutine_stack(coroutine: Any) -> tuple[list[str], str]:
    """Where a suspended coroutine stands, outermost first, and what the innermost awaits."""
    places: list[str] = []
    current = coroutine
    while current is not None:
        frame: FrameType | None = None
        for kind in ("cr", "ag", "gi"):
            frame = getattr(current, f"{kind}_frame", None)
            if frame is not None:
                places.append(_place(frame, frame.f_lineno))
                current = getattr(current, f"{kind}_await", None) or getattr(current, f"{kind}_yieldfrom", None)
                break
        if frame is None:
            return places, _awaited(current)
    return places, "nothing (it can run)"


def _task_lines(task: asyncio.Task[Any]) -> list[str]:
    places, awaited = coroutine_stack(task.get_coro())
    owner = getattr(task, "owner", None)
    waiter = getattr(task, "_fut_waiter", None)
    if isinstance(waiter, asyncio.Task):
        awaited = _awaited(waiter)
    of = f" of {owner.name}{'' if owner.alive else ' (killed)'}" if owner is not None else ""
    if len(places) > MAX_FRAMES:
        places = [*places[: MAX_FRAMES // 2], "...", *places[-MAX_FRAMES // 2 :]]
    return [f"  {task.get_name()}{of} awaits {awaited}", *(f"      at {place}" for place in places)]


def describe(tasks: Iterable[asyncio.Task[Any]], handles: Iterable[Any] = ()) -> str:
    """Lines for people: each task with its coroutine stack, then the callbacks that are due (the busiest first)."""
    pending = list(tasks)
    lines = [f"{len(pending)} task(s) not done:"]
    for task in pending[:MAX_TASKS]:
        lines += _task_lines(task)
    if len(pending) > MAX_TASKS:
        lines.append(f"  ... and {len(pending) - MAX_TASKS} more")
    due: dict[str, int] = {}
    for handle in handles:
        label = label_of(handle)
        due[label] = due.get(label, 0) + 1
    if due:
        lines.append("callbacks due:")
        ranked = sorted(due.items(), key=lambda item: (-item[1], item[0]))
        lines += [f"  {count} x {label}" for label, count in ranked[:MAX_FRAMES]]
    return "\n".join(lines)
