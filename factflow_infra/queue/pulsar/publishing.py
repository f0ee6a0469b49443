"""Publishing: one producer a topic, the least recently used of too many closed, and callers that wait instead of a full queue."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from factflow_infra.errors import PublishUnconfirmedError, QueueConnectionError
from factflow_infra.queue.pulsar import wire
from factflow_infra.queue.pulsar.failures import publish_error, result_of
from factflow_infra.queue.pulsar.session import quietly
from factflow_infra.queue.shared import Shared

if TYPE_CHECKING:
    from collections.abc import Mapping

    from factflow_infra.queue.pulsar.client import Producer
    from factflow_infra.queue.pulsar.session import Session
    from factflow_infra.queue.transport import Envelope

MAX_PRODUCERS: Final = 500
MAX_PENDING: Final = 1000
"""Messages of one topic that wait for their confirmation; who comes after them waits for his turn."""


class _Line:
    """One topic's producer, and who uses it. Who waits goes on in the order in which he came."""

    __slots__ = ("_room", "_waiting", "producer", "using")

    def __init__(self, producer: Producer) -> None:
        self.producer = producer
        self.using = 0
        self._room = MAX_PENDING
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        if self._room and not self._waiting:
            self._room -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.leave()  # the turn that came too late
            raise

    def leave(self) -> None:
        self._room += 1
        while self._waiting and self._room:
            turn = self._waiting.popleft()
            if not turn.done():
                self._room -= 1
                turn.set_result(None)

    def refuse(self, reason: str) -> None:
        for turn in self._waiting:
            if not turn.done():
                turn.set_exception(QueueConnectionError(reason))


class Publisher:
    """Publishes over one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lines: dict[str, _Line] = {}
        self._opening: Shared[str, _Line] = Shared()
        self._sending: dict[asyncio.Task[Any], bool] = {}

    async def publish(self, topic: str, envelope: Envelope, what: str, *, delay: float, due: float) -> None:
        """Return once the broker has confirmed. ``due``: seconds since 1970, where there is a ``delay``. Raises as
        ``Transport.publish``.
        """
        line = self._lines.get(topic)
        if line is None:
            line = await self._opening.result(topic, lambda: self._open(topic))
        line.using += 1
        try:
            self._lines[topic] = self._lines.pop(topic, line)  # the last in the row is the last used
            await line.enter()
            try:
                await self._send(line.producer, envelope, what, delay, due)
            finally:
                line.leave()
        finally:
            line.using -= 1

    async def _send(self, producer: Producer, envelope: Envelope, what: str, delay: float, due: float) -> None:
        if self._session.lost:
            raise QueueConnectionError(f"{what}: not connected to Pulsar at {self._session.endpoint}")
        message = envelope.message
        properties: dict[str, str] = wire.properties_of(envelope)
        deliver_after = None
        if delay:
            properties[wire.DUE] = str(round(due * 1000))
            deliver_after = timedelta(seconds=delay)
        task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        self._sending[task] = False
        try:
            await producer.send(
                message.body,
                properties,
                message.ordering_key,
                event_timestamp=wire.event_time(message),
                deliver_after=deliver_after,
            )
        except asyncio.CancelledError as error:
            if not self._sending[task] or task.uncancel() > before:
                raise
            raise PublishUnconfirmedError(
                f"{what}: lost the connection to Pulsar at {self._session.endpoint} before it was confirmed"
            ) from error
        except Exception as error:
            if result_of(error) is None:
                raise
            raise publish_error(error, what) from error
        finally:
            # It may have ended in another way before the abort reached it.
            if self._sending.pop(task) and task.cancelling() > before:
                task.uncancel()

    async def _open(self, topic: str) -> _Line:
        session = self._session
        for name, line in [*self._lines.items()] if len(self._lines) >= MAX_PRODUCERS else ():
            if not line.using:
                del self._lines[name]
                session.forget(line.producer)
                session.start(quietly(line.producer.close()), "factflow-pulsar-close-producer")
                break
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
        line = self._lines[topic] = _Line(producer)
        return line

    def abort(self) -> None:
        """The session is lost: whoever waits for a confirmation waits for ever."""
        reason = f"lost the connection to Pulsar at {self._session.endpoint}"
        for line in self._lines.values():
            line.refuse(reason)
        for task, aborted in self._sending.items():
            if not aborted:
                self._sending[task] = True
                task.cancel()

    @property
    def producers(self) -> Mapping[str, object]:
        return self._lines
