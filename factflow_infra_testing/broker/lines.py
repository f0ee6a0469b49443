"""What the simulated broker needs of a client's connection, whichever front end it came in by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from factflow_infra_testing.broker.entries import Delivery


class Line(Protocol):
    """A connection. The broker decides what befalls it; the front end only carries that out.

    ``exposed``: it meets the faults. ``client``: whose it is. ``outbox``: what the broker gave to its consumers since the
    last flush (a line that puts the first one in adds itself to ``SimulatedBroker.dirty``). ``server_open``: the broker's
    end is not closed. ``cut``: nothing passes any more. ``hosts``: the client's and the broker's, None where they are no
    hosts of a simulation. ``divisible``: the client may see a frame in parts.
    """

    client: str
    exposed: bool
    outbox: list[tuple[Any, Delivery]]
    server_open: bool
    cut: bool
    hosts: tuple[str, str] | None
    divisible: bool

    @property
    def pending(self) -> str:
        """What is under way here, for people; empty where nothing is."""
        ...

    def deliver(self, consumer: Any, delivery: Delivery) -> None:
        """Send a delivery to the client."""
        ...

    def deliver_half(self, consumer: Any, delivery: Delivery) -> None:
        """Send the first half of a delivery's bytes."""
        ...

    def deliver_split(self, consumer: Any, delivery: Delivery, choice: int) -> None:
        """Send a delivery; the client reads it in the parts that a choice of ``link-split`` names."""
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

    def hush(self, way: int) -> None:
        """From here on nothing gets through in the direction that a choice of ``link-silent`` names, or in both.

        Heartbeats are missed there; who gives up closes the connection, which the other end hears if its direction works.
        """
        ...

    def stall(self, seconds: float) -> None:
        """The client's process stands still for ``seconds``."""
        ...

    def kill(self, *, silent: bool) -> None:
        """The client's process has died."""
        ...
