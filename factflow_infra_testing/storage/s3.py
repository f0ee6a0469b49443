"""S3 in this process: ``MinioStorageProvider`` as it is, over moto instead of a network.

Making moto ready and a client costs about 0.2 s, emptying it a few milliseconds: so one ``SimulatedS3`` serves a whole
search, and ``reset`` goes before each run. It holds no connection and starts no thread. Only one may be open at a time,
because moto's state belongs to the process; it mixes with nobody's own ``mock_aws`` for the same reason.

Every request passes through ``SimulatedS3.transport``, where faults can be put (``intercept``).
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, cast
from unittest.mock import patch

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType
    from typing import Self

    from mypy_boto3_s3 import S3Client

    from factflow_infra.storage.minio import MinioStorageProvider

DEFAULT_BUCKET = "factflow"
_REGION = "us-east-1"
_ACCESS_KEY, _SECRET_KEY = "simulated", "simulated"


class Request(Protocol):
    """The parts of botocore's ``AWSPreparedRequest`` that a fault may look at."""

    method: str
    url: str
    headers: Any
    body: Any


class Forward(Protocol):
    """Carries the request out on the simulated server, and returns botocore's ``AWSResponse``."""

    def __call__(self, request: Request) -> Any: ...


class Interceptor(Protocol):
    """Stands between client and server: may forward or not, and return a response or raise botocore's error."""

    def __call__(self, request: Request, forward: Forward) -> Any: ...


class SimulatedS3:
    """``with SimulatedS3() as s3: storage = s3.provider()``. The bucket is there, and others can be created."""

    def __init__(self, bucket: str = DEFAULT_BUCKET, *, seed: int = 0) -> None:
        self.bucket = bucket
        self._seed = seed
        self._stack = ExitStack()
        self._client: S3Client | None = None
        self._quotas: list[Any] = []
        self._interceptors: list[Interceptor] = []
        self._moto = _Moto()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._moto.open())
            self._client = self._make_client()
            stack.callback(self._client.close)
            self._moto.route(self._client, self.transport)
            stack.callback(self._interceptors.clear)
            self._stack = stack.pop_all()
        self.reset()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self._client = None

    @property
    def client(self) -> S3Client:
        """The client that all providers share: a test may look at the server with it."""
        if self._client is None:
            raise RuntimeError("SimulatedS3 is not open: use it in a with statement")
        return self._client

    def provider(self, bucket: str | None = None, prefix: str = "", **options: Any) -> MinioStorageProvider:
        """A provider on this server; ``options`` are those of ``S3Options`` that are not about the connection."""
        from factflow_infra.storage.minio import MinioStorageProvider, S3Options

        return MinioStorageProvider(
            self.bucket if bucket is None else bucket, prefix, options=S3Options(**options), client=self.client
        )

    def reset(self) -> None:
        """As new: no objects, no uploads, no other buckets, no interceptors, no memory of failures, the same ids again."""
        self._interceptors.clear()
        for quota in self._quotas:
            quota.release(1_000_000)  # it stops at its own maximum
        self._moto.reset(self._seed)
        self.client.create_bucket(Bucket=self.bucket)

    @contextmanager
    def intercept(self, interceptor: Interceptor) -> Generator[None, None, None]:
        """Put ``interceptor`` between client and server; the last one put sees a request first."""
        self._interceptors.append(interceptor)
        try:
            yield
        finally:
            if interceptor in self._interceptors:
                self._interceptors.remove(interceptor)

    def transport(self, request: Request, **_: Any) -> Any:
        """Botocore's ``before-send`` handler: what it returns is the response, and nothing goes to a network."""
        return self._through(len(self._interceptors), request)

    def _through(self, depth: int, request: Request) -> Any:
        if depth == 0:
            return self._moto.answer(request)
        return self._interceptors[depth - 1](request, lambda request: self._through(depth - 1, request))

    def _make_client(self) -> S3Client:
        from botocore.retries import quota

        from factflow_infra.storage.minio.client import make_client
        from factflow_infra.storage.minio.options import S3Options

        made = cast("type[Any]", quota.RetryQuota)
        quotas = self._quotas

        def recorded(*args: Any, **kwargs: Any) -> Any:
            quotas.append(made(*args, **kwargs))
            return quotas[-1]

        # The quota of retries belongs to the client, so one run's failures would change the next.
        with patch.object(quota, "RetryQuota", recorded):
            return make_client(
                S3Options(region=_REGION, access_key=_ACCESS_KEY, secret_key=_SECRET_KEY, addressing_style="path")
            )


class _Moto:
    """All that touches moto, which has no types."""

    _open = False

    @contextmanager
    def open(self) -> Generator[None, None, None]:
        if _Moto._open:
            raise RuntimeError("another SimulatedS3 is open in this process: moto has one state for all of them")
        from moto import mock_aws
        from moto.s3 import models

        # Neither credentials in the environment nor the default session are moto's business here.
        mock: Any = cast("Any", mock_aws)(config={"core": {"mock_credentials": False, "reset_boto3_session": False}})
        _Moto._open = True
        try:
            with mock, patch.object(models, "utcnow", _now):
                yield
        finally:
            _Moto._open = False

    def route(self, client: Any, transport: Any) -> None:
        """Take moto's own handler off: botocore calls every handler, so it would carry out what another has refused."""
        from moto.core.models import botocore_stubber

        client.meta.events.unregister("before-send", botocore_stubber)
        client.meta.events.register_first("before-send.s3", transport)

    def answer(self, request: Any) -> Any:
        from moto.core.models import botocore_stubber

        response = cast("Any", botocore_stubber)("before-send.s3", request)
        if response is None:
            raise RuntimeError(f"moto does not know {request.url}: nothing may leave the simulation")
        return response

    def reset(self, seed: int) -> None:
        from moto.moto_api._internal import mock_random
        from moto.s3.models import s3_backends

        for accounts in list(cast("Any", s3_backends).values()):
            accounts.reset()
        cast("Any", mock_random).seed(seed)


def _now() -> datetime:
    """Moto's clock: naive, in UTC, and late-bound, so that it is the simulation's in a run."""
    import time

    return datetime.fromtimestamp(time.time(), UTC).replace(tzinfo=None)
