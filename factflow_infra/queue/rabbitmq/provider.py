"""The RabbitMQ queue provider: the engine over ``RabbitMqTransport``, made from settings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from factflow_infra.errors import SettingsError
from factflow_infra.queue.engine import QueueProvider
from factflow_infra.queue.naming import AmqpNamingStrategy
from factflow_infra.queue.rabbitmq.session import RabbitMqOptions
from factflow_infra.queue.rabbitmq.transport import RabbitMqTransport
from factflow_infra.queue.tls import tls_context

if TYPE_CHECKING:
    from factflow_infra.queue.settings import QueueSettings


_MOST_HEARTBEAT: Final = 65_534
"""AMQP has 16 bits for it, and for what is longer the client turns it off without a word."""


class RabbitMqQueueProvider(QueueProvider):
    """``QueueProtocol`` on RabbitMQ, 3.10 or later recommended; see ``docs/rabbitmq.md``.

    ``settings.uri`` is ``amqp://`` or ``amqps://``, one or several, tried in order. It connects on first use, or in
    ``async with``. Raises ``SettingsError``.
    """

    def __init__(self, settings: QueueSettings) -> None:
        super().__init__(
            RabbitMqTransport(options_of(settings)), AmqpNamingStrategy(), options=settings.engine_options()
        )


def options_of(settings: QueueSettings) -> RabbitMqOptions:
    """What the transport needs of ``settings``. Raises ``SettingsError``."""
    endpoints = settings.endpoints
    if settings.scheme not in ("amqp", "amqps"):
        raise SettingsError(f"RabbitMQ needs an amqp:// or amqps:// URI, got one with {settings.scheme!r}")
    vhosts = {endpoint.path or "/" for endpoint in endpoints}
    if len(vhosts) > 1:
        raise SettingsError(f"the URIs name different virtual hosts: {', '.join(sorted(vhosts))}")
    heartbeat = math.ceil(settings.heartbeat)
    if heartbeat > _MOST_HEARTBEAT:
        raise SettingsError(f"heartbeat must be at most {_MOST_HEARTBEAT} seconds on AMQP, got {settings.heartbeat!r}")
    tls = endpoints[0].tls
    password = settings.password
    return RabbitMqOptions(
        hosts=tuple((endpoint.host, endpoint.port) for endpoint in endpoints),
        user="guest" if settings.username is None else settings.username,
        password="guest" if password is None else password.get_secret_value(),
        vhost=vhosts.pop(),
        tls=tls,
        ssl_context=(lambda: tls_context(settings)) if tls else None,
        heartbeat=heartbeat,
        connect_timeout=settings.connect_timeout / len(endpoints),
        request_timeout=settings.connect_timeout,
        queue_type=settings.queue_type,
    )
