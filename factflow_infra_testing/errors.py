"""Every error of the kit itself, one class a cause.

    KitError                        base; what the kit says about its own use or about itself
    ├── KitUsageError               an option, a plan, a marker or a decorator that cannot be used as written (a ValueError)
    │   ├── UnknownFaultError       a fault kind that no simulated part knows
    │   └── PlanMismatchError       entries of a fixed plan that met no decision
    ├── NothingHappenedError        strict: a fault that never fired, or a "sometimes" that was never true
    └── NondeterminismError         the same decisions gave different runs: a defect of the kit or state outside its reach

A search that finds the code under test wrong raises that code's own exception, with the report as its note.
"""

from __future__ import annotations


class KitError(Exception):
    """Base of what the kit says about its own use, or about itself."""


class KitUsageError(KitError, ValueError):
    """An option, a plan, a marker or a decorator that cannot be used as written."""


class UnknownFaultError(KitUsageError):
    """A fault kind that no simulated part knows."""


class PlanMismatchError(KitUsageError):
    """Entries of a fixed plan that met no decision: the plan is stale, or mistyped."""


class NothingHappenedError(KitError):
    """Strict mode: a fault kind that never fired, or a ``sometimes`` property that was never true, in a whole search."""


class NondeterminismError(KitError):
    """The same decisions gave different runs: a defect of the kit, or state that it does not control."""
