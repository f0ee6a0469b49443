"""TLS as the settings say, for every provider."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from factflow_infra.errors import SettingsError

if TYPE_CHECKING:
    from factflow_infra.queue.settings import QueueSettings


def tls_context(settings: QueueSettings) -> ssl.SSLContext:
    """TLS as ``settings.tls_*`` say. Raises ``SettingsError`` where a file cannot be used."""
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca_file)
        if settings.tls_cert_file is not None:
            context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file, password=_no_passphrase)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(
            repr(file) for file in (settings.tls_ca_file, settings.tls_cert_file, settings.tls_key_file) if file
        )
        raise SettingsError(f"the TLS files {files} cannot be used: {error}") from error
    if not settings.tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _no_passphrase() -> str:
    # Without an answer from here OpenSSL asks at the terminal, and a service waits for it for ever.
    raise SettingsError(
        "tls_key_file is encrypted, and there is no setting for its passphrase: give the key without one"
    )
