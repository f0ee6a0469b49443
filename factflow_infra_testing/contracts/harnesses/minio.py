"""The harness of ``MinioStorageProvider``: S3 in this process, in virtual time, with faults on demand."""

from __future__ import annotations

from contextlib import ExitStack
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from factflow_infra_testing.contracts.pace import VIRTUAL_PACE
from factflow_infra_testing.contracts.storage import (
    PlainStorageBackend,
    StorageCapability,
    StorageEnvironment,
    exercise_storage,
)
from factflow_infra_testing.storage.s3_profiles import IGNORED, s3_profile
from factflow_infra_testing.storage.s3_requests import error_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

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


class SimulatedS3Backend(PlainStorageBackend):
    """Providers on the bucket of ``s3``."""

    def __init__(self, s3: SimulatedS3, make: Callable[[SimulatedS3], StorageProtocol], profile: str = "aws") -> None:
        self._s3 = s3
        self._make = make
        self._profile = profile
        self._faults = ExitStack()

    async def provider(self) -> StorageProtocol:
        return self._make(self._s3)

    async def corrupt(self, key: str) -> None:
        """Flip a byte where moto keeps the object: nothing else about it changes, its ETag neither."""
        client, bucket = cast("Any", self._s3).client, self._s3.bucket_of(self._profile)
        with _outside():
            found = client.get_object(Bucket=bucket, Key=key)
            data = bytearray(found["Body"].read())
            data[len(data) // 2] ^= 1
            client.put_object(
                Bucket=bucket, Key=key, Body=bytes(data), Metadata=found["Metadata"], ContentType=found["ContentType"]
            )

    async def residue(self) -> list[str]:
        client, bucket = cast("Any", self._s3).client, self._s3.bucket_of(self._profile)
        with _outside():
            uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
            hidden = client.list_objects_v2(Bucket=bucket, Prefix=".factflow/").get("Contents", [])
        return [f"unfinished upload of {upload.get('Key')}" for upload in uploads] + [
            str(entry.get("Key")) for entry in hidden
        ]

    async def lose_answer(self) -> None:
        from botocore.exceptions import ReadTimeoutError

        lost: list[str] = []

        def lose(request: Request, forward: Forward) -> Any:
            answer = forward(request)
            if request.method == "PUT" and not lost and answer.status_code < 300:
                lost.append(request.url)
                raise ReadTimeoutError(endpoint_url=request.url)
            return answer

        self._faults.enter_context(self._s3.intercept(lose))

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
        return self._s3.provider("no-such-bucket")

    async def unreachable(self) -> StorageProtocol:
        from botocore.exceptions import EndpointConnectionError

        def nobody(request: Request, forward: Forward) -> Any:
            del forward
            raise EndpointConnectionError(endpoint_url=request.url)

        self._faults.enter_context(self._s3.intercept(nobody))
        return await self.provider()

    async def unauthenticated(self) -> StorageProtocol:
        return self._s3.stranger(secret_key="wrong")  # noqa: S106 - on purpose

    async def close(self) -> None:
        self._faults.close()


def _outside() -> Any:
    from factflow_infra_testing.simulation.entropy import outside

    return outside()


class SimulatedS3Harness:
    """Runs each behaviour in virtual time, on an empty bucket. ``s3`` must be entered. ``profile``: the kind of server."""

    def __init__(
        self,
        s3: SimulatedS3,
        *,
        profile: str = "aws",
        make: Callable[[SimulatedS3], StorageProtocol] | None = None,
        capabilities: frozenset[StorageCapability] | None = None,
    ) -> None:
        self.capabilities = capabilities_of(profile) if capabilities is None else capabilities
        self._s3 = s3
        self._profile = profile
        self._make = make or self._of_profile

    def _of_profile(self, s3: SimulatedS3) -> StorageProtocol:
        return s3.provider(profile=self._profile)

    def run(self, check: Callable[[StorageEnvironment], Coroutine[Any, Any, None]]) -> None:
        from factflow_infra_testing.simulation.runner import run

        async def main() -> None:
            backend = SimulatedS3Backend(self._s3, self._make, self._profile)
            await exercise_storage(check, backend, capabilities=self.capabilities, pace=VIRTUAL_PACE)

        self._s3.reset()
        self._s3.bucket_of(self._profile)
        outcome = run(main)
        outcome.result()
        assert not outcome.unhandled, f"nobody took these errors: {outcome.unhandled}"
