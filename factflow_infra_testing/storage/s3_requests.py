"""What a request to the simulated S3 is about, and answers that the server itself never gave.

Everything here speaks of requests as botocore sends them: path-style addresses, one request a call.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from email.utils import formatdate
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER_HOST: Final = "s3"
"""The machine of the simulated server: its wall clock never jumps."""
_IDS = re.compile("[0-9a-f]{32}")


class Request(Protocol):
    """The parts of botocore's ``AWSPreparedRequest`` that a fault may look at."""

    method: str
    url: str
    headers: Any
    body: Any


class Forward(Protocol):
    """Carries the request out on the simulated server, and returns botocore's ``AWSResponse``."""

    def __call__(self, request: Request) -> Any: ...


@dataclass(frozen=True, slots=True)
class Call:
    """A request: ``operation`` is S3's name for it (``PutObject``), ``key`` the S3 key, of a listing its prefix."""

    operation: str
    bucket: str
    key: str

    @property
    def target(self) -> str:
        """How a plan names it: ``PutObject invoices/1.json``. Ids in hidden names are ``*``: they differ from write to write."""
        key = _IDS.sub("*", self.key) if ".factflow/" in self.key else self.key
        return f"{self.operation} {key}" if key else self.operation


def call_of(request: Request, operation: str) -> Call:
    """``operation``: the last part of botocore's event name, or empty where there is none."""
    parts = urlsplit(request.url)
    bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
    if operation.startswith("List"):
        key = parse_qs(parts.query).get("prefix", [""])[0]
    return Call(operation or request.method, bucket, key)


def header(request: Request, name: str) -> str | None:
    """A header's value as text; ``None`` where it is not there."""
    value = request.headers.get(name)
    return value.decode("latin-1") if isinstance(value, bytes) else value


def body_of(request: Request) -> bytes:
    """The body, whose reading position is left where it was."""
    body: Any = request.body
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, (bytes, bytearray)):
        return bytes(body)
    position = body.tell()
    try:
        return body.read()
    finally:
        body.seek(position)


class RawBody(BytesIO):
    """What botocore reads an answer from."""

    def stream(self, *_: object, **__: object) -> Iterator[bytes]:
        return iter(lambda: self.read(65_536), b"")


class CutBody(RawBody):
    """A body whose connection is reset when ``content`` has been read, or that simply ends there."""

    def __init__(self, content: bytes, *, reset: bool) -> None:
        super().__init__(content)
        self._reset = reset

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if self._reset and (not data or size is None or size < 0 or len(data) < size):
            from urllib3.exceptions import ProtocolError

            raise ProtocolError("Connection broken: ConnectionResetError(104, 'Connection reset by peer')")
        return data


def error_answer(request: Request, status: int, code: str, message: str = "simulated") -> Any:
    """The answer of a server that refuses ``request`` with the S3 error ``code``; HEAD answers have no body."""
    from botocore.awsrequest import AWSResponse

    body = (
        b""
        if request.method == "HEAD"
        else f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    )
    headers: Any = {"content-type": "application/xml", "date": formatdate(time.time(), usegmt=True)}
    return AWSResponse(request.url, status, headers, RawBody(body))
