"""Tasks that belong to a provider: started in its context, held until they end, their failures never silent."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine


class Tasks:
    """The tasks of one provider.

    They run in the context that the provider was first used in, not in that of whichever callback started them: a broker's
    callback may run in a context that has nothing to do with the service (another connection's, or another simulated
    process').
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._context = contextvars.copy_context()
        self._running: dict[asyncio.Task[Any], None] = {}

    def start(
        self, work: Coroutine[Any, Any, Any], name: str, context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        """Run ``work``; a failure that nobody could see goes to the loop's exception handler."""
        # A copy for each: with eager tasks, one context cannot be entered twice.
        task = self.loop.create_task(work, name=name, context=(context or self._context).copy())
        self._running[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.report(error, task.get_name(), task=task)

    def report(self, error: BaseException, what: str, **more: Any) -> None:
        """Tell the loop's exception handler of a failure that nobody expected."""
        self.loop.call_exception_handler({"message": f"{what} failed: {error!r}", "exception": error, **more})


def mark_seen(task: asyncio.Future[Any]) -> None:
    """A done callback: have a failure counted as seen, though nobody may be waiting for it any more."""
    if not task.cancelled():
        task.exception()
