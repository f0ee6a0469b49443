"""The RabbitMQ queue provider: the engine over ``RabbitMqTransport``, made from settings."""

from __future__ import annotations

import math
import ssl
from typing import TYPE_CHECKING

from factflow_infra.errors import SettingsError
from factflow_infra.queue.engine import QueueProvider
from factflow_infra.queue.naming import AmqpNamingStrategy
from factflow_infra.queue.rabbitmq.session import RabbitMqOptions
from factflow_infra.queue.rabbitmq.transport import RabbitMqTransport

if TYPE_CHECKING:
    from factflow_infra.queue.settings import QueueSettings


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
    tls = endpoints[0].tls
    password = settings.password
    return RabbitMqOptions(
        hosts=tuple((endpoint.host, endpoint.port) for endpoint in endpoints),
        user="guest" if settings.username is None else settings.username,
        password="guest" if password is None else password.get_secret_value(),
        vhost=vhosts.pop(),
        tls=tls,
        ssl_context=(lambda: tls_context(settings)) if tls else None,
        heartbeat=math.ceil(settings.heartbeat),
        connect_timeout=settings.connect_timeout / len(endpoints),
        request_timeout=settings.connect_timeout,
        queue_type=settings.queue_type,
    )


def tls_context(settings: QueueSettings) -> ssl.SSLContext:
    """TLS as ``settings.tls_*`` say. Raises ``SettingsError`` where a file cannot be used."""
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca_file)
        if settings.tls_cert_file is not None:
            context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(
            repr(file) for file in (settings.tls_ca_file, settings.tls_cert_file, settings.tls_key_file) if file
        )
        raise SettingsError(f"the TLS files {files} cannot be used: {error}") from error
    if not settings.tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
