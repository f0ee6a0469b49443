"""Publishing: one producer a topic, the least recently used of too many closed, and callers that wait instead of a full queue."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Final
from weakref import ref

from factflow_infra.errors import PublishUnconfirmedError, QueueConnectionError
from factflow_infra.queue.pulsar import wire
from factflow_infra.queue.pulsar.client import Answer, send
from factflow_infra.queue.pulsar.failures import publish_error, result_of
from factflow_infra.queue.pulsar.session import quietly
from factflow_infra.queue.shared import Shared

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from factflow_infra.errors import QueueError
    from factflow_infra.queue.pulsar.client import Producer
    from factflow_infra.queue.pulsar.session import Session
    from factflow_infra.queue.transport import Address, Envelope

MAX_PRODUCERS: Final = 500
MAX_PENDING: Final = 1000
"""Messages of one topic that wait for their confirmation; who comes after them waits for his turn."""


class Line:
    """One topic's producer, and who uses it. Who waits goes on in the order in which he came."""

    __slots__ = ("closed", "producer", "room", "topic", "used", "waiting")

    def __init__(self, topic: str, producer: Producer) -> None:
        self.topic = topic
        self.producer = producer
        self.closed = False
        self.used = False
        """Since it was last looked at."""
        self.room = MAX_PENDING
        self.waiting: deque[asyncio.Future[None]] = deque()

    async def turn(self) -> None:
        """Wait for room; it is the caller's then."""
        turn = asyncio.get_running_loop().create_future()
        self.waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.leave()  # it came too late
            raise

    def leave(self) -> None:
        """One less waits for its confirmation."""
        self.room += 1
        while self.waiting and self.room:
            turn = self.waiting.popleft()
            if not turn.done():
                self.room -= 1
                turn.set_result(None)

    def refuse(self, reason: str) -> None:
        for turn in self.waiting:
            if not turn.done():
                turn.set_exception(QueueConnectionError(reason))


class Confirmation(Answer):
    """The answer to one publish, and the future of who waits for it, which it settles without a coroutine in between.

    The client has it until it answers, so it keeps nothing that the client belongs to: that might be freed in one of its threads.
    """

    __slots__ = ("_publisher", "address", "envelope", "future")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, publisher: ref[Publisher], address: Address, envelope: Envelope
    ) -> None:
        super().__init__(loop)
        self._publisher = publisher
        self.address = address
        self.envelope = envelope
        self.future: asyncio.Future[None] = loop.create_future()

    def outstanding(self) -> int:
        publisher = self._publisher()
        return 1 if publisher is None else publisher.unconfirmed

    def give_up(self) -> None:
        publisher = self._publisher()
        if publisher is not None:
            publisher.settle(self)


class Publisher:
    """Publishes over one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._itself: ref[Publisher] = ref(self)
        self._lines: dict[str, Line] = {}
        self._opening: Shared[str, Line] = Shared()
        self._unconfirmed: dict[Confirmation, Line] = {}

    async def line(self, topic: str) -> Line:
        """The line to ``topic``, of which there is one. Raises ``QueueConnectionError`` and the like."""
        line = self._lines.get(topic)
        if line is None:
            line = await self._opening.result(topic, lambda: self._open(topic))
        return line

    def publish(self, line: Line, address: Address, envelope: Envelope, delay: float) -> Awaitable[None]:
        """Await what it returns: until the broker has confirmed. Raises as ``Transport.publish``. ``line`` is not closed."""
        line.used = True
        properties = wire.properties_of(envelope)
        if delay:
            properties[wire.DUE] = str(round((time.time() + delay) * 1000))
        if not line.room or line.waiting:
            return self._publish_in_turn(line, address, envelope, properties, delay)
        line.room -= 1
        return self._send(line, address, envelope, properties, delay)

    async def _publish_in_turn(
        self, line: Line, address: Address, envelope: Envelope, properties: dict[str, str], delay: float
    ) -> None:
        await line.turn()
        await self._send(line, address, envelope, properties, delay)

    def _send(
        self, line: Line, address: Address, envelope: Envelope, properties: dict[str, str], delay: float
    ) -> asyncio.Future[None]:
        if self._session.lost:
            line.leave()
            raise QueueConnectionError(
                f"{_what(address, envelope)}: not connected to Pulsar at {self._session.endpoint}"
            )
        confirmation = Confirmation(self._session.loop, self._itself, address, envelope)
        self._unconfirmed[confirmation] = line
        message = envelope.message
        try:
            event_time = wire.event_time(message)
            send(line.producer, confirmation, message.body, properties, message.ordering_key, event_time, delay)
        except BaseException:
            del self._unconfirmed[confirmation]
            line.leave()
            raise
        return confirmation.future

    def settle(self, answer: Confirmation) -> None:
        """``answer`` has come, or nobody will wait for it any more."""
        line = self._unconfirmed.pop(answer, None)
        if line is None:
            return
        line.leave()
        future = answer.future
        if future.done():
            return  # who waited was cancelled
        if answer.is_good:
            future.set_result(None)
        else:
            future.set_exception(self._failure(answer, line))

    def _failure(self, answer: Confirmation, line: Line) -> QueueError:
        what = _what(answer.address, answer.envelope)
        if not answer.has_come:
            return PublishUnconfirmedError(
                f"{what}: lost the connection to Pulsar at {self._session.endpoint} before it was confirmed"
            )
        error = answer.error()
        if result_of(error) == "AlreadyClosed":
            # By the broker, for good: the next message gets another producer.
            line.closed = True
            self._lines.pop(line.topic, None)
            self._session.forget(line.producer)
        failure = publish_error(error, what)
        failure.__cause__ = error
        return failure

    async def _open(self, topic: str) -> Line:
        session = self._session
        producer = await session.request(
            lambda: session.client.create_producer(
                topic,
                batching_enabled=False,
                block_if_queue_full=False,
                max_pending_messages=MAX_PENDING,
                send_timeout_millis=max(1, round(session.options.send_timeout * 1000)),
            ),
            f"a producer for {topic}",
        )
        session.add(producer)
        line = self._lines[topic] = Line(topic, producer)
        self._close_some(line)
        return line

    def _close_some(self, newest: Line) -> None:
        """Of those that nobody uses: first what was not used since it was looked at, then what was looked at longest ago."""
        surplus = len(self._lines) - MAX_PRODUCERS
        if surplus <= 0:
            return
        idle = [line for line in self._lines.values() if line.room == MAX_PENDING and line is not newest]
        for line in sorted(idle, key=lambda line: line.used)[:surplus]:
            del self._lines[line.topic]
            line.closed = True
            self._session.forget(line.producer)
            self._session.start(quietly(line.producer.close()), "factflow-pulsar-close-producer")
        for line in idle:
            line.used = False

    @property
    def unconfirmed(self) -> int:
        """How many messages wait for their confirmation."""
        return len(self._unconfirmed)

    def abort(self) -> None:
        """The session is lost: whoever waits for a confirmation waits for ever."""
        reason = f"lost the connection to Pulsar at {self._session.endpoint}"
        for line in self._lines.values():
            line.refuse(reason)
        for confirmation in [*self._unconfirmed]:
            confirmation.give_up()

    @property
    def lines(self) -> int:
        """How many producers are open."""
        return len(self._lines)


def _what(address: Address, envelope: Envelope) -> str:
    return f"message {envelope.message.message_id[:80]!r} to {address.destination.text!r}"
