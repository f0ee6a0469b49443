"""A contract as a table: one row a behaviour, each a plain coroutine function that is given an environment."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from enum import StrEnum

Environment = TypeVar("Environment")
Capability = TypeVar("Capability", bound="StrEnum")


@dataclass(frozen=True, slots=True)
class Behaviour(Generic[Environment, Capability]):
    """One thing that every provider does.

    ``promise``: the row of the contract it belongs to (``"Q3"``). ``needs``: what the harness must be able to do for it.
    ``like``: tests of other suites that assert the same (``"watermill/TestNoAck"``).
    """

    promise: str
    name: str
    check: Callable[[Environment], Coroutine[Any, Any, None]]
    needs: frozenset[Capability]
    like: tuple[str, ...]

    @property
    def id(self) -> str:
        """Stable, for reports and for ``pytest -k``: ``q3-copy-confirmed-before-ack``."""
        return f"{self.promise.lower()}-{self.name}"

    @property
    def statement(self) -> str:
        """What is promised, and which provider forced the row: the docstring of the check."""
        return inspect.getdoc(self.check) or ""

    def missing(self, capabilities: frozenset[Capability]) -> list[Capability]:
        """The needed capabilities that are not among ``capabilities``, sorted."""
        return sorted(self.needs - capabilities)


class Table(Generic[Environment, Capability]):
    """The rows of one contract, in the order in which they were added."""

    def __init__(self) -> None:
        self._rows: dict[str, Behaviour[Environment, Capability]] = {}

    def add(
        self, promise: str, *needs: Capability, like: tuple[str, ...] = ()
    ) -> Callable[
        [Callable[[Environment], Coroutine[Any, Any, None]]], Callable[[Environment], Coroutine[Any, Any, None]]
    ]:
        """Decorate a check to make it a row. The name of the row is the name of the function."""

        def register(
            check: Callable[[Environment], Coroutine[Any, Any, None]],
        ) -> Callable[[Environment], Coroutine[Any, Any, None]]:
            row = Behaviour(promise, check.__name__.replace("_", "-"), check, frozenset(needs), like)
            if row.id in self._rows:
                raise ValueError(f"two behaviours are called {row.id!r}; rename one")
            if not row.statement:
                raise ValueError(f"behaviour {row.id!r} has no docstring; say what it promises")
            self._rows[row.id] = row
            return check

        return register

    def __iter__(self) -> Iterator[Behaviour[Environment, Capability]]:
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, behaviour_id: str) -> Behaviour[Environment, Capability]:
        return self._rows[behaviour_id]
