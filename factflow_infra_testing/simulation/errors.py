"""What the simulation itself raises, apart from the code that runs in it.

    SimulationError                  base
    ├── GuardError                   a run that would not end; ``waiting`` says who waits where
    │   ├── DeadlockError            nothing is ready, nothing is scheduled, and the run is not over
    │   ├── LivelockError            callback after callback with the clock still
    │   ├── VirtualBudgetError       more virtual time than the run may use
    │   └── StuckJobError            a thread job that neither ends nor parks
    ├── SimulationEscapeError        something reached for the world outside the simulation
    └── NotSimulatedError            a part of asyncio that the simulation does not offer

A ``SimulationEscapeError`` also ends the run that it happened in: code that catches it cannot hide it.
"""

from __future__ import annotations


class SimulationError(Exception):
    """Base of every error here."""


class GuardError(SimulationError):
    """A run that would not end.

    ``reason`` is one sentence, ``waiting`` the report of who waits where, a line a task (may be empty).
    """

    def __init__(self, reason: str, waiting: str = "") -> None:
        super().__init__(f"{reason}\n{waiting}" if waiting else reason)
        self.reason = reason
        self.waiting = waiting


class DeadlockError(GuardError):
    """Nothing is ready and nothing is scheduled: no virtual time will ever wake what still waits."""


class LivelockError(GuardError):
    """Callback after callback (or one read of the clock after the other) while the clock stands still."""


class VirtualBudgetError(GuardError):
    """The next timer lies beyond the virtual time that the run may use."""


class StuckJobError(GuardError):
    """A thread job used up real time without ending or parking: it blocks on something outside the simulation."""


class SimulationEscapeError(SimulationError):
    """Something reached for the world outside: a socket, a process, a thread, a name server."""


class NotSimulatedError(SimulationError, NotImplementedError):
    """A part of asyncio that the simulation does not offer."""
