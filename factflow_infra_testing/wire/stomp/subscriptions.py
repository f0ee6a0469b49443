"""A subscription: a consumer on the broker, the frames that it is sent, and what they are acked by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from factflow_infra_testing.broker.entries import Delivery
    from factflow_infra_testing.broker.sessions import Consumer, Session
    from factflow_infra_testing.wire.stomp.connection import StompConnection

AUTO: Final = "auto"
CLIENT: Final = "client"
INDIVIDUAL: Final = "client-individual"
ACK_MODES: Final = (AUTO, CLIENT, INDIVIDUAL)


class Subscription:
    """One SUBSCRIBE of ``connection``. ``number`` is the broker's own. ``session``: one that it has in common with others."""

    __slots__ = (
        *("_frames", "_message", "ack_mode", "acked", "connection", "consumer", "id", "number", "queue", "session"),
        "temporary",
    )

    def __init__(
        self,
        connection: StompConnection,
        name: str,
        *,
        ack_mode: str,
        queue: str,
        temporary: bool,
        session: Session | None = None,
    ) -> None:
        self.connection = connection
        self.id = name
        self.ack_mode = ack_mode
        self.acked = ack_mode != AUTO
        self.queue = queue
        self.temporary = temporary
        self.number = connection.front_end.new_number()
        self.session: Session = session or connection.server.broker.open_session(connection.connection)
        self.consumer: Consumer | None = None
        self._frames: dict[int, bytes] = {}
        self._message = connection.front_end.dialect.message

    def weigh(self, delivery: Delivery) -> int:
        """The bytes that the window counts: those of the frame."""
        ack_id, frame = self._message(self, delivery)
        self._frames[delivery.tag] = frame
        if self.acked:
            self.connection.held[ack_id] = (self, delivery)
        return len(frame)

    def frame(self, delivery: Delivery) -> bytes:
        """The frame of a delivery that was weighed, once."""
        return self._frames.pop(delivery.tag)

    def deliver(self, delivery: Delivery) -> None:
        """Called in the middle of the broker's work: note it for the flush that follows."""
        connection = self.connection
        if not connection.outbox:
            connection.server.dirty.append(connection)
        connection.outbox.append((self, delivery))

    def cancelled(self) -> None:
        """Its queue was deleted. Artemis and ActiveMQ Classic say nothing to the client."""
