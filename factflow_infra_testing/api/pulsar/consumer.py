"""The consumer: its queue of what has come, permits, acks, nacks and seeking (``ConsumerImpl``)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from factflow_infra_testing.api.pulsar.acks import AckGrouping, NackTimer
from factflow_infra_testing.api.pulsar.connection import ignored
from factflow_infra_testing.api.pulsar.handlers import CLOSED, CLOSING, PENDING, READY, Handler
from factflow_infra_testing.api.pulsar.results import (
    ALREADY_CLOSED,
    CUMULATIVE_NOT_ALLOWED,
    NOT_ALLOWED,
    NOT_CONNECTED,
    OK,
    TIMEOUT,
    result_value,
)
from factflow_infra_testing.api.pulsar.values import Batch, Message, key_of, message_id
from factflow_infra_testing.wire.pulsar.content import count_of, is_batch, singles
from factflow_infra_testing.wire.pulsar.topics import id_of
from factflow_infra_testing.wire.pulsar.values import CUMULATIVE, INDIVIDUAL, SubscriptionType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from factflow_infra_testing.api.pulsar.client import ApiClient
    from factflow_infra_testing.api.pulsar.connection import ClientConnection
    from factflow_infra_testing.api.pulsar.values import Key
    from factflow_infra_testing.broker.entries import Position
    from factflow_infra_testing.wire.pulsar.frames import Content

    Received = Callable[[Any, Message], None]
    Done = Callable[[Any], None] | None

_TYPES: Final = {
    "Exclusive": SubscriptionType.EXCLUSIVE,
    "Shared": SubscriptionType.SHARED,
    "Failover": SubscriptionType.FAILOVER,
    "KeyShared": SubscriptionType.KEY_SHARED,
}
_ONE_BY_ONE: Final = (SubscriptionType.SHARED, SubscriptionType.KEY_SHARED)
_NO_MESSAGE: Final = Message({}, b"")
CHECKSUM_MISMATCH: Final = 2


class Consumer(Handler):
    """As ``_pulsar.Consumer``. ``start``: of a reader, whose subscription is not durable, the key behind which it begins."""

    def __init__(
        self,
        client: ApiClient,
        topic: str,
        subscription: str,
        configuration: Any,
        created: Callable[[str, str], None],
        *,
        start: Key | None = None,
    ) -> None:
        self._number = client.new_consumer()
        self._subscription = subscription
        self._start = start
        self._durable = start is None
        self._queue_size = configuration.receiver_queue_size()
        self._inclusive = configuration.start_message_id_inclusive()
        if start is None:
            self._type = _TYPES[configuration.consumer_type().name]
            self._name: str = configuration.consumer_name() or client.random_name(5)
            self._earliest = configuration.subscription_initial_position().name == "Earliest"
            nack_delay = configuration.negative_ack_redelivery_delay_ms() / 1000
        else:
            self._type, self._name, self._earliest, nack_delay = (
                SubscriptionType.EXCLUSIVE,
                client.random_name(5),
                False,
                60.0,
            )
        self._incoming: deque[Message] = deque()
        self._receives: deque[Received] = deque()
        self._permits = 0
        self._last_taken: Key | None = None
        self._seeking: Callable[[str], None] | None = None
        self._sought: Key | None = None
        self._seek_done = False
        self._acks = AckGrouping(client.loop, self._send_acks)
        self._nacks = NackTimer(client.loop, nack_delay, self._redeliver)
        super().__init__(client, topic, created)

    # --- what the library calls -------------------------------------------------------------------------------------

    def topic(self) -> str:
        return self.topic_name

    def subscription_name(self) -> str:
        return self._subscription

    def consumer_name(self) -> str:
        return self._name

    def receive_async(self, callback: Received) -> None:
        """``callback`` gets the next message, whether or not its caller still waits for it."""
        if self.state != READY:
            callback(result_value(ALREADY_CLOSED), _NO_MESSAGE)
        elif self._incoming:
            message = self._incoming.popleft()
            self._processed(message)
            callback(result_value(OK), message)
        else:
            self._receives.append(callback)
            if not self._queue_size:
                self._flow(self.connection, 1)

    def acknowledge_async(self, message: Any, callback: Done) -> None:
        """Ack; done at once, and sent within 100 ms."""
        key = key_of(message)
        batch = getattr(message, "batch", None)
        if batch is None:
            self._acks.add(key)
        elif batch.ack(key[2]):
            self._acks.add((*key[:2], -1))
        _answer(callback, OK)

    def acknowledge_cumulative_async(self, message: Any, callback: Done) -> None:
        """Ack all up to a message; not where several consumers share them."""
        if self._type in _ONE_BY_ONE:
            _answer(callback, CUMULATIVE_NOT_ALLOWED)
            return
        self.acknowledge_up_to(message)
        _answer(callback, OK)

    def acknowledge_up_to(self, message: Any) -> None:
        ledger, entry, index = key_of(message)
        batch = getattr(message, "batch", None)
        if batch is not None:
            batch.left = {one for one in batch.left if one > index}
            if batch.left:
                if entry:
                    self._acks.add_cumulative((ledger, entry - 1, -1))
                return
        self._acks.add_cumulative((ledger, entry, -1))

    def negative_acknowledge(self, message: Any) -> None:
        """Nack; the library calls this on a thread."""
        self.loop.call_soon_threadsafe(self._nacks.add, key_of(message)[:2])

    def redeliver_unacknowledged_messages(self) -> None:
        self._say_redeliver({})

    def get_last_message_id_async(self, callback: Callable[[Any, Any], None]) -> None:
        connection = self.connection
        if self.state in (CLOSING, CLOSED):
            callback(result_value(ALREADY_CLOSED), message_id((-1, -1, -1)))
            return
        if connection is None:
            callback(result_value(NOT_CONNECTED), message_id((-1, -1, -1)))
            return

        def answered(result: str, answer: Mapping[str, Any]) -> None:
            if result == OK:
                last = answer["last_message_id"]
                entry = last["entryId"]
                entry = entry - (1 << 64) if entry >> 63 else entry
                callback(result_value(OK), message_id((last["ledgerId"], entry, last.get("batch_index", -1))))
            else:
                callback(result_value(result), message_id((-1, -1, -1)))

        connection.request(self.client.new_request(), "get_last_message_id", self._own(), answered)

    def seek_async(self, target: Any, callback: Done) -> None:
        """Go to a message, or to a time in milliseconds; done once the consumer is connected again."""
        done: Callable[[str], None] = lambda result: _answer(callback, result)  # noqa: E731
        connection = self.connection
        if self.state in (CLOSING, CLOSED):
            done(ALREADY_CLOSED)
        elif connection is None:
            done(NOT_CONNECTED)
        elif self._seeking is not None:
            done(NOT_ALLOWED)
        else:
            fields = self._own()
            self._sought = None
            if isinstance(target, int):
                fields["message_publish_time"] = target
            else:
                self._sought = key_of(target)
                fields["message_id"] = id_of(self._sought[:2])
            self._seeking = done
            connection.request(self.client.new_request(), "seek", fields, self._sought_it)

    def unsubscribe_async(self, callback: Done) -> None:
        """Have the broker forget the subscription."""
        connection = self.connection
        if self.state != READY:
            _answer(callback, ALREADY_CLOSED)
            return
        if connection is None:
            _answer(callback, NOT_CONNECTED)
            return

        def answered(result: str, _: Mapping[str, Any]) -> None:
            if result == OK:
                self.end()
            else:
                self.state = READY
            _answer(callback, result)

        connection.request(self.client.new_request(), "unsubscribe", self._own(), answered)

    def close_async(self, callback: Done) -> None:
        self.close(lambda result: _answer(callback, result))

    def close(self, done: Callable[[str], None]) -> None:
        """Send the acks that wait, say goodbye, and wait for the answer."""
        if self.state in (CLOSING, CLOSED):
            done(OK)
            return
        self.state = CLOSING
        self._acks.close()
        self._nacks.close()

        def closed(result: str) -> None:
            self.end()
            done(result)

        self.close_with("close_consumer", self._own(), closed)

    def end(self) -> None:
        connection = self.connection
        self._acks.close()
        self._nacks.close()
        self._incoming.clear()
        if connection is not None:
            connection.consumers.pop(self._number, None)
        super().end()
        self.client.forget(self)
        receives, self._receives = self._receives, deque()
        for callback in receives:
            callback(result_value(ALREADY_CLOSED), _NO_MESSAGE)

    # --- what comes -------------------------------------------------------------------------------------------------

    def take(self, name: str, fields: Mapping[str, Any], content: Content | None) -> None:
        if name == "close_consumer":
            connection = self.connection
            if connection is not None:
                connection.consumers.pop(self._number, None)
            self.drop_connection()
        elif name == "message" and content is not None:
            self._arrived(fields, content)

    def _arrived(self, fields: Mapping[str, Any], content: Content) -> None:
        at, connection = fields["message_id"], self.connection
        position = (at["ledgerId"], at["entryId"])
        if not content.intact:
            # Acked without a word to anybody: it is lost.
            ack = {**self._own(), "ack_type": INDIVIDUAL, "message_id": [at], "validation_error": CHECKSUM_MISMATCH}
            if connection is not None:
                connection.command("ack", ack)
            self._more(connection, 1)
            return
        if self.state in (CLOSING, CLOSED):
            return
        count = count_of(content)
        if self._acks.is_duplicate((*position, -1)):
            self._more(connection, count)
            return
        redeliveries = fields.get("redelivery_count", 0)
        common: dict[str, Any] = {"topic": self.topic_name, "redeliveries": redeliveries, "line": connection}
        if not is_batch(content):
            ((_, data),) = singles(content)
            if not self._is_before_start((*position, -1)):
                self._show(Message(content.metadata, data, key=(*position, -1), **common))
            return
        batch, skipped = Batch(count), 0
        producer = {name: content.metadata[name] for name in ("producer_name", "publish_time")}
        for index, (metadata, data) in enumerate(singles(content)):
            if self._is_before_start((*position, index)):
                skipped += 1
            else:
                self._show(Message({**metadata, **producer}, data, key=(*position, index), batch=batch, **common))
        if skipped:
            self._more(connection, skipped)

    def _is_before_start(self, key: Key) -> bool:
        start = self._start
        if start is None or key[0] != start[0]:
            return False
        if key[2] < 0:
            return key[1] < start[1] if self._inclusive else key[1] <= start[1]
        if key[1] != start[1]:
            return False
        return key[2] < start[2] if self._inclusive else key[2] <= start[2]

    def _show(self, message: Message) -> None:
        if self._receives:
            callback = self._receives.popleft()
            if self._queue_size:
                self._processed(message)
            callback(result_value(OK), message)
        elif self._queue_size:
            self._incoming.append(message)

    def _processed(self, message: Message) -> None:
        self._last_taken = message.key
        if message.line is self.connection:  # a permit is worth something on the connection only that it was for
            self._more(self.connection, 1)

    def _more(self, connection: ClientConnection | None, count: int) -> None:
        self._permits += count
        if self._permits >= self._queue_size // 2:
            permits, self._permits = self._permits, 0
            self._flow(connection, permits)

    def _flow(self, connection: ClientConnection | None, permits: int) -> None:
        if connection is not None and permits > 0:
            connection.command("flow", {**self._own(), "messagePermits": permits})

    # --- settling ---------------------------------------------------------------------------------------------------

    def _own(self) -> dict[str, Any]:
        return {"consumer_id": self._number}

    def _send_acks(self, positions: list[Position], cumulative: bool) -> bool:
        connection = self.connection
        if connection is None:
            return False
        kind = CUMULATIVE if cumulative else INDIVIDUAL
        ids = [id_of(position) for position in positions]
        connection.command("ack", {**self._own(), "ack_type": kind, "message_id": ids})
        return True

    def _redeliver(self, positions: list[Position]) -> None:
        ids = [id_of(position) for position in positions]
        self._say_redeliver({"message_ids": ids} if self._type in _ONE_BY_ONE else {})

    def _say_redeliver(self, fields: dict[str, Any]) -> None:
        if self.connection is not None:  # else: they come again with the next one anyway
            self.connection.command("redeliver_unacknowledged_messages", {**self._own(), **fields})

    # --- connecting -------------------------------------------------------------------------------------------------

    def open_on(self, connection: ClientConnection, done: Callable[[str, str], None]) -> None:
        connection.consumers[self._number] = self
        self._forget_received()
        fields: dict[str, Any] = {
            "topic": self.topic_name,
            "subscription": self._subscription,
            "subType": self._type,
            "consumer_id": self._number,
            "consumer_name": self._name,
            "durable": self._durable,
            "initialPosition": int(self._earliest),
        }
        if not self._durable and self._start is not None:
            fields["start_message_id"] = {**id_of(self._start[:2]), "batch_index": self._start[2]}

        def answered(result: str, answer: Mapping[str, Any]) -> None:
            if result == TIMEOUT:
                closing = self._own()
                connection.request(self.client.new_request(), "close_consumer", closing, ignored)
            if result != OK:
                connection.consumers.pop(self._number, None)
                done(result, answer.get("message", ""))
                return
            if self.state not in (READY, PENDING):
                connection.request(self.client.new_request(), "close_consumer", self._own(), ignored)
                done(OK, "")
                return
            self.connection = connection  # not before: a receive that began meanwhile would ask twice for its message
            self._incoming.clear()
            self._permits = 0
            self._flow(connection, self._queue_size or len(self._receives))
            done(OK, "")
            self.opened()
            if self._seek_done:
                self._finish_seek(OK)

        connection.request(self.client.new_request(), "subscribe", fields, answered)

    def _forget_received(self) -> None:
        """``clearReceiveQueue``: where a reader goes on, and what a seek changes."""
        if self._seeking is not None:
            self._acks.forget()
            self._start = self._sought
        elif not self._durable:
            if self._incoming:
                ledger, entry, index = self._incoming[0].key
                self._start = (ledger, entry, index - 1) if index >= 0 else (ledger, entry - 1, -1)
            elif self._last_taken is not None:
                self._start = self._last_taken
        self._incoming.clear()
        self._last_taken = None

    def _sought_it(self, result: str, _: Mapping[str, Any]) -> None:
        if result != OK:
            self._finish_seek(result)
        elif self.connection is None or self._reconnecting:
            self._seek_done = True
        else:
            self._acks.forget()
            self._incoming.clear()
            if self._sought is not None:
                self._start = self._sought
            self._finish_seek(OK)

    def _finish_seek(self, result: str) -> None:
        seeking, self._seeking = self._seeking, None
        self._seek_done = False
        if seeking is not None:
            seeking(result)


def _answer(callback: Done, result: str) -> None:
    if callback is not None:
        callback(result_value(result))
