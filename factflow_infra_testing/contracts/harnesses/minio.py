"""The harness of ``MinioStorageProvider``: S3 in this process, in virtual time, with faults on demand."""

from __future__ import annotations

import re
from contextlib import ExitStack
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from factflow_infra_testing.contracts.pace import VIRTUAL_PACE
from factflow_infra_testing.contracts.storage import (
    PlainStorageBackend,
    StorageCapability,
    StorageEnvironment,
    exercise_storage,
)
from factflow_infra_testing.storage.s3_profiles import IGNORED, s3_profile
from factflow_infra_testing.storage.s3_requests import RawBody, error_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from mypy_boto3_s3 import S3Client

    from factflow_infra.protocols import StorageProtocol
    from factflow_infra_testing.storage.s3 import SimulatedS3
    from factflow_infra_testing.storage.s3_profiles import S3Profile
    from factflow_infra_testing.storage.s3_requests import Forward, Request

_SIMULATED = frozenset(
    {
        StorageCapability.CONDITIONAL_CREATE,
        StorageCapability.CONDITIONAL_WRITE,
        StorageCapability.CONDITIONAL_STREAM,
        StorageCapability.CONDITIONAL_DELETE,
        StorageCapability.FLAT_KEYS,
        StorageCapability.LONG_SEGMENTS,
        StorageCapability.CORRUPT,
        StorageCapability.CORRUPT_ANSWER,
        StorageCapability.LOSE_ANSWER,
        StorageCapability.RESIDUE,
        StorageCapability.DENY,
        StorageCapability.FULL,
        StorageCapability.MISSING_ROOT,
        StorageCapability.UNREACHABLE,
        StorageCapability.CREDENTIALS,
        StorageCapability.THROTTLE,
    }
)
_PAGE = 50
"""Names on one page of the server's listing."""
_WRITING = ("PUT", "POST", "DELETE")
_HONOURED: Final[Mapping[StorageCapability, Callable[[S3Profile], bool]]] = MappingProxyType(
    {
        StorageCapability.CONDITIONAL_CREATE: lambda row: row.put_absent != IGNORED,
        StorageCapability.CONDITIONAL_WRITE: lambda row: row.put_match != IGNORED and row.missing_match != 0,
        StorageCapability.CONDITIONAL_STREAM: lambda row: (
            IGNORED not in (row.complete_absent, row.complete_match) and row.missing_match != 0
        ),
        StorageCapability.CONDITIONAL_DELETE: lambda row: row.delete_match != IGNORED,
    }
)
"""What of the capabilities hangs on the profile."""


def capabilities_of(profile: str) -> frozenset[StorageCapability]:
    """What the provider can do on the simulated server of ``profile``."""
    row = s3_profile(profile)
    return _SIMULATED - {capability for capability, holds in _HONOURED.items() if not holds(row)}


def s3_provider(bucket: str, client: S3Client) -> StorageProtocol:
    """The provider that the harness makes unless it is told otherwise."""
    from factflow_infra.storage.minio import MinioStorageProvider

    return MinioStorageProvider(bucket, client=client)


class SimulatedS3Backend(PlainStorageBackend):
    """Providers on the bucket of ``s3`` that is of ``profile``; ``make`` builds one from a bucket and a boto3 client."""

    def __init__(
        self, s3: SimulatedS3, make: Callable[[str, S3Client], StorageProtocol] = s3_provider, profile: str = "aws"
    ) -> None:
        self._s3 = s3
        self._make = make
        self._bucket = s3.bucket_of(profile)
        self._faults = ExitStack()
        self._waiting: list[object] = []

    async def provider(self) -> StorageProtocol:
        return self._make(self._bucket, self._s3.client)

    async def corrupt(self, key: str) -> None:
        self._s3.decay(key, bucket=self._bucket)

    async def residue(self) -> list[str]:
        client = self._s3.client
        with _outside():
            uploads = client.list_multipart_uploads(Bucket=self._bucket).get("Uploads", [])
            hidden = client.list_objects_v2(Bucket=self._bucket, Prefix=".factflow/").get("Contents", [])
        return [f"unfinished upload of {upload.get('Key')}" for upload in uploads] + [
            str(entry.get("Key")) for entry in hidden
        ]

    async def lose_answer(self) -> None:
        from botocore.exceptions import ReadTimeoutError

        fault = object()
        self._waiting.append(fault)

        def lose(request: Request, forward: Forward) -> Any:
            answer = forward(request)
            if _changes_an_object(request) and fault in self._waiting and answer.status_code < 300:
                self._waiting.remove(fault)
                raise ReadTimeoutError(endpoint_url=request.url)
            return answer

        self._faults.enter_context(self._s3.intercept(lose))

    async def corrupt_answer(self) -> None:
        fault = object()
        self._waiting.append(fault)

        def corrupt(request: Request, forward: Forward) -> Any:
            answer = forward(request)
            of_object = request.method == "GET" and urlsplit(request.url).path.count("/") > 1  # not /bucket alone
            if of_object and fault in self._waiting and answer.status_code < 300:
                self._waiting.remove(fault)
                content = bytearray(answer.raw.read())
                content[len(content) // 2] ^= 1
                answer.raw = RawBody(bytes(content))
            return answer

        self._faults.enter_context(self._s3.intercept(corrupt))

    def _refuse(self, status: int, code: str, methods: tuple[str, ...]) -> None:
        def refuse(request: Request, forward: Forward) -> Any:
            return error_answer(request, status, code) if request.method in methods else forward(request)

        self._faults.enter_context(self._s3.intercept(refuse))

    async def deny(self) -> None:
        self._refuse(403, "AccessDenied", _WRITING)

    async def fill(self) -> None:
        self._refuse(507, "XMinioStorageFull", _WRITING)

    async def throttle(self) -> None:
        self._refuse(503, "SlowDown", (*_WRITING, "GET", "HEAD"))

    async def allow(self) -> None:
        self._faults.close()

    async def rootless(self) -> StorageProtocol:
        return self._make("no-such-bucket", self._s3.client)

    async def unreachable(self) -> StorageProtocol:
        from botocore.exceptions import EndpointConnectionError

        def nobody(request: Request, forward: Forward) -> Any:
            del forward
            raise EndpointConnectionError(endpoint_url=request.url)

        self._faults.enter_context(self._s3.intercept(nobody))
        return await self.provider()

    async def unauthenticated(self) -> StorageProtocol:
        return self._make(self._bucket, self._s3.client_with(secret_key="wrong"))  # noqa: S106 - on purpose

    async def close(self) -> None:
        self._faults.close()
        assert not self._waiting, "nothing met the fault that was asked for: the behaviour tested nothing"


def _changes_an_object(request: Request) -> bool:
    """Whether it is the request after which the object is another one: no part of an upload, and nothing beside the objects,
    as a probe or a sidecar is.
    """
    url = urlsplit(request.url)
    query = parse_qs(url.query)
    if "/.factflow" in url.path:
        return False
    return ("uploadId" in query) if request.method == "POST" else request.method in ("PUT", "DELETE") and not query


def _short_pages(request: Request, forward: Forward) -> Any:
    """A server may give fewer names than it is asked for: so the listings here have more than one page."""
    request.url = re.sub(r"(?<=[?&]max-keys=)(\d+)", lambda asked: str(min(int(asked[0]), _PAGE)), request.url)
    return forward(request)


def _outside() -> Any:
    from factflow_infra_testing.simulation.entropy import outside

    return outside()


class SimulatedS3Harness:
    """Runs each behaviour in virtual time, on an empty bucket. ``s3`` must be entered. ``profile``: the kind of server.

    ``make``: another provider for a bucket and a client; ``capabilities``: fewer than all.
    """

    def __init__(
        self,
        s3: SimulatedS3,
        *,
        profile: str = "aws",
        make: Callable[[str, S3Client], StorageProtocol] = s3_provider,
        capabilities: frozenset[StorageCapability] | None = None,
    ) -> None:
        self.capabilities = capabilities_of(profile) if capabilities is None else capabilities
        self._s3 = s3
        self._profile = profile
        self._make = make

    def run(self, check: Callable[[StorageEnvironment], Coroutine[Any, Any, None]]) -> None:
        from factflow_infra_testing.simulation.runner import run

        async def main() -> None:
            backend = SimulatedS3Backend(self._s3, self._make, self._profile)
            await exercise_storage(check, backend, capabilities=self.capabilities, pace=VIRTUAL_PACE)

        self._s3.reset()
        with self._s3.intercept(_short_pages):
            outcome = run(main)
        outcome.result()
        assert not outcome.unhandled, f"nobody took these errors: {outcome.unhandled}"
