"""Consumers and their deliveries. Each consumer has a connection of its own.

An ERROR about one of them closes only its own connection then, UNSUBSCRIBE gives back only what it holds, and of what a
lost connection held Artemis can leave one message behind, not most (ART-4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from stompman import AckFrame, SubscribeFrame

from factflow_infra.errors import QueueConnectionError, QueueError, SubscriptionClosedError
from factflow_infra.queue.artemis import wire
from factflow_infra.queue.artemis.failures import LostError
from factflow_infra.queue.artemis.topology import sources_of
from factflow_infra.queue.artemis.windows import size_of, window_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from stompman import MessageFrame

    from factflow_infra.queue.artemis.session import Session
    from factflow_infra.queue.artemis.topology import Source
    from factflow_infra.queue.transport import Address, Delivery, Envelope


class ArtemisDelivery:
    """One delivery, on the connection of its consumer."""

    __slots__ = (
        "_ack_id",
        "_consumer",
        "_settled",
        "envelope",
        "number",
        "redelivered",
        "size",
        "subscription",
        "undecodable",
    )

    delivery_count: int | None = None
    """Artemis does not tell."""

    def __init__(
        self, frame: MessageFrame, consumer: ArtemisConsumer, subscription: str, number: str, *, seen: bool
    ) -> None:
        self._consumer = consumer
        self._ack_id = frame.headers.get("ack") or frame.headers["message-id"]
        self._settled = False
        self.subscription = subscription
        self.size = size_of(frame)
        self.number = number
        self.envelope: Envelope
        self.undecodable: str | None
        self.envelope, self.undecodable = wire.decode(frame)
        self.redelivered = seen or cast("dict[str, str]", frame.headers).get("redelivered") == "true"

    async def ack(self) -> None:
        """Settle for good: written to the broker. It is not answered; one that is lost brings the message again."""
        self._settle()
        await self._consumer.acknowledge(self, self._ack_id)

    async def release(self) -> None:
        """Give back: with the rest where the consumer is closing, else as a copy, behind the others.

        Never by NACK, which Artemis takes for an ACK: the message would be gone (ART-1). UNSUBSCRIBE gives back everything
        that is held, what handlers are working on included.
        """
        self._settle()
        if self._consumer.taking:
            await self._consumer.put_back(self.envelope)
            await self._consumer.acknowledge(self, self._ack_id)

    def _settle(self) -> None:
        # A second ack of one message would be answered with ERROR, and close the connection (ART-6).
        if self._settled:
            raise SubscriptionClosedError(f"message {self.envelope.message.message_id!r} is settled already")
        if self._consumer.over:
            raise QueueConnectionError(
                f"message {self.envelope.message.message_id!r}: its connection is closed; the broker delivers it again"
            )
        self._settled = True


class ArtemisConsumer:
    """A consumer of one address. Made by ``start_consumer``."""

    def __init__(
        self,
        session: Session,
        address: Address,
        *,
        prefetch: int,
        concurrency: int,
        on_delivery: Callable[[Delivery], None],
        on_cancelled: Callable[[Exception | None], None],
        on_closed: Callable[[ArtemisConsumer], None],
        put_back: Callable[[Envelope], Awaitable[None]],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        seen: dict[str, None],
    ) -> None:
        self.session = session
        self.put_back = put_back
        self.taking = True
        self.over = False
        self._first, *self._others = sources_of(address)
        # What the other sources hold is one message each, kept free from the first one's.
        self._window = window_for(max(1, prefetch - len(self._others)), concurrency, self._first.destination)
        self._concurrency = concurrency
        self._on_delivery = on_delivery
        self._on_cancelled = on_cancelled
        self._on_closed = on_closed
        self._spawn = spawn
        self._seen = seen
        self._held: dict[ArtemisDelivery, None] = {}
        self._first_bytes = 0
        self._slots = 0
        self._what = f"the subscription of {self._first.destination!r}"
        session.watch(self._lost)

    async def start(self) -> None:
        """Return once the broker has confirmed every subscription."""
        # The others first: deliveries begin with the first, and the engine may close again from within one.
        for number, source in enumerate(self._others):
            await self._subscribe(source, f"o{number}", 1)
        await self._subscribe(self._first, self._window.name, self._window.bytes_)

    async def _subscribe(self, source: Source, name: str, window: int) -> None:
        headers = {
            "id": name,
            "destination": source.destination,
            "ack": "client-individual",
            "subscription-type": source.routing_type,
            "consumer-window-size": str(window),
        }
        if source.durable_name is not None:
            headers["durable-subscription-name"] = source.durable_name
        await self.session.subscribe(
            SubscribeFrame(headers=cast("Any", headers)), lambda frame: self._received(name, frame), self._what
        )

    def _received(self, name: str, frame: MessageFrame) -> None:
        if not self.taking:
            return  # STOMP cannot stop deliveries and keep what is held: this one goes back with the rest
        number = wire.message_number(frame)
        seen = bool(self._seen) and self._seen.pop(number, self) is None
        delivery = ArtemisDelivery(frame, self, name, number, seen=seen)
        self._held[delivery] = None
        if name == self._window.name:
            self._first_bytes += delivery.size
        self._on_delivery(delivery)
        if self._slots < self._window.slots:
            self._widen()

    def _widen(self) -> None:
        """Add a slot where large messages fill the window before there is work for every handler."""
        if (
            self.taking
            and len(self._held) < self._concurrency
            and len(self._held) > self._slots
            and self._window.is_full(self._first_bytes)
        ):
            self._slots += 1
            self._spawn(self._add_slot(f"x{self._slots}"))

    async def _add_slot(self, name: str) -> None:
        try:
            await self._subscribe(self._first, name, 1)
        except QueueError:
            return  # the connection is lost with it, and that is told elsewhere

    async def acknowledge(self, delivery: ArtemisDelivery, ack_id: str) -> None:
        """Write the ACK. Raises ``QueueConnectionError``."""
        if self._held.pop(delivery, self) is None and delivery.subscription == self._window.name:
            self._first_bytes -= delivery.size
        try:
            await self.session.write(AckFrame(headers=cast("Any", {"id": ack_id})))
        except LostError as error:
            raise QueueConnectionError(
                f"message {delivery.envelope.message.message_id!r} could not be settled: {error}"
            ) from error

    async def cancel(self) -> None:
        """Take no more deliveries; those held stay ackable, and what comes all the same goes back with ``close``."""
        self.taking = False

    async def close(self) -> None:
        """Unsubscribe and disconnect: what is unsettled goes back, and acks written before arrive before."""
        self.taking = False
        self.over = True
        self._on_closed(self)
        await self.session.close()

    def remember(self) -> None:
        """What is held comes again though its handling may have begun, and Artemis flags at most the oldest of it (ART-3)."""
        self._seen.update((delivery.number, None) for delivery in self._held)

    def _lost(self, reason: Exception) -> None:
        if self.over:
            return
        self.taking = False
        self.over = True
        self._on_closed(self)
        self.remember()
        self._on_cancelled(reason)
