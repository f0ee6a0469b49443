"""``StorageSettings``: where objects go, from arguments and from ``FACTFLOW_STORAGE_*`` in the environment."""

from __future__ import annotations

from typing import Any, Literal, cast

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from factflow_infra.errors import SettingsError

_MIB = 1024 * 1024


class StorageSettings(BaseSettings):
    """Settings of a storage provider. Arguments come before the environment.

    ``uri``: ``file://<path>``, ``minio://<bucket>[/prefix]`` or ``s3://<bucket>[/prefix]``.
    ``max_concurrency``: threads, and for S3 connections. ``create_root``: make the folder of ``file://`` where it is
    missing. The rest is for S3:
    ``endpoint`` (``host:port``, or a whole URL), which ``minio://`` needs, and ``secure`` (TLS); ``access_key``,
    ``secret_key`` and ``session_token``, which ``s3://`` takes from AWS' default credential chain where they are not set;
    ``region``; ``addressing_style``; ``connect_timeout`` and
    ``read_timeout`` in seconds; ``max_attempts`` for one call; ``part_size`` and ``multipart_threshold`` in bytes.

    What cannot be used raises ``SettingsError``, which never shows a secret.
    """

    model_config = SettingsConfigDict(
        env_prefix="FACTFLOW_STORAGE_",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    # Not shown: a URI that wrongly holds credentials is refused by the factory, and must not be seen until then.
    uri: str = Field(repr=False)
    endpoint: str | None = Field(default=None, repr=False)
    secure: bool = True
    create_root: bool = False
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    session_token: SecretStr | None = None
    region: str | None = None
    addressing_style: Literal["auto", "path", "virtual"] = "auto"
    max_concurrency: int = Field(default=16, ge=1, le=1024)
    connect_timeout: float = Field(default=5.0, gt=0, le=86_400)
    read_timeout: float = Field(default=60.0, gt=0, le=86_400)
    max_attempts: int = Field(default=4, ge=1, le=100)
    part_size: int = Field(default=8 * _MIB, ge=5 * _MIB, le=5 * 1024 * _MIB)
    multipart_threshold: int = Field(default=16 * _MIB, ge=1, le=5 * 1024 * _MIB)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(_described(error)) from error


_MAY_HOLD_SECRETS = {"uri", "endpoint", "access_key", "secret_key", "session_token"}


def _described(error: ValidationError) -> str:
    known = sorted(StorageSettings.model_fields)
    lines: list[str] = []
    for problem in error.errors(include_url=False, include_context=False):
        name = str(problem["loc"][0]) if problem["loc"] else "settings"
        if problem["type"] == "extra_forbidden":
            lines.append(f"there is no setting {name!r}; the settings are {', '.join(known)}")
        elif problem["type"] == "missing":
            lines.append(f"{name} is not set: pass {name}=... or set FACTFLOW_STORAGE_{name.upper()}")
        else:
            value = "" if name in _MAY_HOLD_SECRETS else f"={cast('object', problem['input'])!r}"
            lines.append(f"{name}{value}: {problem['msg']}")
    return f"storage settings: {'; '.join(lines)}"
