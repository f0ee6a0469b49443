"""Taking deliveries in: one consumer at a time for a subscription, consumed anew whenever it or its connection is lost.

A ``Session`` is one consumer's life. What it delivered can be settled only while it lives; when it is lost, the broker gives
its messages to whoever consumes next, so what was not begun is forgotten here and a late verdict is dropped.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol

from factflow_infra.errors import QueueConnectionError, QueueError, SubscriptionClosedError
from factflow_infra.queue.backoff import Backoff
from factflow_infra.queue.messages import SubscriptionStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from factflow_infra.queue.options import EngineOptions
    from factflow_infra.queue.tasks import Tasks
    from factflow_infra.queue.transport import Address, Consumer, Delivery, Transport

_log = logging.getLogger("factflow_infra.queue")


class Sink(Protocol):
    """Who handles what comes in."""

    def arrived(self, item: Item) -> None: ...
    def withdraw(self, session: Session) -> list[Item]:
        """Forget what came in by ``session`` and was not begun, and return it."""
        ...


class Item:
    """One delivery that is held here."""

    __slots__ = ("delivery", "has_turn", "session")

    def __init__(self, delivery: Delivery, session: Session) -> None:
        self.delivery = delivery
        self.session = session
        self.has_turn = False
        """Whether it is its ordering key's turn."""


class Session:
    """One consumer's life. ``taking``: its deliveries are taken in; ``alive``: what it delivered can be settled."""

    __slots__ = ("_arrived", "_intake", "alive", "consumer", "early", "ended", "held", "taking")

    def __init__(self, intake: Intake, ended: asyncio.Future[None]) -> None:
        self._intake = intake
        self._arrived = intake.sink.arrived
        self.ended = ended
        """Done once it is no longer alive."""
        self.taking = True
        self.alive = True
        self.held = 0
        """Deliveries that were taken in and are neither settled nor given back."""
        self.consumer: Consumer | None = None
        """``None`` until the broker's answer has come, which deliveries may overtake."""
        self.early: list[Item] = []
        """What is to go back to the broker once there is a consumer that can be cancelled first."""

    def deliver(self, delivery: Delivery) -> None:
        if self.taking:
            self.held += 1
            self._arrived(Item(delivery, self))
        elif self.alive:
            # It was on its way when the consumer was cancelled.
            self.held += 1
            item = Item(delivery, self)
            if self.consumer is None:
                self.early.append(item)
            else:
                self._intake.give_back([item])

    def cancelled(self, error: Exception | None) -> None:
        """The broker ended the consumer."""
        self._intake.broken(self, error)

    def end(self) -> None:
        self.taking = self.alive = False
        if not self.ended.done():
            self.ended.set_result(None)


class Intake:
    """Keeps a consumer on ``address`` while it is wanted: not paused, not closed."""

    def __init__(
        self,
        transport: Transport,
        address: Address,
        prefetch: int,
        concurrency: int,
        options: EngineOptions,
        tasks: Tasks,
        connected: Callable[[], bool],
        sink: Sink,
    ) -> None:
        self.sink = sink
        self.address = address
        self._transport = transport
        self._prefetch = prefetch
        self._concurrency = concurrency
        self._options = options
        self._tasks = tasks
        self._connected = connected
        self._backoff = Backoff(options.reconnect_base, options.reconnect_cap)
        self._sessions: list[Session] = []
        self._reviving: asyncio.Task[None] | None = None
        self._paused = False
        self._closed = False

    @property
    def status(self) -> SubscriptionStatus:
        if self._closed:
            return SubscriptionStatus.CLOSED
        if self._paused:
            return SubscriptionStatus.PAUSED
        # One that was resumed, and waits for what it held when it was paused, lacks no connection.
        return SubscriptionStatus.ACTIVE if self._live() or self._draining() else SubscriptionStatus.RECONNECTING

    @property
    def held(self) -> int:
        return sum(session.held for session in self._sessions)

    def _live(self) -> bool:
        return any(session.taking and session.consumer is not None for session in self._sessions)

    def _draining(self) -> bool:
        return any(session.alive and not session.taking for session in self._sessions)

    def _wanted(self) -> bool:
        return not (self._paused or self._closed) and self._connected() and not self._live()

    async def start(self) -> None:
        """Consume for the first time; a failure is raised, and leaves nothing behind."""
        try:
            await self._consume()
        except BaseException:
            self._closed = True
            raise

    async def _consume(self) -> None:
        loop = self._tasks.loop
        session = Session(self, loop.create_future())
        self._sessions.append(session)
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                session.consumer = await self._transport.consume(
                    self.address,
                    prefetch=self._prefetch,
                    concurrency=self._concurrency,
                    on_delivery=session.deliver,
                    on_cancelled=session.cancelled,
                )
        except BaseException as error:
            self._end(session)
            if isinstance(error, TimeoutError):
                raise QueueConnectionError(
                    f"{self.address.destination.text!r} could not be consumed from within"
                    f" {self._options.connect_timeout} s"
                ) from error
            if isinstance(error, asyncio.CancelledError) and not _being_cancelled():
                raise QueueConnectionError(
                    f"consuming from {self.address.destination.text!r} was cancelled from within the client library"
                ) from error
            raise
        self._backoff.succeeded(loop.time())
        if not session.alive:
            await session.consumer.close()
            raise QueueConnectionError(f"the consumer of {self.address.destination.text!r} was lost at once")
        if not session.taking:
            # Paused or closed meanwhile; handlers of what it delivered may run, and still settle.
            await self._give_back_of([(session, session.early)])
            if self._closed:
                raise SubscriptionClosedError(f"the subscription of {self.address.destination.text!r} was closed")

    def revive(self) -> None:
        """Consume again, in the background, if a consumer is wanted and there is none."""
        if self._wanted() and not self._is_reviving():
            self._start_reviving(0.0)

    def _is_reviving(self) -> bool:
        return self._reviving is not None and not self._reviving.done()

    def _start_reviving(self, pause: float) -> None:
        name = f"factflow-queue-consume {self.address.destination.text}"
        self._reviving = self._tasks.start(self._revive(pause), name)

    async def _revive(self, pause: float) -> None:
        if pause:
            await asyncio.sleep(pause)
        # What was held before a pause must be settled first: two consumers together could hold more than ``prefetch``, and
        # one with what is left of it could never be given more. The last of them to be settled revives.
        while self._wanted() and not self._draining():
            try:
                await self._consume()
            except Exception as error:  # noqa: BLE001  # whatever it is, it must not be the last attempt
                if not isinstance(error, QueueError):
                    self._tasks.report(error, f"consuming from {self.address.destination.text}")
                if self._wanted():
                    _log.warning("consuming from %s failed: %s", self.address.destination.text, error)
                    await asyncio.sleep(self._backoff.next())

    def disconnected(self) -> None:
        """The connection is gone, and every session with it."""
        for session in list(self._sessions):
            self._end(session)

    def broken(self, session: Session, error: Exception | None) -> None:
        """``session`` is lost while the connection may live: give up what it holds, and consume again after a pause."""
        if not session.alive:
            return
        if not self._closed:
            _log.warning("the consumer of %s was lost: %s", self.address.destination.text, error)
        self._end(session)
        if session.consumer is not None:
            self._tasks.start(session.consumer.close(), "factflow-queue-consumer-close")
        self._backoff.failed(self._tasks.loop.time())
        if not self._closed and not self._is_reviving():
            self._start_reviving(self._backoff.next())

    def _end(self, session: Session) -> None:
        if session in self._sessions:
            self._sessions.remove(session)
        session.end()
        self.sink.withdraw(session)

    def settled(self, session: Session) -> None:
        """One delivery of ``session`` less is held. The hot path counts by itself, and calls ``room`` when it must."""
        session.held -= 1
        if not session.taking:
            self.room(session)

    def room(self, session: Session) -> None:
        """A session that takes no more holds one less."""
        if session.alive and not session.held and session.consumer is not None:
            self._tasks.start(self._close_session(session), "factflow-queue-consumer-close")

    async def _close_session(self, session: Session) -> None:
        if session in self._sessions:
            self._sessions.remove(session)
        if session.consumer is not None:
            await session.consumer.close()
        session.end()
        self.revive()

    def give_back(self, items: Sequence[Item]) -> None:
        """Return messages that were not begun to the broker, in the background."""
        if items:
            self._tasks.start(self.release(items), "factflow-queue-release")

    async def release(self, items: Sequence[Item]) -> None:
        """Return messages to the broker. What is lost meanwhile goes back by itself."""
        for item in items:
            try:
                await self.release_begun(item)
            finally:
                self.settled(item.session)

    async def release_begun(self, item: Item) -> None:
        """Return a message whose handling was begun; it counts as held until ``settled``."""
        session = item.session
        if session.alive:
            try:
                await item.delivery.release()
            except QueueError as error:
                self.broken(session, error)

    async def pause(self) -> None:
        """Take no more until ``resume``; what was not begun goes back."""
        self._refuse_closed()
        self._paused = True
        # Shielded: a caller that is cancelled meanwhile must not leave messages that nobody holds or gives back.
        await asyncio.shield(self._tasks.start(self._stop_sessions(), "factflow-queue-pause"))

    def resume(self) -> None:
        self._refuse_closed()
        self._paused = False
        self.revive()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise SubscriptionClosedError(f"the subscription of {self.address.destination.text!r} is closed")

    def stop_taking(self) -> Coroutine[Any, Any, None]:
        """Take no more, for good, from this moment on; await the rest: telling the broker, and giving back."""
        self._closed = True
        return self._stop_sessions()

    def _stop_sessions(self) -> Coroutine[Any, Any, None]:
        stopped: list[tuple[Session, list[Item]]] = []
        starting = False
        for session in self._sessions:
            if session.consumer is None:
                starting = True
            if session.taking:
                session.taking = False
                items = self.sink.withdraw(session)
                if session.consumer is None:
                    session.early = items
                else:
                    stopped.append((session, items))
        if self._reviving is not None and not starting:
            self._reviving.cancel()
            self._reviving = None
        return self._give_back_of(stopped)

    async def _give_back_of(self, stopped: Sequence[tuple[Session, list[Item]]]) -> None:
        for session, items in stopped:
            if session.consumer is not None:
                await session.consumer.cancel()
                await self.release(items)
                if not session.held and session.alive:
                    await self._close_session(session)

    async def close(self) -> None:
        """End every session: what is unsettled goes back to the broker."""
        self._closed = True
        for session in list(self._sessions):
            session.end()  # before the broker gives them to somebody else
            await self._close_session(session)


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
