"""The queue provider: every delivery promise that is the same on all brokers, over one broker's ``Transport``.

The parts: ``connection`` keeps the connection, ``publishing`` sends, ``intake`` takes deliveries in, ``subscription`` and
``batch`` hand them out, ``settling`` decides and ``settler`` carries out what becomes of them, ``closing`` ends it all.
"""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from factflow_infra.errors import InvalidDestinationError, QueueError, QueueStoppedError
from factflow_infra.queue import checks
from factflow_infra.queue.batch import BatchSubscription
from factflow_infra.queue.closing import Deadline
from factflow_infra.queue.connection import ConnectionKeeper
from factflow_infra.queue.forks import process
from factflow_infra.queue.health import SubscriptionFacts, health_of
from factflow_infra.queue.intake import Intake
from factflow_infra.queue.messages import (
    DEFAULT_DEAD_LETTER_QUEUE,
    BatchItemResult,
    BatchResult,
    ErrorHandling,
    MessageStatus,
    QueueHealth,
    QueueMessage,
    check_seconds,
)
from factflow_infra.queue.options import MAX_PREFETCH, EngineOptions
from factflow_infra.queue.publishing import Publisher, checked_batch, checked_delay, outgoing, publish_all
from factflow_infra.queue.settler import Settler
from factflow_infra.queue.settling import Rules
from factflow_infra.queue.subscription import HANDLING, HandlerSubscription
from factflow_infra.queue.tasks import Tasks
from factflow_infra.queue.transport import Address, DestinationKind, Envelope

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from factflow_infra.queue.messages import MessageHandler
    from factflow_infra.queue.naming import NamingStrategy
    from factflow_infra.queue.transport import Transport

_DEFAULT_ERROR_HANDLING: Final = ErrorHandling()
_DEFAULT_OPTIONS: Final = EngineOptions()
_REMEMBERED_NAMES: Final = 1024


class QueueProvider:
    """A ``QueueProtocol`` over ``transport``. It belongs to the event loop that it is first used in."""

    def __init__(self, transport: Transport, naming: NamingStrategy, options: EngineOptions = _DEFAULT_OPTIONS) -> None:
        self._transport = transport
        self._naming = naming
        self._options = options
        self._addresses: dict[str, Address] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._forks = 0
        self._tasks: Tasks
        self._connection: ConnectionKeeper
        self._publisher: Publisher
        self._subscriptions: dict[HandlerSubscription | BatchSubscription, None] = {}
        self._numbers = count(1)
        self._last_message: float | None = None
        self._refusing = False
        self._stopped = False
        self._stopping: asyncio.Task[None] | None = None
        self._deadline: Deadline | None = None
        self._quiet: asyncio.Future[None] | None = None

    # Publishing

    async def publish(self, destination: str, message: QueueMessage, *, delay: float = 0.0) -> MessageStatus:
        """See ``QueueProtocol.publish``."""
        self._enter()
        address = self._address(destination)
        message = outgoing(message, self._options.max_message_bytes)
        if type(delay) is not float or delay != 0.0:
            delay = checked_delay(delay)
        self._transport.check(address, message, delay=delay)
        if self._connection.connected:
            await self._publisher.send(address, Envelope(message), delay)
        else:
            await self._connect_and_send(address, message, delay)
        return MessageStatus.ACCEPTED

    async def publish_batch(self, destination: str, messages: Sequence[QueueMessage]) -> BatchResult:
        """See ``QueueProtocol.publish_batch``."""
        self._enter()
        address = self._address(destination)
        ready = checked_batch(messages, self._options.max_message_bytes)
        for message in ready:
            self._transport.check(address, message, delay=0.0)

        async def send(message: QueueMessage) -> None:
            self._enter()  # stopped between two messages
            await self._connect_and_send(address, message, 0.0)

        if not self._connection.connected:
            # Once for all: those that wait for a connection one by one would not set out in order.
            try:
                with self._publisher.expected():
                    await self._connection.ensure()
            except QueueStoppedError:
                raise
            except QueueError as error:
                return BatchResult(tuple(BatchItemResult(message.message_id, error=error) for message in ready))
        return await publish_all(ready, send, window=self._options.batch_window)

    async def _connect_and_send(self, address: Address, message: QueueMessage, delay: float) -> None:
        with self._publisher.expected():
            await self._connection.ensure()
            await self._publisher.send(address, Envelope(message), delay)

    def _address(self, destination: str) -> Address:
        if type(destination) is str and (known := self._addresses.get(destination)) is not None:
            return known
        address = Address(self._naming.destination(destination))
        if len(self._addresses) >= _REMEMBERED_NAMES:
            self._addresses.clear()
        self._addresses[destination] = address
        return address

    # Subscribing

    async def subscribe(
        self,
        destination: str,
        handler: MessageHandler,
        *,
        subscription: str | None = None,
        concurrency: int = 1,
        prefetch: int | None = None,
        error_handling: ErrorHandling = _DEFAULT_ERROR_HANDLING,
    ) -> HandlerSubscription:
        """See ``QueueProtocol.subscribe``."""
        self._enter(anew=True)
        checks.check_handler(handler)
        checks.check_count("concurrency", concurrency)
        if prefetch is None:
            prefetch = max(self._options.prefetch, concurrency)
        checks.check_count("prefetch", prefetch)
        rules = self._rules(destination, subscription, error_handling)
        live = HandlerSubscription(
            owner=self,
            name=rules.name,
            handler=handler,
            concurrency=concurrency,
            rules=rules,
            options=self._options,
            tasks=self._tasks,
            on_closed=self._closed,
        )
        await self._start(live, rules, prefetch, concurrency)
        return live

    async def subscribe_batch(
        self,
        destination: str,
        *,
        max_messages: int,
        max_wait: float,
        subscription: str | None = None,
        error_handling: ErrorHandling = _DEFAULT_ERROR_HANDLING,
    ) -> BatchSubscription:
        """See ``QueueProtocol.subscribe_batch``. At most two batches are held: one in hand, one gathering."""
        self._enter(anew=True)
        checks.check_count("max_messages", max_messages)
        check_seconds("max_wait", max_wait)
        rules = self._rules(destination, subscription, error_handling)
        live = BatchSubscription(
            name=rules.name,
            max_messages=max_messages,
            max_wait=max_wait,
            rules=rules,
            options=self._options,
            tasks=self._tasks,
            on_closed=self._closed,
        )
        prefetch = min(2 * max_messages, MAX_PREFETCH)
        await self._start(live, rules, prefetch, prefetch)
        return live

    def _rules(self, destination: str, subscription: str | None, error_handling: ErrorHandling) -> Rules:
        checks.check_error_handling(error_handling)
        address = self._address(destination)
        target = address.destination
        if subscription is not None:
            self._naming.check_subscription(target, subscription)
        name = f"unnamed-{next(self._numbers)}" if subscription is None else subscription
        if target.kind is DestinationKind.TOPIC:
            # The queue of an unnamed subscription is the provider's own: no other may ever have its name.
            name = f"unnamed-{uuid4().hex}" if subscription is None else subscription
            address = Address(target, name, durable=subscription is not None)
        self._transport.check(address, None, delay=error_handling.retry_delay_seconds)
        target_name = error_handling.dead_letter_queue
        dead_letters = self._address(DEFAULT_DEAD_LETTER_QUEUE if target_name is None else target_name)
        if dead_letters.destination.kind is DestinationKind.TOPIC:
            raise InvalidDestinationError(
                f"dead_letter_queue must be a queue, got the topic {target_name!r}:"
                " a topic without subscriptions drops what it gets"
            )
        if target_name is not None and (target.kind, target.name) == (
            dead_letters.destination.kind,
            dead_letters.destination.name,
        ):
            raise InvalidDestinationError(
                f"dead_letter_queue must be another queue than the one subscribed to, got {target_name!r}:"
                " what cannot be handled would come again for ever"
            )
        self._transport.check(dead_letters, None, delay=0.0)
        return Rules(source=address, name=name, errors=error_handling, dead_letters=dead_letters)

    async def _start(
        self, live: HandlerSubscription | BatchSubscription, rules: Rules, prefetch: int, concurrency: int
    ) -> None:
        intake = Intake(
            self._transport, rules.source, prefetch, concurrency, self._options, self._tasks, self._is_connected, live
        )
        live.attach(intake, Settler(intake, self._publisher, self._connection, self._options))
        await self._connection.ensure()
        self._enter(anew=True)
        self._subscriptions[live] = None
        try:
            await intake.start()
        except BaseException as error:
            if live.closer.running():
                # Deliveries overtook the answer: their handlers run on to their ends, and ``stop`` waits for them.
                live.closer.begin(None)
            else:
                self._subscriptions.pop(live, None)
            if self._refusing and isinstance(error, QueueError):
                raise QueueStoppedError("the provider was stopped before the subscription was live") from error
            raise

    def _closed(self, subscription: HandlerSubscription | BatchSubscription) -> None:
        self._subscriptions.pop(subscription, None)
        self._last_message = self._latest()

    # Connecting

    async def __aenter__(self) -> Self:
        self._enter(anew=True)
        await self._connection.ensure()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _enter(self, *, anew: bool = False) -> None:
        """Every call starts here: in the right event loop, and not stopped.

        While the provider stops, its handlers may still publish, which finishes what they do, but nothing may begin
        ``anew``.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop or self._forks != process.forks:
            self._bind(loop)
        if self._refusing and (anew or self._stopped or HANDLING.get() is not self):
            raise QueueStoppedError("the provider was stopped; make a new one")

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not None and self._forks != process.forks:
            raise QueueError("this provider was made before a fork; make a new one in the child process")
        if self._loop is not None:
            raise QueueError(
                "this provider belongs to another event loop, the one that it was first used in; make one for each loop"
            )
        self._loop = loop
        self._forks = process.forks
        self._tasks = Tasks(loop)
        self._publisher = Publisher(self._transport, self._options, loop)
        self._connection = ConnectionKeeper(
            self._transport, self._options, self._tasks, on_up=self._on_up, on_down=self._on_down
        )

    def _is_connected(self) -> bool:
        return self._connection.connected

    def _on_up(self) -> None:
        for subscription in list(self._subscriptions):
            subscription.intake.revive()

    def _on_down(self) -> None:
        for subscription in list(self._subscriptions):
            subscription.intake.disconnected()

    # Stopping

    async def stop(self, *, timeout: float | None = 30.0) -> None:  # a grace for handlers
        """See ``QueueProtocol.stop``.

        Asked for from within a handler, it returns when everything else has ended; the connection closes once that handler
        has returned and its verdict is applied.
        """
        checks.check_grace(timeout)
        if self._loop is None:
            self._refusing = self._stopped = True
            return
        if asyncio.get_running_loop() is not self._loop or self._forks != process.forks:
            self._bind(asyncio.get_running_loop())
        if self._stopping is None or self._deadline is None or self._quiet is None:
            self._refusing = True
            self._deadline = Deadline(self._loop, timeout)
            self._quiet = self._loop.create_future()
            self._stopping = self._tasks.start(self._stop(timeout, self._deadline, self._quiet), "factflow-queue-stop")
        else:
            self._deadline.shorten(timeout)
            for subscription in self._subscriptions:
                subscription.closer.begin(timeout)
        current = asyncio.current_task()
        inside = [subscription.closer.excuse(current) for subscription in self._subscriptions]
        await asyncio.shield(self._quiet if any(inside) else self._stopping)

    async def _stop(self, timeout: float | None, deadline: Deadline, quiet: asyncio.Future[None]) -> None:
        self._connection.stop_reconnecting()
        subscriptions = list(self._subscriptions)
        closing = [subscription.closer.begin(timeout) for subscription in subscriptions]

        def unquiet() -> list[asyncio.Future[Any]]:
            return [s.closer.quiet for s in subscriptions if s.closer.quiet is not None]

        if not await deadline.wait(lambda: [*unquiet(), *self._publisher.in_flight()]):
            handlers = {task for subscription in subscriptions for task in subscription.closer.running()}
            # A handler that publishes is cancelled as a handler.
            self._publisher.abort("the provider was stopped", but=handlers.__contains__)
            self._connection.give_up()
            await Deadline(self._tasks.loop, self._options.cancel_grace).wait(self._publisher.in_flight)
            if unquiet():
                await asyncio.wait(unquiet())
        quiet.set_result(None)
        if closing:
            await asyncio.wait(closing)
        self._stopped = True
        await self._connection.close()
        self._publisher.close()

    # Health

    def health(self) -> QueueHealth:
        """See ``QueueProtocol.health``."""
        self._last_message = self._latest()
        return health_of(
            None if self._loop is None else self._connection,
            [SubscriptionFacts(s.name, s.status, s.intake.held, s.last_progress) for s in self._subscriptions],
            last_message=self._last_message,
            now=0.0 if self._loop is None else self._loop.time(),
            stall_after=self._options.stall_after,
        )

    def _latest(self) -> float | None:
        moments = [s.last_progress for s in self._subscriptions if s.last_progress is not None]
        if self._last_message is not None:
            moments.append(self._last_message)
        return max(moments, default=None)
