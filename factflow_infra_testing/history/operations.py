"""What happened in a run, as operations: what the checkers judge and the reports show.

Two views make one history. A process sees the calls that it made and the handlings that it ran (``Operation``); the
broker knows what it truly did with each message (``BrokerEvent``, in ``factflow_infra_testing.broker.events``). A
checker uses the first for what was promised, the second for what was physically possible.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from factflow_infra.queue.destinations import TOPIC_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from factflow_infra_testing.history.storage_calls import StorageCall

OK: Final = "ok"
"""It took effect."""
FAIL: Final = "fail"
"""It surely took no effect."""
INFO: Final = "info"
"""Whether it took effect cannot be known (Jepsen's ``:info``): either result must be accepted."""
REDELIVERED: Final = "redelivered"
"""Begins the ``detail`` of a handling whose message had come back, however it ended."""
MARKED: Final = frozenset({"fault", "kill", "pause", "terminate", "power-loss", "clock-jump"})
"""Kinds of operations that are faults, or their direct effect."""
_MOST_NOTICED: Final = 8
_UNWOUND: Final = "GeneratorExit"
"""What the coroutines of a run that was broken off are closed with."""
LOOKS: Final = frozenset({"read", "stat", "list", "log"})
"""Kinds of operations that move nothing: a service that polls its storage is at rest."""


def subscribed(destination: str, subscription: str | None) -> str:
    """The target of what a subscription handles: of a topic its own messages, of a queue the queue's, which all subscribers
    compete for, named or not.
    """
    if subscription is None or not destination.startswith(TOPIC_PREFIX):
        return destination
    return f"{destination}#{subscription}"


@dataclass(slots=True, eq=False)
class Operation:
    """One operation of one process.

    ``kind``: ``publish``, ``handle`` (one run of a handler), ``settle`` (of a batch's message), ``write``, ``read``,
    ``delete``, ``list``, ``copy``; or ``start``, ``kill``, ``restart``, ``fault``, ``log``: things that happened.
    ``target``: destination, storage or process. ``key``: message id or object key. Times are virtual seconds since
    the start of the run; ``completed`` is ``None`` while it runs, and for ever where its process was killed. ``ended`` is how
    many operations had begun by its end: it came before every one whose ``index`` is not below that. ``call`` is there where it
    is one on storage, ``broker`` where it is a publish or a handling: the profile.
    """

    index: int
    process: str
    kind: str
    target: str
    key: str
    invoked: float
    completed: float | None = None
    outcome: str = ""
    detail: str = ""
    ended: int | None = None
    call: StorageCall | None = None
    broker: str = ""


class History:
    """The operations of one run, in the order in which they began."""

    __slots__ = ("_witnessed", "closed", "moves", "noticed", "operations")

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self._witnessed: list[tuple[int, Operation]] = []
        self.moves = 0
        """How many of them are more than ``LOOKS``."""
        self.noticed: dict[str, int] = {}
        """What the report should say besides, and how often it was so: no operations, and no part of a digest."""
        self.closed = False
        """Set when the run is over: what is still unwound then, of killed processes too, is no part of it."""

    def begin(self, time: float, process: str, kind: str, target: str, key: str = "", detail: str = "") -> Operation:
        """Record that an operation begins at ``time``; ``finish`` it, or it stays of unknown outcome."""
        operation = Operation(len(self.operations), process, kind, target, key, time, None, "", detail)
        if not self.closed:
            self._add(operation)
        return operation

    def finish(self, operation: Operation, time: float, outcome: str, detail: str = "") -> None:
        """Complete ``operation`` with ``outcome``: ``OK``, ``FAIL`` or ``INFO``; one that was only unwound has never ended.

        A read that is streamed is an end of its own: its reader has stopped.
        """
        if not self.closed and (detail != _UNWOUND or operation.kind == "read"):
            finish(operation, time, outcome, detail)
            operation.ended = len(self.operations)

    def note(self, time: float, process: str, kind: str, target: str, key: str = "", detail: str = "") -> None:
        """Record something that takes no time."""
        if not self.closed:
            self._add(Operation(len(self.operations), process, kind, target, key, time, time, OK, detail))

    def notice(self, text: str) -> None:
        """Have the report say ``text``."""
        if not self.closed and (text in self.noticed or len(self.noticed) < _MOST_NOTICED):
            self.noticed[text] = self.noticed.get(text, 0) + 1

    def witness(self, position: int, time: float, process: str, kind: str, target: str, key: str, detail: str) -> None:
        """Have ``told`` show something that another than its process saw, behind so many of the ``operations``."""
        seen = Operation(position, process, kind, target, key, time, time, OK, detail)
        self._witnessed.append((position, seen))

    def told(self) -> list[Operation]:
        """For people: the ``operations``, and between them what was witnessed."""
        if not self._witnessed:
            return self.operations
        told: list[Operation] = []
        begun = 0
        for position, seen in self._witnessed:
            told += self.operations[begun:position]
            told.append(seen)
            begun = position
        return told + self.operations[begun:]

    def on(self, broker: str) -> History:
        """The same without what was on other brokers than that of the profile ``broker``."""
        part = History()
        part.operations = [operation for operation in self.operations if operation.broker in ("", broker)]
        return part

    def _add(self, operation: Operation) -> None:
        self.operations.append(operation)
        if operation.kind not in LOOKS:
            self.moves += 1

    def of(self, *kinds: str) -> Iterator[Operation]:
        return (operation for operation in self.operations if operation.kind in kinds)


def finish(operation: Operation, time: float, outcome: str, detail: str = "") -> None:
    """Complete ``operation``; ``History.finish`` does so for as long as its run lasts."""
    operation.completed = time
    operation.outcome = outcome
    if detail:
        operation.detail = detail
