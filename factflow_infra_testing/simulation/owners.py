"""Who a callback belongs to: the unit that is killed, paused and resumed as one.

Ownership travels in a context variable, as asyncio copies the context into every task, timer and callback.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any


class Owner:
    """What dies together. ``name`` is unique in a run; ``host`` is the machine (network address, wall clock).

    ``alive`` and ``paused`` change through ``DeterministicLoop.kill``, ``pause`` and ``resume`` only. ``fenced`` is
    true once the run is over and what the kill left behind is being disposed of: a resource must then refuse quietly.
    """

    __slots__ = ("__weakref__", "alive", "fenced", "host", "name", "paused")

    def __init__(self, name: str, *, host: str = "localhost") -> None:
        self.name = name
        self.host = host
        self.alive = True
        self.paused = False
        self.fenced = False

    @property
    def aim(self) -> str:
        """What a decision about it is aimed at: its name, or something that says more."""
        return self.name

    def __repr__(self) -> str:
        state = "" if self.alive else ", fenced" if self.fenced else ", killed"
        return f"<{type(self).__name__} {self.name!r} on {self.host!r}{state}>"


OWNER: ContextVar[Owner | None] = ContextVar("factflow_simulated_owner", default=None)
"""The owner of the running code; None is the laboratory: the test itself, outside the faults."""


def current_owner() -> Owner | None:
    """The owner of the code that is running, or None for the test's own code."""
    return OWNER.get()


def is_fenced() -> bool:
    """Whether the running code belongs to a process that is dead: its effects must not happen."""
    owner = OWNER.get()
    return owner is not None and not owner.alive


def owner_of(handle: Any) -> Owner | None:
    """The owner of an asyncio handle."""
    return handle._context.get(OWNER)  # noqa: SLF001 - handles have no public accessor for their context
