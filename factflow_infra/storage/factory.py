"""From a URI to a provider.

``file://<path>``, ``minio://<bucket>[/prefix]``, ``s3://<bucket>[/prefix]``; and what ``register`` adds. The providers and
their libraries are imported when one is built.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from factflow_infra.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from factflow_infra.protocols import StorageProtocol
    from factflow_infra.storage.settings import StorageSettings

    Builder = Callable[[StorageSettings], StorageProtocol]
    """Makes a provider of settings whose ``uri`` has its scheme. Raises ``SettingsError``."""

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_FILE_PARAMETERS = ("create_root", "max_concurrency")
_S3_PARAMETERS = (
    "addressing_style",
    "connect_timeout",
    "endpoint",
    "max_attempts",
    "max_concurrency",
    "multipart_threshold",
    "part_size",
    "read_timeout",
    "region",
    "secure",
)


class StorageProviderFactory:
    """Makes providers; whoever asks for one owns it and closes it. Each factory has its own schemes."""

    def __init__(self) -> None:
        self._builders: dict[str, Builder] = {"file": _build_file, "minio": _build_minio, "s3": _build_s3}

    @property
    def schemes(self) -> tuple[str, ...]:
        return tuple(sorted(self._builders))

    def register(self, scheme: str, builder: Builder) -> None:
        """Have ``builder`` make the providers of ``scheme``; one that is there already is replaced."""
        if not _SCHEME.fullmatch(scheme):
            raise SettingsError(
                f"scheme {scheme!r}: use lower-case letters, digits, '+', '-' and '.', a letter first, and no '://'"
            )
        self._builders[scheme] = builder

    def create(self, settings: StorageSettings | str | None = None, **overrides: Any) -> StorageProtocol:
        """A provider for ``settings``, a URI, or (``None``) the environment; ``overrides`` are fields of the settings.

        Nothing is opened or sent yet. Raises ``SettingsError``.
        """
        complete = _complete(settings, overrides)
        scheme, separator, _ = complete.uri.partition("://")
        known = ", ".join(f"{name}://" for name in self.schemes)
        if not separator:
            raise SettingsError(f"the storage URI has no scheme: begin it with one of {known}")
        builder = self._builders.get(scheme.lower())
        if builder is None:
            shown = repr(scheme) if _SCHEME.fullmatch(scheme.lower()) else "in the URI"
            raise SettingsError(f"the storage scheme {shown} is not known: the schemes are {known}")
        return builder(complete)


def create_storage_provider(settings: StorageSettings | str | None = None, **overrides: Any) -> StorageProtocol:
    """A storage provider for ``settings``, a URI, or (``None``) ``FACTFLOW_STORAGE_*`` in the environment.

    ``overrides`` are fields of ``StorageSettings``. Nothing is opened or sent yet; ``await provider.close()`` in the end.
    Raises ``SettingsError``.
    """
    return StorageProviderFactory().create(settings, **overrides)


def _complete(settings: object, overrides: dict[str, Any]) -> StorageSettings:
    from factflow_infra.storage.settings import StorageSettings

    if settings is None:
        return StorageSettings(**overrides)
    if isinstance(settings, str):
        return StorageSettings(**{"uri": settings, **overrides})
    if isinstance(settings, StorageSettings):
        return StorageSettings(**{**settings.model_dump(exclude_unset=True), **overrides}) if overrides else settings
    raise SettingsError(f"settings must be StorageSettings, a URI or None, not {type(settings).__name__}")


def _split(uri: str, form: str) -> SplitResult:
    """The parts of a URI; its errors show none of them, because a wrong one may hold credentials anywhere."""
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise SettingsError(f"the storage URI cannot be read: use {form}") from error
    if parts.fragment or uri.endswith("#"):
        raise SettingsError(f"the storage URI has a '#': write it as %23, or use {form}")
    return parts


def _parameters(query: str, known: tuple[str, ...], form: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError as error:
        raise SettingsError(f"the query of the storage URI cannot be read: use {form}?name=value&...") from error
    parameters: dict[str, str] = {}
    for name, value in pairs:
        if name in {"access_key", "secret_key", "session_token"}:
            raise SettingsError(f"{name} in a URI would be seen in logs: set FACTFLOW_STORAGE_{name.upper()} instead")
        if name not in known:
            listed = f"the parameters are {', '.join(known)}" if known else "it takes none"
            raise SettingsError(f"the storage URI has an unknown parameter {name!r}: {listed}")
        if name in parameters:
            raise SettingsError(f"the storage URI has the parameter {name!r} twice")
        parameters[name] = value
    return parameters


def _merged(settings: StorageSettings, parameters: dict[str, str]) -> StorageSettings:
    """``settings`` with what their URI says, which must be the same where both say it."""
    merged = _complete(settings, dict(parameters))
    for name in parameters:
        if name in settings.model_fields_set and getattr(settings, name) != getattr(merged, name):
            raise SettingsError(f"{name} is given twice, in the storage URI and beside it, with different values")
    return merged


def _build_file(settings: StorageSettings) -> StorageProtocol:
    from factflow_infra.storage.filesystem import FilesystemStorageProvider

    form = "file://<absolute path>"
    parts = _split(settings.uri, form)
    merged = _merged(settings, _parameters(parts.query, _FILE_PARAMETERS, form))
    if parts.netloc not in ("", "localhost"):
        raise SettingsError(
            f"a file URI names no host: use {form} with three slashes, as in file:///var/data, for an absolute path"
        )
    path = unquote(parts.path)
    if not path.startswith("/") or "\0" in path:
        raise SettingsError(f"the path of the storage URI cannot be used: use {form}, as in file:///var/data")
    return FilesystemStorageProvider(Path(path), create_root=merged.create_root, max_concurrency=merged.max_concurrency)


def _build_minio(settings: StorageSettings) -> StorageProtocol:
    return _build_bucket(settings, "minio")


def _build_s3(settings: StorageSettings) -> StorageProtocol:
    return _build_bucket(settings, "s3")


def _build_bucket(settings: StorageSettings, scheme: str) -> StorageProtocol:
    form = f"{scheme}://<bucket>[/prefix]"
    parts = _split(settings.uri, form)
    if "@" in parts.netloc or ":" in parts.netloc:
        raise SettingsError(
            f"the storage URI has more than a bucket before the path: use {form}; the server goes into endpoint, "
            "credentials into FACTFLOW_STORAGE_ACCESS_KEY and FACTFLOW_STORAGE_SECRET_KEY"
        )
    merged = _merged(settings, _parameters(parts.query, _S3_PARAMETERS, form))
    if scheme == "minio":
        _require(merged, "endpoint", "pass endpoint=..., set FACTFLOW_STORAGE_ENDPOINT, or add ?endpoint=host:port")
        for name in ("access_key", "secret_key"):
            _require(merged, name, f"pass {name}=... or set FACTFLOW_STORAGE_{name.upper()}")
    from factflow_infra.storage.minio import MinioStorageProvider, S3Options

    options = S3Options(
        endpoint_url=_endpoint_url(merged),
        region=merged.region,
        access_key=_revealed(merged.access_key),
        secret_key=_revealed(merged.secret_key),
        session_token=_revealed(merged.session_token),
        addressing_style=merged.addressing_style,
        max_concurrency=merged.max_concurrency,
        connect_timeout=merged.connect_timeout,
        read_timeout=merged.read_timeout,
        max_attempts=merged.max_attempts,
        part_size=merged.part_size,
        multipart_threshold=merged.multipart_threshold,
    )
    return MinioStorageProvider(parts.netloc, unquote(parts.path).lstrip("/"), options=options)


def _require(settings: StorageSettings, name: str, remedy: str) -> None:
    if getattr(settings, name) is None:
        raise SettingsError(f"minio:// needs {name}: {remedy}")


def _endpoint_url(settings: StorageSettings) -> str | None:
    if settings.endpoint is None or "://" in settings.endpoint:
        return settings.endpoint
    return f"{'https' if settings.secure else 'http'}://{settings.endpoint}"


def _revealed(secret: Any) -> str | None:
    return None if secret is None else secret.get_secret_value()
