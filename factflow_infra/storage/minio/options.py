"""How to reach an S3 server, and how hard to push it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, cast

from factflow_infra.errors import SettingsError
from factflow_infra.storage.keys import shown

MIB = 1024 * 1024
MIN_PART_SIZE = 5 * MIB
MAX_PART_SIZE = 5 * 1024 * MIB
"""What S3 takes as one part, and as one ``PutObject`` or ``CopyObject``, in bytes."""
MAX_PARTS = 10_000

AddressingStyle = Literal["auto", "path", "virtual"]

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_ENDPOINT = re.compile(r"https?://[^/?#@\s]+/?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Options:
    """Options of ``MinioStorageProvider``. What cannot be used raises ``SettingsError``.

    ``endpoint_url``: ``None`` is AWS. ``access_key`` and ``secret_key``: both or neither; neither takes AWS' default
    credential chain. ``max_concurrency``: threads, and connections. Timeouts in seconds. ``max_attempts``: requests for one
    call, the first included. ``part_size`` and ``multipart_threshold`` in bytes: what is longer than the threshold goes up
    in parts, of which ``max_concurrency``, but at most four, are on their way at once, and is got in ranges of that size.
    """

    endpoint_url: str | None = None
    region: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    addressing_style: AddressingStyle = "auto"
    max_concurrency: int = 16
    connect_timeout: float = 5.0
    read_timeout: float = 60.0
    max_attempts: int = 4
    part_size: int = 8 * MIB
    multipart_threshold: int = 16 * MIB

    def __post_init__(self) -> None:
        if self.endpoint_url is not None and not (
            isinstance(cast("object", self.endpoint_url), str) and _ENDPOINT.fullmatch(self.endpoint_url)
        ):
            raise SettingsError(
                "the endpoint must be http://host[:port] or https://host[:port], without a path and without credentials"
            )
        if (self.access_key is None) != (self.secret_key is None):
            raise SettingsError("access_key and secret_key go together: give both, or neither")
        if self.session_token is not None and self.access_key is None:
            raise SettingsError("session_token goes with access_key and secret_key: give all three")
        if self.addressing_style not in ("auto", "path", "virtual"):
            raise SettingsError(f"addressing_style must be 'auto', 'path' or 'virtual', not {self.addressing_style!r}")
        _check_range("max_concurrency", self.max_concurrency, 1, 1024)
        _check_range("max_attempts", self.max_attempts, 1, 100)
        _check_range("connect_timeout", self.connect_timeout, 0.001, 86_400)
        _check_range("read_timeout", self.read_timeout, 0.001, 86_400)
        _check_range("part_size", self.part_size, MIN_PART_SIZE, MAX_PART_SIZE)
        _check_range("multipart_threshold", self.multipart_threshold, 1, MAX_PART_SIZE)


def validate_bucket(bucket: str) -> str:
    """``bucket`` itself, if S3 could hold a bucket of that name; else ``SettingsError``."""
    if not isinstance(cast("object", bucket), str) or not _BUCKET.fullmatch(bucket):
        raise SettingsError(
            f"bucket {shown(bucket)} is no bucket name: 3 to 63 letters, digits, '.', '-' and '_', "
            "a letter or digit first and last"
        )
    return bucket


def _check_range(name: str, value: float, least: float, most: float) -> None:
    number = isinstance(cast("object", value), int if isinstance(least, int) else (int, float))
    if not number or isinstance(value, bool) or not least <= value <= most:
        kind = "a whole number" if isinstance(least, int) else "a number"
        raise SettingsError(f"{name} must be {kind} from {least} to {most}, not {shown(value)}")
