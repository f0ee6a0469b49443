"""The one source of every choice that a run makes, and the record of what was not benign.

A decision is asked for by ``kind`` (what sort of choice: ``"ack-lost"``, ``"kill"``), ``target`` (about what: a queue, a
process) and its ordinal among those with the same kind and target. 0 is always the benign choice. What was chosen
otherwise is a ``Fault``: short, frozen data whose ordinals mean something in the domain, so that a plan survives edits of
the code under test, and taking one fault out does not shift the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """The ``nth`` (from 1) decision of ``kind`` on ``target`` takes ``choice`` instead of 0, the benign one."""

    kind: str
    target: str
    nth: int
    choice: int = 1

    def __repr__(self) -> str:
        choice = "" if self.choice == 1 else f", {self.choice}"
        return f"Fault({self.kind!r}, {self.target!r}, {self.nth}{choice})"


class Decisions(Protocol):
    """What the simulated parts ask."""

    def pick(self, n: int, kind: str, target: str = "") -> int:
        """A number in ``range(n)``; 0 is benign. Counts the ordinal of ``(kind, target)`` even when 0 is the answer."""
        ...

    def enabled(self, kind: str) -> bool:
        """Whether ``kind`` can deviate in this run at all: a part may skip asking where it cannot."""
        ...

    @property
    def deviations(self) -> Sequence[Fault]:
        """What was not benign so far, in the order of the run."""
        ...

    def quiet(self) -> None:
        """Faults end: every later answer is 0."""
        ...
