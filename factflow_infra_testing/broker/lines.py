"""What the simulated broker needs of a client's connection, whichever front end it came in by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from factflow_infra_testing.broker.entries import Delivery


class Line(Protocol):
    """A connection. The broker decides what befalls it; the front end only carries that out.

    ``exposed``: it meets the faults. ``client``: whose it is. ``outbox``: what the broker gave to its consumers since the
    last flush (a line that puts the first one in adds itself to ``SimulatedBroker.dirty``). ``server_open``: the broker's
    end is not closed. ``cut``: nothing passes any more.
    """

    client: str
    exposed: bool
    outbox: list[tuple[Any, Delivery]]
    server_open: bool
    cut: bool

    @property
    def pending(self) -> str:
        """What is under way here, for people; empty where nothing is."""
        ...

    def deliver(self, consumer: Any, delivery: Delivery) -> None:
        """Send a delivery to the client."""
        ...

    def delay_down(self, seconds: float) -> None:
        """Nothing sent from now on reaches the client sooner than in ``seconds``."""
        ...

    def reset(self, reason: str) -> None:
        """Break the connection: the broker knows now, the client when what was sent to it has arrived."""
        ...

    def fall_silent(self, *, broker_after: float, client_after: float, keep_sent: bool = False) -> None:
        """Nothing gets through any more; each end notices after so many seconds. ``keep_sent``: what was sent arrives."""
        ...

    def stall(self, seconds: float) -> None:
        """The client's process stands still for ``seconds``."""
        ...

    def kill(self, *, silent: bool) -> None:
        """The client's process has died."""
        ...
