"""One attempt for all who need the same thing at the same time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from factflow_infra.errors import InfraError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

K = TypeVar("K")
T = TypeVar("T")


class Shared(Generic[K, T]):
    """Runs what is asked for under a key once at a time. All who wait go on in the order in which they came.

    That order is the reason not to use a lock: publications that meet at a queue not yet declared would overtake each
    other. An attempt outlives the cancellation of whoever began it.
    """

    def __init__(self) -> None:
        self._running: dict[K, asyncio.Task[T | InfraError]] = {}

    async def result(self, key: K, make: Callable[[], Coroutine[object, object, T]]) -> T:
        """The result of ``make()``, or of the attempt under ``key`` that is running. A failure is raised to each."""
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.get_running_loop().create_task(_outcome(make))
            task.add_done_callback(lambda _: self._running.pop(key, None))
        outcome = await asyncio.shield(task)
        if isinstance(outcome, InfraError):
            # A fresh exception for each: one instance raised in many tasks grows one common traceback.
            raise type(outcome)(str(outcome), retryable=outcome.retryable) from outcome.__cause__
        return outcome


async def _outcome(make: Callable[[], Coroutine[object, object, T]]) -> T | InfraError:
    try:
        return await make()
    except InfraError as error:
        return error
