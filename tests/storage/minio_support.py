"""Faults between client and simulated server, for the tests of the S3 provider."""

from __future__ import annotations

import io
import re
import urllib.parse
from dataclasses import dataclass, field
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, ReadTimeoutError


class RawBody(io.BytesIO):
    """What botocore reads a response from."""

    def stream(self, **_):
        while chunk := self.read(65536):
            yield chunk


def answer(request, status, code="", headers=None, body=None):
    """A response that the server never gave."""
    if body is None:
        body = (
            f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>made up</Message></Error>".encode()
            if code
            else b""
        )
    return AWSResponse(request.url, status, headers or {}, RawBody(body))


def refuse(status, code=""):
    return lambda request, _: answer(request, status, code)


def lose_answer(request, forward):
    forward(request)
    raise ReadTimeoutError(endpoint_url=request.url)


def reset(request, _):
    raise ConnectionClosedError(endpoint_url=request.url)


def unreachable(request, _):
    raise EndpointConnectionError(endpoint_url=request.url)


def truncate(request, forward):
    response = forward(request)
    content = response.raw.read()
    response.raw = RawBody(content[: len(content) // 2])
    return response


def corrupt(request, forward):
    response = forward(request)
    content = response.raw.read()
    response.raw = RawBody(bytes([content[0] ^ 1]) + content[1:])
    return response


@dataclass
class Faults:
    """Applies ``action`` to the requests that match, from the ``first`` to the ``last`` of them; counts all."""

    method: str
    path: str
    action: Any
    first: int = 1
    last: int = 1_000_000
    seen: list[str] = field(default_factory=list)

    def __call__(self, request, forward):
        line = f"{request.method} {request.url}"
        if request.method == self.method and re.search(self.path, request.url):
            self.seen.append(line)
            if self.first <= len(self.seen) <= self.last:
                return self.action(request, forward)
        return forward(request)


@dataclass
class Journal:
    """The requests that went through: ``PUT key?query``."""

    lines: list[str] = field(default_factory=list)

    def __call__(self, request, forward):
        self.lines.append(f"{request.method} {request.url.partition('amazonaws.com/')[2]}")
        return forward(request)


async def pieces(*chunks):
    for chunk in chunks:
        yield chunk


def stored_keys(s3, bucket=None):
    """All S3 keys, hidden ones too."""
    answer = s3.client.list_objects_v2(Bucket=bucket or s3.bucket)
    return [item["Key"] for item in answer.get("Contents", ())]


def uploads(s3):
    return s3.client.list_multipart_uploads(Bucket=s3.bucket).get("Uploads", [])


class Enforcing:
    """Honours the conditions that moto ignores, and AWS does not: the source of a copy, If-Match on a completion."""

    def __init__(self, s3):
        self.s3 = s3

    def __call__(self, request, forward):
        headers = {name.lower(): text(value) for name, value in request.headers.items()}
        path = urllib.parse.unquote(urllib.parse.urlsplit(request.url).path)
        wanted = headers.get("x-amz-copy-source-if-match")
        if wanted is not None:
            path = "/" + urllib.parse.unquote(headers["x-amz-copy-source"]).lstrip("/")
        elif request.method == "POST" and "uploadId" in request.url:
            wanted = headers.get("if-match")
        if wanted is not None and wanted.strip('"') != self.etag(path):
            return answer(request, 412, "PreconditionFailed")
        return forward(request)

    def etag(self, path):
        _, bucket, key = path.split("/", 2)
        try:
            return self.s3.client.head_object(Bucket=bucket, Key=key)["ETag"].strip('"')
        except ClientError:
            return None


class Ignoring:
    """A server that does not know some conditions: it never sees the headers."""

    def __init__(self, *headers, method="PUT"):
        self.headers = headers
        self.method = method

    def __call__(self, request, forward):
        if request.method == self.method:
            for name in self.headers:
                if name in request.headers:
                    del request.headers[name]
        return forward(request)


def text(value):
    return value.decode() if isinstance(value, bytes) else value
