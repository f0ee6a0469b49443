"""What is published on a channel, frame by frame, and the confirms that are owed for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pamqp.commands import Basic

from factflow_infra_testing.broker.entries import Message
from factflow_infra_testing.broker.outcomes import Outcome
from factflow_infra_testing.wire.amqp.arguments import VHOST, type_name
from factflow_infra_testing.wire.amqp.content import Content
from factflow_infra_testing.wire.amqp.errors import (
    ACCESS_REFUSED,
    NO_ROUTE,
    NOT_FOUND,
    NOT_IMPLEMENTED,
    PRECONDITION_FAILED,
    UNEXPECTED_FRAME,
    ChannelError,
    ConnectionFailedError,
    not_simulated,
)
from factflow_infra_testing.wire.amqp.frames import answer, read_header, write_confirm, write_content, write_method
from factflow_infra_testing.wire.amqp.operations import publish_label
from factflow_infra_testing.wire.amqp.replies import REPLY_TO, addressed, is_reply_queue
from factflow_infra_testing.wire.expirations import read_expiration

if TYPE_CHECKING:
    from factflow_infra_testing.wire.amqp.channel import Channel

MAX_MESSAGE_BYTES: Final = 134_217_728


class Publishing:
    """The publishing side of ``channel``. ``confirms``: the client has asked for them; publishes are numbered from then on (RMQ-59)."""

    def __init__(self, channel: Channel) -> None:
        self.confirms = False
        self._channel = channel
        self._connection = channel.connection
        self._broker = channel.broker
        self._published = 0
        self._unconfirmed: dict[int, None] = {}
        self._acks: list[int] = []
        self._method: Basic.Publish | None = None
        self._size = 0
        self._raw = b""
        self._properties: Basic.Properties | None = None
        self._body: list[bytes] = []
        self._arrived = 0

    @property
    def under_way(self) -> bool:
        """Whether a message is half here."""
        return self._method is not None

    def unexpected(self) -> ConnectionFailedError:
        """The error for a frame that is not of the kind that is due (RMQ-60)."""
        if self._method is None:
            due = "method frame, got non method frame"
        elif self._properties is None:
            due = "content header for class 60, got non content header frame"
        else:
            due = "content body, got non content body frame"
        return ConnectionFailedError(UNEXPECTED_FRAME, f"expected {due} instead")

    def begin(self, method: Basic.Publish) -> None:
        """A ``basic.publish`` arrives; its content follows."""
        if method.immediate:
            raise ConnectionFailedError(NOT_IMPLEMENTED, "immediate=true")
        self._method = method

    def take_header(self, payload: bytes) -> None:
        """A content header arrives."""
        if self._method is None or self._properties is not None:
            raise self.unexpected()
        self._size, self._raw, self._properties = read_header(payload)
        if self._size > MAX_MESSAGE_BYTES:
            size, self._method, self._properties = self._size, None, None
            raise ChannelError(
                PRECONDITION_FAILED,
                f"message size {size} is larger than configured max size {MAX_MESSAGE_BYTES}",
            )
        if not self._size:
            self._finish()

    def take_body(self, payload: bytes) -> None:
        """A part of a body arrives. Empty ones count for nothing; of a body that is too long the end is waited for in vain (RMQ-60)."""
        if self._properties is None:
            raise self.unexpected()
        self._arrived += len(payload)
        if payload and self._arrived <= self._size:  # kept: only what the message can be made of
            self._body.append(payload)
        if self._arrived == self._size:
            self._finish()

    def _finish(self) -> None:
        method, properties, raw = self._method, self._properties, self._raw
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._method = self._properties = None
        self._body, self._arrived = [], 0
        assert method is not None
        assert properties is not None
        exchange, key = str(method.exchange), str(method.routing_key)
        if exchange and exchange not in self._broker.exchanges:
            raise ChannelError(NOT_FOUND, f"no exchange '{exchange}' in vhost '{VHOST}'")
        if exchange and self._broker.exchanges[exchange].internal:
            raise ChannelError(ACCESS_REFUSED, f"cannot publish to internal exchange '{exchange}' in vhost '{VHOST}'")
        content = addressed(self._channel, Content(raw, properties, body))
        message = self._message(content)
        answers = not exchange and is_reply_queue(key)
        tag = 0
        if self.confirms:
            self._published = tag = self._published + 1
            self._unconfirmed[tag] = None
        label = REPLY_TO if answers else publish_label(self._channel, exchange, key)
        mandatory = bool(method.mandatory)
        self._connection.server.meet_publish(
            self._connection,
            label,
            message.key,
            lambda: (
                self._channel.front_end.replies.answer(key, content)
                if answers
                else self._broker.publish(exchange, key, message)
            ),
            lambda outcome: self._answer(tag, message, outcome, mandatory=mandatory),
        )

    def _message(self, content: Content) -> Message:
        properties, connection = content.properties, self._connection
        headers = properties.headers
        if headers:
            for name in ("CC", "BCC"):
                value = headers.get(name)
                if value is not None and not isinstance(value, list):
                    why = f'{{unacceptable_type_in_header,"{name}",{type_name(value)}}}'
                    raise ChannelError(PRECONDITION_FAILED, f"invalid message: {why}")
                if value:
                    raise not_simulated(f"sender-selected distribution (the header {name})")
        if properties.user_id and properties.user_id != connection.user:
            raise ChannelError(
                PRECONDITION_FAILED,
                f"user_id property set to '{properties.user_id}' but authenticated user was '{connection.user}'",
            )
        ttl = None
        if properties.expiration:
            try:
                ttl = read_expiration(properties.expiration)
            except ValueError as error:
                text = f"invalid expiration '{properties.expiration}': {error}"
                raise ChannelError(PRECONDITION_FAILED, text) from None
        return Message(
            content.key,
            content,
            persistent=properties.delivery_mode == 2,
            size=len(content.body),
            ttl=ttl,
            headers=content.headers,
            client=connection.client,
            source=content.source if headers else "",
            laboratory=not connection.exposed,
        )

    def _answer(self, tag: int, message: Message, outcome: Outcome, *, mandatory: bool) -> None:
        connection = self._connection
        if connection.cut or not connection.server_open or not self._channel.session.open:
            return
        if outcome is Outcome.UNROUTED and mandatory:
            returned = answer(
                Basic.Return,
                reply_code=NO_ROUTE,
                reply_text="NO_ROUTE",
                exchange=message.exchange,
                routing_key=message.routing_key,
            )
            content: Content = message.payload
            connection.send(write_method(self._channel.number, returned))
            connection.send(write_content(self._channel.number, content.raw, content.body, connection.frame_max))
        elif outcome is Outcome.UNROUTED and not message.exchange:
            connection.server.notice(
                f"a message to queue {message.routing_key!r} met none, and was dropped: without `mandatory` RabbitMQ confirms it all the same",
                connection.client,
            )
        if not tag:
            return
        if outcome is Outcome.REFUSED:
            self.flush_acks()
            self._unconfirmed.pop(tag, None)
            connection.send(write_confirm(self._channel.number, tag, multiple=False, nack=True))
        else:
            self._acks.append(tag)
            connection.owe_acks(self._channel)

    @property
    def unconfirmed(self) -> int:
        """Publishes that wait for their answer."""
        return len(self._unconfirmed)

    def flush_acks(self) -> None:
        """Send the acks that are owed, as few frames as their tags allow."""
        acks, self._acks = self._acks, []
        unconfirmed = self._unconfirmed
        for tag in acks:
            unconfirmed.pop(tag, None)
        if not acks:
            return
        oldest = next(iter(unconfirmed), self._published + 1)
        done = max((tag for tag in acks if tag < oldest), default=0)
        frames = [
            write_confirm(self._channel.number, tag, multiple=False, nack=False) for tag in sorted(acks) if tag > oldest
        ]
        if done:
            frames.insert(0, write_confirm(self._channel.number, done, multiple=len(acks) > 1, nack=False))
        self._connection.put(b"".join(frames))

    def end(self) -> None:
        """The channel is closed: the acks that are owed go first. Idempotent."""
        self.flush_acks()
        self._unconfirmed.clear()
        self._method = self._properties = None
        self._body.clear()
