"""The Pulsar queue provider: the engine over ``PulsarTransport``, made from settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from factflow_infra.errors import SettingsError
from factflow_infra.queue.engine import QueueProvider
from factflow_infra.queue.naming import PulsarNamingStrategy
from factflow_infra.queue.pulsar.client import PulsarOptions
from factflow_infra.queue.pulsar.transport import PulsarTransport
from factflow_infra.queue.tls import tls_context

if TYPE_CHECKING:
    from factflow_infra.queue.settings import QueueSettings


class PulsarQueueProvider(QueueProvider):
    """``QueueProtocol`` on Pulsar, 3.0 or later; see ``docs/pulsar.md``.

    ``settings.uri`` is ``pulsar://`` or ``pulsar+ssl://``, several being brokers of one cluster; its path is
    ``tenant/namespace``. The password is a token. It connects on first use, or in ``async with``. Raises ``SettingsError``.
    """

    def __init__(self, settings: QueueSettings) -> None:
        options = options_of(settings)
        super().__init__(
            PulsarTransport(options),
            PulsarNamingStrategy(tenant=options.tenant, namespace=options.namespace),
            options=settings.engine_options(),
        )


def options_of(settings: QueueSettings) -> PulsarOptions:
    """What the transport needs of ``settings``. Raises ``SettingsError``."""
    endpoints = settings.endpoints
    if settings.scheme not in ("pulsar", "pulsar+ssl"):
        raise SettingsError(f"Pulsar needs a pulsar:// or pulsar+ssl:// URI, got one with {settings.scheme!r}")
    paths = {endpoint.path for endpoint in endpoints if endpoint.path} or {"public/default"}
    path = min(paths)
    tenant, slash, namespace = path.partition("/")
    if len(paths) > 1 or not (tenant and slash and namespace) or "/" in namespace:
        raise SettingsError(f"the path of a pulsar:// URI must be tenant/namespace, one for all, got {sorted(paths)!r}")
    if settings.username is not None:
        raise SettingsError("Pulsar has no user names: give a token as password, as in pulsar://:<token>@host")
    if settings.scheme == "pulsar+ssl":
        tls_context(settings)  # the client would say nothing of files that it cannot read
    hosts = ",".join(f"{_literal(endpoint.host)}:{endpoint.port}" for endpoint in endpoints)
    token = settings.password
    return PulsarOptions(
        service_url=f"{settings.scheme}://{hosts}",
        token=None if token is None else token.get_secret_value(),
        tls_ca_file=settings.tls_ca_file,
        tls_cert_file=settings.tls_cert_file,
        tls_key_file=settings.tls_key_file,
        tls_verify=settings.tls_verify,
        tenant=tenant,
        namespace=namespace,
        key_shared=settings.subscription_type == "key_shared",
        heartbeat=settings.heartbeat,
        # Less than the engine waits, so that it is the client that says what was the matter.
        request_timeout=settings.connect_timeout * 0.9,
        send_timeout=settings.publish_timeout,
    )


def _literal(host: str) -> str:
    return f"[{host}]" if ":" in host else host
