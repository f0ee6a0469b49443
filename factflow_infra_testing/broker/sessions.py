"""Who talks to the broker: connections, their sessions (channels), and the consumers on those."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from factflow_infra_testing.broker.entries import Delivery
    from factflow_infra_testing.broker.queues import Queue


class Connection:
    """A client's connection: owns sessions, and the exclusive queues that die with it.

    ``laboratory``: it belongs to the test itself; a restart that a fault asks for passes it by.
    """

    __slots__ = ("client", "exclusive", "laboratory", "sessions")

    def __init__(self, client: str, *, laboratory: bool) -> None:
        self.client = client
        self.laboratory = laboratory
        self.sessions: dict[Session, None] = {}
        self.exclusive: dict[str, Queue] = {}


class Session:
    """A channel: numbers its deliveries, and owns those that are not settled, in delivery order.

    ``limit`` caps what all its consumers hold together; 0 is no cap.
    """

    __slots__ = ("connection", "consumers", "last_tag", "limit", "open", "unacked")

    def __init__(self, connection: Connection, *, limit: int) -> None:
        self.connection = connection
        self.limit = limit
        self.last_tag = 0
        self.unacked: dict[int, Delivery] = {}
        self.consumers: dict[Consumer, None] = {}
        self.open = True


class Consumer:
    """Takes from one queue while it has credit: ``limit`` messages and ``window`` bytes held; 0 is no cap.

    ``deliver`` is called with each delivery, in order, in the middle of the broker's own work: it may only note it.
    ``cancelled`` is called when the broker ends the consumer. ``permits``: how many more messages it has asked for, where it
    asks; ``None`` where only what it holds counts. ``serial`` tells the consumers of a broker apart. ``weigh``: the bytes that a
    delivery counts towards the window, where those are not the message's size. ``name`` is the client's own for it.
    """

    __slots__ = (
        "active",
        "auto_ack",
        "cancelled",
        "deliver",
        "held",
        "held_bytes",
        "limit",
        "name",
        "permits",
        "queue",
        "serial",
        "session",
        "waiting",
        "weigh",
        "window",
    )

    def __init__(
        self,
        session: Session,
        queue: Queue,
        deliver: Callable[[Delivery], None],
        *,
        limit: int,
        window: int,
        auto_ack: bool,
        cancelled: Callable[[], None] | None,
        permits: int | None,
        serial: int,
        weigh: Callable[[Delivery], int] | None,
        name: str,
    ) -> None:
        self.session = session
        self.queue = queue
        self.deliver = deliver
        self.limit = limit
        self.window = window
        self.auto_ack = auto_ack
        self.cancelled = cancelled
        self.permits = permits
        self.serial = serial
        self.weigh = weigh
        self.name = name
        self.held = 0
        self.held_bytes = 0
        self.active = True
        self.waiting = False  # whether it stands in its queue's rotation

    def has_credit(self) -> bool:
        """Whether it may be given one more message. A byte window admits one message of any size when empty."""
        if self.limit and self.held >= self.limit:
            return False
        if self.permits is not None and self.permits <= 0:
            return False
        if self.window and self.held_bytes >= self.window:
            return False
        session = self.session
        return not session.limit or len(session.unacked) < session.limit
