"""Asynchronous generators of a run, in the order they were started.

asyncio keeps them in a weak set, whose order follows addresses, and closes a dropped one in whatever context dropped it.
"""

from __future__ import annotations

import asyncio
import weakref
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from factflow_infra_testing.simulation.owners import OWNER, Owner

if TYPE_CHECKING:
    from factflow_infra_testing.simulation.loop import DeterministicLoop

FIRST_PRUNE = 1_000


class AsyncGenerators:
    """The loop's hooks for ``sys.set_asyncgen_hooks``."""

    __slots__ = ("_known", "_loop", "_prune_at", "_shut")

    def __init__(self, loop: DeterministicLoop) -> None:
        self._loop = loop
        self._known: dict[int, tuple[weakref.ref[Any], Context]] = {}
        self._prune_at = FIRST_PRUNE
        self._shut = False

    def started(self, generator: Any) -> None:
        """First iteration: from here on the generator has something to clean up."""
        key = id(generator)
        self._known.pop(key, None)  # an address used again must go to the end of the order
        self._known[key] = (weakref.ref(generator), copy_context())
        if len(self._known) > self._prune_at:
            self._known = {key: entry for key, entry in self._known.items() if entry[0]() is not None}
            self._prune_at = max(FIRST_PRUNE, 2 * len(self._known))

    def dropped(self, generator: Any) -> None:
        """Nobody refers to it any more: close it in a task of its owner, or keep it unclosed if that owner is dead."""
        entry = self._known.pop(id(generator), None)
        context = copy_context() if entry is None else entry[1]
        owner = context.get(OWNER)
        loop = self._loop
        if owner is not None and not owner.alive:
            loop.graveyard.append(generator)
        elif not loop.is_closed():
            loop.call_soon(loop.create_task, generator.aclose(), context=context)

    def __bool__(self) -> bool:
        return bool(self._known)

    def of(self, owner: Owner) -> list[Any]:
        """The open generators of ``owner``."""
        found = [(entry[0](), entry[1]) for entry in self._known.values()]
        return [generator for generator, context in found if generator is not None and context.get(OWNER) is owner]

    async def shutdown(self) -> None:
        """Close those that are open and whose owner lives; what that raises goes to the loop's exception handler."""
        open_ones = [(entry[0](), entry[1].get(OWNER)) for entry in self._known.values()]
        self._known.clear()
        closing = [one for one, owner in open_ones if one is not None and (owner is None or owner.alive)]
        if not closing:
            return
        results = await asyncio.gather(*[one.aclose() for one in closing], return_exceptions=True)
        for generator, result in zip(closing, results, strict=True):
            if isinstance(result, Exception):
                self._loop.call_exception_handler(
                    {
                        "message": f"an error occurred during closing of asynchronous generator {generator.__qualname__}",
                        "exception": result,
                        "asyncgen": generator,
                    }
                )
