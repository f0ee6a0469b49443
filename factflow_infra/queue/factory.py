"""Queue providers from settings: the scheme of the URI says which."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from factflow_infra.errors import ProviderUnavailableError, SettingsError
from factflow_infra.queue.settings import QueueSettings

if TYPE_CHECKING:
    from factflow_infra.protocols import QueueProtocol

QueueProviderBuilder = Callable[[QueueSettings], "QueueProtocol"]
"""Makes a provider of settings; does no I/O."""


class QueueProviderFactory:
    """Makes queue providers by the scheme of their URI, and takes new schemes: for programs that own their wiring."""

    def __init__(self) -> None:
        self._builders: dict[str, QueueProviderBuilder] = {
            "amqp": _rabbitmq,
            "amqps": _rabbitmq,
            "pulsar": _pulsar,
            "pulsar+ssl": _pulsar,
            "stomp": _artemis,
            "stomp+ssl": _artemis,
        }

    @property
    def schemes(self) -> tuple[str, ...]:
        """The known schemes, sorted."""
        return tuple(sorted(self._builders))

    def register(self, scheme: str, builder: QueueProviderBuilder) -> None:
        """Take ``scheme`` from now on. Raises ``SettingsError`` where it is taken already."""
        if scheme in self._builders:
            raise SettingsError(f"the scheme {scheme!r} is registered already")
        self._builders[scheme] = builder

    def create(self, settings: QueueSettings | str | None = None, **overrides: Any) -> QueueProtocol:
        """A provider, not yet connected.

        ``settings``: ready ones, a URI, or ``None`` for those of the environment. ``overrides``: single settings by name.
        Raises ``SettingsError``; ``ProviderUnavailableError`` for a scheme whose client library is not installed.
        """
        if settings is None:
            ready = QueueSettings(**overrides)
        elif isinstance(settings, str):
            ready = QueueSettings(**{"uri": settings, **overrides})
        elif not isinstance(cast("object", settings), QueueSettings):
            raise SettingsError(f"settings must be QueueSettings, a URI or None, not {type(settings).__name__}")
        else:
            ready = settings.changed(**overrides) if overrides else settings
        builder = self._builders.get(ready.scheme)
        if builder is None:
            raise SettingsError(f"no queue provider for the scheme {ready.scheme!r}; known: {', '.join(self.schemes)}")
        return builder(ready)


def create_queue_provider(settings: QueueSettings | str | None = None, **overrides: Any) -> QueueProtocol:
    """A queue provider for a URI such as ``amqp://user:password@host/vhost``, or for ``FACTFLOW_QUEUE_URI``.

    See ``QueueProviderFactory.create``.
    """
    return QueueProviderFactory().create(settings, **overrides)


def _rabbitmq(settings: QueueSettings) -> QueueProtocol:
    from factflow_infra.queue.rabbitmq import RabbitMqQueueProvider

    return RabbitMqQueueProvider(settings)


def _artemis(settings: QueueSettings) -> QueueProtocol:
    from factflow_infra.queue.artemis import ArtemisQueueProvider

    return ArtemisQueueProvider(settings)


def _pulsar(settings: QueueSettings) -> QueueProtocol:
    # Its wheel is of compiled code, and there is not one for every platform.
    if find_spec("_pulsar") is None:
        raise ProviderUnavailableError(f"{settings.scheme!r} needs pulsar-client, which is not installed here")
    from factflow_infra.queue.pulsar import PulsarQueueProvider

    return PulsarQueueProvider(settings)
