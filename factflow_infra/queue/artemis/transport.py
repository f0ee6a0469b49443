"""Artemis as a ``Transport``, on stompman. The engine above it has the delivery semantics and owns reconnecting."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from factflow_infra.errors import QueueConnectionError
from factflow_infra.queue.artemis import wire
from factflow_infra.queue.artemis.consuming import ArtemisConsumer
from factflow_infra.queue.artemis.failures import RefusedError
from factflow_infra.queue.artemis.publishing import publish
from factflow_infra.queue.artemis.session import ArtemisOptions, Session, open_session
from factflow_infra.queue.artemis.topology import route_of
from factflow_infra.queue.naming import StompNamingStrategy

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from factflow_infra.queue.messages import QueueMessage
    from factflow_infra.queue.transport import Address, Consumer, Delivery, Envelope

_REMEMBERED: Final = 10_000


class ArtemisTransport:
    """A connection to publish on, and one for each consumer, to the same broker.

    See ``factflow_infra.queue.transport.Transport`` for what each method promises.
    """

    def __init__(self, options: ArtemisOptions) -> None:
        self._options = options
        self._naming = StompNamingStrategy()
        self._session: Session | None = None
        self._reopening: asyncio.Task[None] | None = None
        self._consumers: dict[ArtemisConsumer, None] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._checked: set[Address] = set()
        # Broker's numbers of messages that lost connections held: flagged when they come again.
        self._seen: dict[str, None] = {}

    async def connect(self, on_lost: Callable[[Exception | None], None]) -> None:
        if self._session is not None or self._reopening is not None:
            await self.close()
        session = await open_session(self._options)
        self._use(session, on_lost)

    def _use(self, session: Session, on_lost: Callable[[Exception | None], None]) -> None:
        self._session = session

        def lost(reason: Exception) -> None:
            if self._session is not session:
                return
            self._session = None
            cause = reason.__cause__
            if isinstance(cause, RefusedError) and cause.answers:
                # One message was refused, which ends the connection that it came by (ART-6), and nothing else.
                self._spawn(session.ended())
                self._reopening = asyncio.get_running_loop().create_task(self._reopen(session, on_lost))
            else:
                self._give_up(reason, on_lost)

        session.watch(lost)

    async def _reopen(self, refused: Session, on_lost: Callable[[Exception | None], None]) -> None:
        try:
            session = await open_session(self._options, ((refused.host, refused.port),))
        except Exception as error:  # noqa: BLE001  # TLS files may be gone by now: whatever it is, the engine has to know
            self._reopening = None
            self._give_up(error, on_lost)
        else:
            self._reopening = None
            self._use(session, on_lost)

    def _give_up(self, reason: Exception, on_lost: Callable[[Exception | None], None]) -> None:
        # The consumers' connections may live: with a farewell, nothing is left behind (ART-4).
        for consumer in list(self._consumers):
            consumer.remember()
            self._spawn(consumer.close())
        on_lost(reason)

    async def close(self) -> None:
        session, self._session = self._session, None
        closing = [*self._tasks, *(asyncio.ensure_future(consumer.close()) for consumer in list(self._consumers))]
        if self._reopening is not None:
            self._reopening.cancel()
            closing.append(self._reopening)
            self._reopening = None
        if session is not None:
            closing.append(asyncio.ensure_future(session.close()))
        if closing:
            await asyncio.wait(closing)

    def check(self, address: Address, message: QueueMessage | None, *, delay: float) -> None:
        if address not in self._checked:
            self._naming.destination(address.destination.text)
            if address.subscription is not None:
                self._naming.check_subscription(address.destination, address.subscription)
            if len(self._checked) >= _REMEMBERED:
                self._checked.clear()
            self._checked.add(address)
        if delay:
            wire.check_delay(delay)
        if message is not None:
            wire.check_headers(message)

    async def publish(self, address: Address, envelope: Envelope, *, delay: float = 0.0) -> None:
        session = self._session or await self._connected()
        try:
            await publish(session, route_of(address), envelope, delay)
        except QueueConnectionError as error:
            if not (isinstance(error.__cause__, RefusedError) and error.__cause__.is_follower):
                raise
            # Another message was refused, and this one behind it was not taken: once more, on the next connection.
            await publish(await self._connected(), route_of(address), envelope, delay)

    async def consume(
        self,
        address: Address,
        *,
        prefetch: int,
        concurrency: int,
        on_delivery: Callable[[Delivery], None],
        on_cancelled: Callable[[Exception | None], None],
    ) -> Consumer:
        publishing = await self._connected()
        session = await open_session(self._options, ((publishing.host, publishing.port),))
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        consumer = ArtemisConsumer(
            session,
            address,
            prefetch=prefetch,
            concurrency=concurrency,
            on_delivery=on_delivery,
            on_cancelled=on_cancelled,
            on_closed=self._forget,
            put_back=lambda envelope: self.publish(address, envelope),
            spawn=self._spawn,
            seen=self._seen,
        )
        self._consumers[consumer] = None
        try:
            await consumer.start()
            await self._connected()  # lost meanwhile, with everything that belongs to it
        except BaseException:
            self._spawn(consumer.close())
            raise
        return consumer

    async def _connected(self) -> Session:
        if self._reopening is not None:
            await asyncio.wait([self._reopening])
        if self._session is None or self._session.lost:
            raise QueueConnectionError("not connected to Artemis")
        return self._session

    def _forget(self, consumer: ArtemisConsumer) -> None:
        self._consumers.pop(consumer, None)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks[task] = None
        task.add_done_callback(lambda task: self._tasks.pop(task, None))
