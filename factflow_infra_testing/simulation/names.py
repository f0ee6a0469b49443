"""Names that a test calls things by: each must be the name of something in the run, or what is asked of it judges nothing.

Hosts and processes are there once ``sim.start`` was called. Queues, brokers and stores come into being while the run goes on, so
what was asked by name is compared with what there is when the run has ended (``Simulation.strange_names``). Only a run without
any fault is judged so: in it, and the first run of each search is one, everything comes about that the service makes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from factflow_infra.protocols import ErrorHandling
from factflow_infra_testing.errors import KitUsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from factflow_infra_testing.broker.server import SimulatedBroker
    from factflow_infra_testing.history.operations import Operation

LABORATORY: Final = "test"
"""The name of the test itself, in histories."""
ASK_BEFORE: Final = ". Where it may be missing, ask before: `if name in sim.broker(profile).queues():`"
_WRITES: Final = frozenset({"write", "copy"})
_DEAD_LETTERS: Final = "dlq"
"""Where providers put dead letters unless told otherwise: a queue that is there as soon as it is needed."""


class Names:
    """What was asked by name in one run, and what the providers in it were told of."""

    def __init__(self) -> None:
        self.brokers: dict[str, None] = {}
        """Those that a provider or a URI was given out for."""
        self.stores: dict[str, None] = {}
        """Those that a provider was given out for, as checks call them."""
        self.hosts: dict[str, None] = {}
        """Those whose disk somebody has."""
        self.looked_at: dict[str, str] = {}
        """Stores of hosts that the test asked for, with the host."""
        self._dead_letters: dict[str, None] = {_DEAD_LETTERS: None}

    def expect(self, handling: object) -> None:
        """A subscription was made: its dead-letter queue comes about when it is needed."""
        if isinstance(handling, ErrorHandling) and isinstance(handling.dead_letter_queue, str):
            self._dead_letters[handling.dead_letter_queue] = None

    def dead_letter_queues(self) -> Iterator[str]:
        """As they were written."""
        return iter(self._dead_letters)

    def unused(self, brokers: Iterable[SimulatedBroker]) -> Iterator[str]:
        """What there is to say of brokers that the test has asked for, and nothing uses."""
        used = self.brokers
        for broker in brokers:
            name = broker.profile.name
            if used and name not in used and not broker.attached():
                yield f"nothing in this run uses the broker {name!r}, which the test asked for; in use: {', '.join(map(repr, used))}"

    def strange_hosts(self, hosts: Collection[str], operations: Iterable[Operation]) -> Iterator[str]:
        """What there is to say of machines that the test looked at, where no process was and nothing was written."""
        if not hosts:
            return
        written = {op.call.store for op in operations if op.kind in _WRITES and op.call is not None}
        for store, host in self.looked_at.items():
            if host not in hosts and store not in written:
                yield f"no process is on a host called {host!r}, and nothing was written to its disk; there {_are(hosts)}"


def check_known(what: str, name: object, known: Collection[str], hint: str = "") -> None:
    """Raise ``KitUsageError`` unless ``name`` is one of ``known``."""
    if name not in known:
        raise KitUsageError(f"there is no {what} called {name!r}; {known_ones(known)}{hint}")


def known_ones(known: Collection[str]) -> str:
    """``there are 'a' and 'b'``, or that there is none."""
    return f"there {_are(known)}" if known else "there is none"


def _are(names: Collection[str]) -> str:
    return ("is " if len(names) == 1 else "are ") + ", ".join(map(repr, names))
