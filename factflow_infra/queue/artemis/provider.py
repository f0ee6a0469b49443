"""The Artemis queue provider: the engine over ``ArtemisTransport``, made from settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from factflow_infra.errors import SettingsError
from factflow_infra.queue.artemis.session import ArtemisOptions
from factflow_infra.queue.artemis.transport import ArtemisTransport
from factflow_infra.queue.engine import QueueProvider
from factflow_infra.queue.naming import StompNamingStrategy
from factflow_infra.queue.tls import tls_context

if TYPE_CHECKING:
    from factflow_infra.queue.settings import QueueSettings


class ArtemisQueueProvider(QueueProvider):
    """``QueueProtocol`` on Apache Artemis, over STOMP 1.2; see ``docs/artemis.md``.

    ``settings.uri`` is ``stomp://`` or ``stomp+ssl://``, one or several, tried in order. It connects on first use, or in
    ``async with``. Raises ``SettingsError``.
    """

    def __init__(self, settings: QueueSettings) -> None:
        super().__init__(
            ArtemisTransport(options_of(settings)), StompNamingStrategy(), options=settings.engine_options()
        )


def options_of(settings: QueueSettings) -> ArtemisOptions:
    """What the transport needs of ``settings``. Raises ``SettingsError``."""
    endpoints = settings.endpoints
    if settings.scheme not in ("stomp", "stomp+ssl"):
        raise SettingsError(f"Artemis needs a stomp:// or stomp+ssl:// URI, got one with {settings.scheme!r}")
    if path := next((endpoint.path for endpoint in endpoints if endpoint.path), None):
        raise SettingsError(f"a stomp:// URI has no path, got {path!r}: Artemis has no virtual hosts")
    password = settings.password.get_secret_value() if settings.password is not None else None
    for what, value in (("username", settings.username), ("password", password)):
        if value is not None and any(character in value for character in "\n\r\0"):
            raise SettingsError(f"{what} holds a line break or NUL, which a CONNECT frame cannot carry")
    return ArtemisOptions(
        hosts=tuple((endpoint.host, endpoint.port) for endpoint in endpoints),
        user=settings.username,
        password=password,
        ssl_context=(lambda: tls_context(settings)) if endpoints[0].tls else None,
        heartbeat=settings.heartbeat,
        connect_timeout=settings.connect_timeout / len(endpoints),
        request_timeout=settings.connect_timeout,
    )
