"""The producer: what waits for its receipt, batches, the send timeout, and sending again after a reconnection."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from factflow_infra_testing.api.pulsar.connection import ignored
from factflow_infra_testing.api.pulsar.handlers import CLOSING, PENDING, READY, Handler
from factflow_infra_testing.api.pulsar.results import (
    ALREADY_CLOSED,
    CHECKSUM,
    MESSAGE_TOO_BIG,
    NOT_CONNECTED,
    OK,
    QUEUE_IS_FULL,
    TIMEOUT,
    of_server,
    result_value,
)
from factflow_infra_testing.api.pulsar.values import message_id
from factflow_infra_testing.wire.pulsar.frames import MAX_MESSAGE_SIZE, Content

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from factflow_infra_testing.api.pulsar.client import ApiClient
    from factflow_infra_testing.api.pulsar.connection import ClientConnection
    from factflow_infra_testing.api.pulsar.values import Message
    from factflow_infra_testing.wire.pulsar.frames import Single

    Sent = Callable[[Any, Any], None]

_OVERHEAD: Final = 64
"""Bytes of metadata beside the properties, about."""


class Pending:
    """One send on its way: a message, or a batch of them."""

    __slots__ = ("batched", "callbacks", "content", "deadline", "number")

    def __init__(self, number: int, content: Content, callbacks: list[Sent], deadline: float, *, batched: bool) -> None:
        self.number = number
        self.content = content
        self.callbacks = callbacks
        self.deadline = deadline
        self.batched = batched


class Producer(Handler):
    """As ``_pulsar.Producer`` (``ProducerImpl``). Times of its configuration are in milliseconds."""

    def __init__(self, client: ApiClient, topic: str, configuration: Any, created: Callable[[str, str], None]) -> None:
        self._number = client.new_producer()
        self._name: str = configuration.producer_name()
        self._chosen = bool(self._name)
        self._send_timeout = configuration.send_timeout_millis() / 1000
        self._most = configuration.max_pending_messages()
        self._blocks = configuration.block_if_queue_full()
        self._batches = configuration.batching_enabled()
        self._batch_messages = configuration.batching_max_messages()
        self._batch_bytes = configuration.batching_max_allowed_size_in_bytes()
        self._batch_delay = configuration.batching_max_publish_delay_ms() / 1000
        self._last_published = configuration.initial_sequence_id()
        self._next_number = self._last_published + 1
        self._pending: deque[Pending] = deque()
        self._batch: list[tuple[Message, Sent]] = []
        self._blocked: deque[tuple[Message, Sent]] = deque()
        self._batch_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self._held = 0
        self._epoch = 0
        super().__init__(client, topic, created, backoff_stop=max(0.1, self._send_timeout - 0.1))

    # --- what the library calls -------------------------------------------------------------------------------------

    def topic(self) -> str:
        return self.topic_name

    def producer_name(self) -> str:
        return self._name

    def last_sequence_id(self) -> int:
        return self._last_published

    def send_async(self, message: Message, callback: Sent) -> None:
        """Send; ``callback`` gets the result and the message's id."""
        if self.state not in (READY, PENDING):
            gone = self.state in (CLOSING, "closed")
            callback(result_value(ALREADY_CLOSED if gone else NOT_CONNECTED), message_id((-1, -1, -1)))
            return
        if self._most > 0 and self._held >= self._most:
            self._send_batch()
            if self._blocks:
                # The C++ client blocks its caller here, which is the event loop. In virtual time nothing would ever unblock
                # it, so only this message waits.
                self._blocked.append((message, callback))
            else:
                callback(result_value(QUEUE_IS_FULL), message_id((-1, -1, -1)))
            return
        self._accept(message, callback)

    def flush_async(self, callback: Callable[[Any], None]) -> None:
        """Send what waits for its batch; ``callback`` once all that was sent before is answered."""
        self._send_batch()
        if not self._pending:
            callback(result_value(OK))
            return
        self._pending[-1].callbacks.append(lambda result, _: callback(result))

    def close_async(self, callback: Callable[[Any], None] | None) -> None:
        """Close: what has no receipt yet fails, with no telling whether the broker took it."""
        self.close(lambda result: callback(result_value(result)) if callback is not None else None)

    def close(self, done: Callable[[str], None]) -> None:
        if self.state not in (READY, PENDING):
            self._fail_all(ALREADY_CLOSED)
            done(ALREADY_CLOSED)
            return
        self._fail_all(ALREADY_CLOSED)
        self.state = CLOSING

        def closed(result: str) -> None:
            if result == OK:
                self.end()
            done(result)

        connection = self.connection
        self.close_with("close_producer", {"producer_id": self._number}, closed)
        if connection is not None:
            connection.producers.pop(self._number, None)

    def end(self) -> None:
        self._fail_all(ALREADY_CLOSED)
        super().end()
        self.client.forget(self)

    # --- sending ----------------------------------------------------------------------------------------------------

    def _accept(self, message: Message, callback: Sent) -> None:
        metadata: dict[str, Any] = dict(message.metadata)
        number = metadata.get("sequence_id")
        if number is None:
            number = self._next_number
            self._next_number += 1
        metadata |= {
            "producer_name": self._name,
            "sequence_id": number,
            "publish_time": int(time.time() * 1000),
        }
        message.metadata = metadata
        if self._batches and "deliver_at_time" not in metadata:
            self._held += 1
            self._add_to_batch(message, callback)
            return
        if _size(message) > MAX_MESSAGE_SIZE:
            callback(result_value(MESSAGE_TOO_BIG), message_id((-1, -1, -1)))
            return
        self._held += 1
        content = Content(b"", metadata, message.data(), intact=True)
        self._post(Pending(number, content, [callback], self._deadline(), batched=False))

    def _add_to_batch(self, message: Message, callback: Sent) -> None:
        size = sum(len(one.data()) for one, _ in self._batch)
        if self._batch and size + len(message.data()) > self._batch_bytes:
            self._send_batch()
        self._batch.append((message, callback))
        if len(self._batch) == 1:
            self._batch_timer = self.loop.call_later(self._batch_delay, self._send_batch)
        if len(self._batch) >= self._batch_messages:
            self._send_batch()

    def _send_batch(self) -> None:
        if self._batch_timer is not None:
            self._batch_timer.cancel()
            self._batch_timer = None
        batch, self._batch = self._batch, []
        if not batch:
            return
        first, last = batch[0][0].metadata, batch[-1][0].metadata
        own = ("properties", "partition_key", "event_time", "ordering_key", "sequence_id")
        singles: list[Single] = [
            (
                {name: one.metadata[name] for name in own if name in one.metadata} | {"payload_size": len(one.data())},
                one.data(),
            )
            for one, _ in batch
        ]
        shared = ("producer_name", "sequence_id", "publish_time", "partition_key", "ordering_key")
        metadata = {name: first[name] for name in shared if name in first} | {
            "num_messages_in_batch": len(batch),
            "highest_sequence_id": last["sequence_id"],
        }
        content = Content(b"", metadata, singles, intact=True)
        callbacks = [callback for _, callback in batch]
        self._post(Pending(metadata["sequence_id"], content, callbacks, self._deadline(), batched=True))

    def _deadline(self) -> float:
        return self.loop.time() + self._send_timeout

    def _post(self, pending: Pending) -> None:
        self._pending.append(pending)
        if self._send_timeout and self._send_timer is None:
            self._send_timer = self.loop.call_at(pending.deadline, self._check_overdue)
        if self.connection is not None:
            self._say(self.connection, pending)

    def _say(self, connection: ClientConnection, pending: Pending) -> None:
        fields: dict[str, Any] = {"producer_id": self._number, "sequence_id": pending.number}
        metadata = pending.content.metadata
        if pending.batched:
            fields["num_messages"] = metadata["num_messages_in_batch"]
            fields["highest_sequence_id"] = metadata["highest_sequence_id"]
        connection.command("send", fields, pending.content)

    def _check_overdue(self) -> None:
        self._send_timer = None
        if not self._pending:
            return
        deadline = self._pending[0].deadline
        if deadline > self.loop.time():
            self._send_timer = self.loop.call_at(deadline, self._check_overdue)
        else:
            self._fail_all(TIMEOUT)  # all of them, the younger ones as well

    def _fail_all(self, result: str) -> None:
        pending, self._pending = self._pending, deque()
        batch, self._batch = self._batch, []
        blocked, self._blocked = self._blocked, deque()
        for timer in (self._batch_timer, self._send_timer):
            if timer is not None:
                timer.cancel()
        self._batch_timer = self._send_timer = None
        self._held = 0
        value, nowhere = result_value(result), message_id((-1, -1, -1))
        for one in pending:
            for callback in one.callbacks:
                callback(value, nowhere)
        for _, callback in (*batch, *blocked):
            callback(value, nowhere)

    # --- what the broker says ---------------------------------------------------------------------------------------

    def take(self, name: str, fields: Mapping[str, Any], content: Content | None) -> None:
        del content
        if name == "close_producer":
            self.drop_connection()
        elif name == "send_receipt":
            self._receipt(fields)
        elif name == "send_error":
            if of_server(fields["error"]) != CHECKSUM:
                self._hang_up()
            elif self._pending and fields["sequence_id"] == self._pending[0].number:
                self._settle(CHECKSUM, (-1, -1))

    def _hang_up(self) -> None:
        if self.connection is not None:
            self.connection.close()

    def _receipt(self, fields: Mapping[str, Any]) -> None:
        if not self._pending:
            return  # it timed out
        number, expected = fields["sequence_id"], self._pending[0].number
        if number > expected:
            self._hang_up()
        elif number == expected:
            at = fields["message_id"]
            self._last_published = self._pending[0].content.metadata.get("highest_sequence_id", number)
            self._settle(OK, (at["ledgerId"], at["entryId"]))

    def _settle(self, result: str, position: tuple[int, int]) -> None:
        pending = self._pending.popleft()
        value = result_value(result)
        self._held -= len(pending.content.payload) if pending.batched else 1
        for index, callback in enumerate(pending.callbacks):
            callback(value, message_id((*position, index if pending.batched else -1)))
        while self._blocked and self._held < self._most and self.state in (READY, PENDING):
            self._accept(*self._blocked.popleft())

    # --- connecting -------------------------------------------------------------------------------------------------

    def open_on(self, connection: ClientConnection, done: Callable[[str, str], None]) -> None:
        fields = {
            "topic": self.topic_name,
            "producer_id": self._number,
            "producer_name": self._name or None,
            "user_provided_producer_name": self._chosen,
            "epoch": self._epoch,
        }
        self._epoch += 1

        def answered(result: str, answer: Mapping[str, Any]) -> None:
            if self.state not in (READY, PENDING):
                if result in (OK, TIMEOUT):
                    self._say_closed(connection)
                done(OK, "")
                return
            if result == TIMEOUT:
                self._say_closed(connection)
            if result == OK:
                connection.producers[self._number] = self
                self._name = answer["producer_name"]
                for pending in self._pending:
                    self._say(connection, pending)
                self.connection = connection
                done(OK, "")
                self.opened()
            else:
                done(result, answer.get("message", ""))

        connection.request(self.client.new_request(), "producer", fields, answered)

    def _say_closed(self, connection: ClientConnection) -> None:
        closing = {"producer_id": self._number}
        connection.request(self.client.new_request(), "close_producer", closing, ignored)


def _size(message: Message) -> int:
    properties = message.metadata.get("properties", ())
    return _OVERHEAD + len(message.data()) + sum(len(pair["key"]) + len(pair["value"]) + 8 for pair in properties)
