"""Publishes with confirms: every message is persistent, and confirmed before the call returns."""

from __future__ import annotations

import asyncio
import re
from itertools import count
from typing import TYPE_CHECKING, Final

from aiormq.exceptions import (
    AMQPConnectionError,
    ChannelAccessRefused,
    ChannelInvalidStateError,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    DeliveryError,
    PublishError,
)

from factflow_infra.errors import (
    InvalidMessageError,
    PublishRefusedError,
    PublishUnconfirmedError,
    QueueAuthenticationError,
    QueueConnectionError,
    UnroutableError,
)
from factflow_infra.queue.causes import cause_text
from factflow_infra.queue.rabbitmq import wire
from factflow_infra.queue.rabbitmq.failures import cancellations, is_foreign
from factflow_infra.queue.shared import Shared

if TYPE_CHECKING:
    from aiormq import Channel

    from factflow_infra.queue.rabbitmq.session import Session
    from factflow_infra.queue.rabbitmq.topology import Route
    from factflow_infra.queue.transport import Envelope

_DRAIN_FROM_BYTES: Final = 64 * 1024
"""Bodies from this size on wait for the socket. Smaller ones are bounded by the confirms that their callers wait for."""
_USUAL_FRAME_BYTES: Final = 128 * 1024
_FRAME_OVERHEAD_BYTES: Final = 22
_MESSAGE_SIZE: Final = re.compile(r"message size (?P<size>\d+)")


class ExchangeGoneError(Exception):
    """The exchange does not exist, and the message surely was not taken."""


class NackedError(PublishRefusedError):
    """The broker answered with ``basic.nack``."""


class Publisher:
    """A confirming channel, opened when needed, and again after an error closed it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._channel: Channel | None = None
        self._opening: Shared[None, Channel] = Shared()
        self._in_flight: set[str] = set()
        self._serial = count(1)

    async def publish(self, route: Route, envelope: Envelope) -> None:
        """Return once the broker has confirmed.

        Raises ``UnroutableError`` where the queue is gone, ``ExchangeGoneError`` where the exchange is, and as
        ``Transport.publish``.
        """
        channel = self._channel
        if channel is None or channel.is_closed:
            channel = await self._reopened()
        message_id = envelope.message.message_id
        amqp_id = None
        if message_id in self._in_flight or not wire.fits_short_string(message_id):
            # The client matches returned messages by their id: two in flight with the same one would be mixed up.
            amqp_id = message_id = f"factflow-{next(self._serial)}"
        properties = wire.encode(envelope, amqp_id)
        body = envelope.message.body
        if self._session.frame_max < _USUAL_FRAME_BYTES:
            self._check_frame(envelope, len(properties.marshal()))
        before = cancellations()
        self._in_flight.add(message_id)
        try:
            await channel.basic_publish(
                body,
                exchange=route.exchange,
                routing_key=route.routing_key,
                properties=properties,
                mandatory=route.mandatory,
                wait=len(body) >= _DRAIN_FROM_BYTES,
            )
        except (Exception, asyncio.CancelledError) as error:
            if not is_foreign(error, before):
                raise
            raise self._translated(error, route, envelope) from error
        finally:
            self._in_flight.discard(message_id)

    async def _reopened(self) -> Channel:
        return await self._opening.result(None, self._open)

    async def _open(self) -> Channel:
        self._in_flight.clear()
        self._channel = await self._session.channel(confirms=True)
        return self._channel

    def _check_frame(self, envelope: Envelope, size: int) -> None:
        most = self._session.frame_max - _FRAME_OVERHEAD_BYTES
        if size > most:
            raise InvalidMessageError(
                f"message {envelope.message.message_id[:80]!r}: its headers and ids take {size:,} bytes; this broker's "
                f"frame_max leaves {most:,}"
            )

    def _translated(self, error: BaseException, route: Route, envelope: Envelope) -> Exception:
        message = envelope.message
        what = f"message {message.message_id[:80]!r} to {route.text}"
        text = cause_text(error)
        match error:
            case PublishError():
                return UnroutableError(f"{what}: no queue takes it")
            case DeliveryError():
                return NackedError(
                    f"{what}: the broker refused it (basic.nack); the queue is full or not available", retryable=True
                )
            case ChannelInvalidStateError():
                # Raised before anything is written.
                return QueueConnectionError(f"{what}: not connected to RabbitMQ at {self._session.endpoint}")
            case ChannelAccessRefused() if f"'{route.exchange or 'amq.default'}'" in text:
                return QueueAuthenticationError(f"{what}: no permission: {text}")
            case ChannelNotFoundEntity() if f"exchange '{route.exchange}'" in text and len(self._in_flight) <= 1:
                return ExchangeGoneError(text)
            case ChannelPreconditionFailed() if (size := _MESSAGE_SIZE.search(text)) and int(size["size"]) == len(
                message.body
            ):
                return InvalidMessageError(f"{what}: {text}")
            case _:
                lost = "the connection was lost" if isinstance(error, AMQPConnectionError) else "no answer came"
                return PublishUnconfirmedError(f"{what}: {lost} before the broker confirmed it: {text}")
