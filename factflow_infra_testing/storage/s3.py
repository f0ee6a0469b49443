"""S3 in this process: ``MinioStorageProvider`` as it is, over moto instead of a network.

Making moto ready and a client costs about 0.2 s, emptying it a few milliseconds: so one ``SimulatedS3`` serves a whole
search, and ``reset`` goes before each run. It holds no connection and starts no thread. Only one may be open at a time,
because moto's state belongs to the process; it mixes with nobody's own ``mock_aws`` for the same reason.

Every request passes the interceptors (``intercept``), then, from an exposed client, the faults of the run
(``expose``), and then reaches the server: moto behind the checks that it lacks.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, cast
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

from factflow_infra_testing.simulation.clock import LOCAL_HOST
from factflow_infra_testing.storage.s3_faults import S3Faults, as_server
from factflow_infra_testing.storage.s3_profiles import AWS, s3_profile
from factflow_infra_testing.storage.s3_requests import Forward, Request, call_of
from factflow_infra_testing.storage.s3_server import S3Server

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType
    from typing import Self

    from mypy_boto3_s3 import S3Client

    from factflow_infra.storage.minio import MinioStorageProvider
    from factflow_infra_testing.search.decisions import Decisions
    from factflow_infra_testing.storage.s3_faults import Note
    from factflow_infra_testing.storage.s3_profiles import S3Profile
    from factflow_infra_testing.storage.s3_requests import Call

DEFAULT_BUCKET = "factflow"
"""The bucket of the profile ``aws``; another profile's has its name behind it."""
_REGION = "us-east-1"
_SAFE = ""
"""In place of a machine: meets no faults, and its clock may be as wrong as it likes."""
_ACCESS_KEY, _SECRET_KEY = "simulated", "simulated"


class Interceptor(Protocol):
    """Stands between client and server: may forward or not, and return a response or raise botocore's error."""

    def __call__(self, request: Request, forward: Forward) -> Any: ...


class SimulatedS3:
    """``with SimulatedS3() as s3: storage = s3.provider()``. The bucket is there, and others can be created."""

    def __init__(self, bucket: str = DEFAULT_BUCKET, *, seed: int = 0) -> None:
        self.bucket = bucket
        self._seed = seed
        self._stack = ExitStack()
        self._clients: dict[str, S3Client] = {}  # of each host; of those that meet no faults, of ``_SAFE``
        self._quotas: list[Any] = []
        self._interceptors: list[Interceptor] = []
        self._faults: S3Faults | None = None
        self._profiles: dict[str, S3Profile] = {}
        self._moto = _Moto()
        self._server = S3Server(self._moto, {_ACCESS_KEY: _SECRET_KEY}, self._profile)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._moto.open())
            for host in (_SAFE, LOCAL_HOST):
                self._clients[host] = self._open_client(stack, exposed=host != _SAFE)
            stack.callback(self._interceptors.clear)
            self._stack = stack.pop_all()
        self.reset()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self._clients.clear()

    @property
    def client(self) -> S3Client:
        """The client of the providers that meet no faults: a test may look at the server with it."""
        return self._client(_SAFE)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The machines whose clients are made already; to make another one takes 0.1 s, and reads botocore's files."""
        return tuple(host for host in self._clients if host != _SAFE)

    def _client(self, host: str) -> S3Client:
        # Each machine has its own: how far its clock is off is the client's to know, and its quota of retries.
        if not self._clients:
            raise RuntimeError("SimulatedS3 is not open: use it in a with statement")
        if host not in self._clients:
            self._clients[host] = self._open_client(self._stack, exposed=True)
        return self._clients[host]

    def provider(
        self,
        bucket: str | None = None,
        prefix: str = "",
        *,
        exposed: bool = False,
        host: str = LOCAL_HOST,
        profile: str | None = None,
        **options: Any,
    ) -> MinioStorageProvider:
        """A provider on this server; ``options`` are those of ``S3Options`` that are not about the connection.

        ``exposed``: it meets the faults that ``expose`` has set, and uses the client of the machine ``host``. ``profile``: on the bucket of that profile (``aws``,
        ``minio``, ``radosgw``), which is made where it is missing; ``SettingsError`` lists the known ones.
        """
        from factflow_infra.storage.minio import MinioStorageProvider, S3Options

        if profile is not None:
            bucket = self.bucket_of(profile)
        return MinioStorageProvider(
            self.bucket if bucket is None else bucket,
            prefix,
            options=S3Options(**options),
            client=self._client(host if exposed else _SAFE),
        )

    def stranger(self, *, access_key: str = _ACCESS_KEY, secret_key: str = _SECRET_KEY) -> MinioStorageProvider:
        """A provider on its bucket with other credentials than the server knows."""
        from factflow_infra.storage.minio import MinioStorageProvider

        return MinioStorageProvider(self.bucket, client=self.client_with(access_key=access_key, secret_key=secret_key))

    def client_with(self, *, access_key: str = _ACCESS_KEY, secret_key: str = _SECRET_KEY) -> S3Client:
        """Another client, closed with this server; its clock must be right, and it meets the faults."""
        return self._open_client(self._stack, exposed=True, access_key=access_key, secret_key=secret_key)

    def expose(self, decisions: Decisions, note: Note | None = None) -> None:
        """From now on, until ``reset``, the exposed clients meet the faults that ``decisions`` choose.

        ``note`` is told of each: its target and its name.
        """
        self._faults = S3Faults(
            decisions,
            read_timeout=self._client(LOCAL_HOST).meta.config.read_timeout,  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType, reportAttributeAccessIssue]
            abort_upload=self._moto.abort_upload,
            note=note,
        )

    def reset(self) -> None:
        """As new: no objects, no uploads, no other buckets, no interceptors, no memory of failures, the same ids again."""
        from factflow_infra.storage.minio.signing import skew_of

        self._interceptors.clear()
        self._faults = None
        self._profiles.clear()
        for quota in self._quotas:
            quota.release(1_000_000)  # it stops at its own maximum
        for client in self._clients.values():
            skew_of(client).seconds = 0.0
        self._moto.reset(self._seed)
        self.client.create_bucket(Bucket=self.bucket)

    def decay(self, key: str, *, bucket: str | None = None) -> None:
        """Flip a bit of an object where it lies: nothing else about it changes, its ETag neither. ``KeyError`` without it."""
        self._moto.decay(self.bucket if bucket is None else bucket, key)

    @contextmanager
    def intercept(self, interceptor: Interceptor) -> Generator[None, None, None]:
        """Put ``interceptor`` between client and server; the last one put sees a request first."""
        self._interceptors.append(interceptor)
        try:
            yield
        finally:
            if interceptor in self._interceptors:
                self._interceptors.remove(interceptor)

    def _profile(self, bucket: str) -> S3Profile:
        return self._profiles.get(bucket, AWS)

    def bucket_of(self, profile: str) -> str:
        """The bucket of a profile, made where it is missing."""
        row = s3_profile(profile)
        if row is AWS:
            return self.bucket
        bucket = f"{self.bucket}-{row.name}"
        if bucket not in self._profiles:
            self._profiles[bucket] = row
            self.client.create_bucket(Bucket=bucket)
        return bucket

    def _transport(self, request: Request, event_name: str, *, exposed: bool) -> Any:
        call = call_of(request, event_name.rpartition(".")[2])
        # As the client sent it: what stands in between may change it and be no forger.
        refusal = as_server(lambda request: self._server.authenticate(request, skew_allowed=not exposed), request)

        def serve(request: Request) -> Any:
            if refusal is not None:
                return refusal
            return as_server(lambda request: self._server.answer(call, request), request)

        def meet(request: Request) -> Any:
            if self._faults is None or not exposed:
                return serve(request)
            return self._faults.carry(call, request, serve, self._profile(call.bucket))

        return self._through(len(self._interceptors), request, meet)

    def _through(self, depth: int, request: Request, meet: Forward) -> Any:
        if depth == 0:
            return meet(request)
        return self._interceptors[depth - 1](request, lambda request: self._through(depth - 1, request, meet))

    def _open_client(
        self,
        stack: ExitStack,
        *,
        exposed: bool = False,
        access_key: str = _ACCESS_KEY,
        secret_key: str = _SECRET_KEY,
    ) -> S3Client:
        client = self._make_client(access_key, secret_key)
        stack.callback(client.close)

        # Botocore's ``before-send`` handler: what it returns is the response, and nothing goes to a network.
        def transport(request: Request, event_name: str = "", **_: Any) -> Any:
            return self._transport(request, event_name, exposed=exposed)

        self._moto.route(client, transport)
        return client

    def _make_client(self, access_key: str, secret_key: str) -> S3Client:
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
                S3Options(region=_REGION, access_key=access_key, secret_key=secret_key, addressing_style="path")
            )


class _Moto:
    """All that touches moto, which has no types."""

    _open = False

    @contextmanager
    def open(self) -> Generator[None, None, None]:
        if _Moto._open:
            raise RuntimeError("another SimulatedS3 is open in this process: moto has one state for all of them")
        from moto import backend_index, mock_aws
        from moto.core.models import DEFAULT_ACCOUNT_ID
        from moto.s3 import models

        # Neither credentials in the environment nor the default session are moto's business here.
        mock: Any = cast("Any", mock_aws)(config={"core": {"mock_credentials": False, "reset_boto3_session": False}})
        _Moto._open = True
        try:
            # It looks through the addresses of all services, and makes up those of S3 anew, at each request.
            patterns = [entry for entry in cast("Any", backend_index).backend_url_patterns if entry[0] == "s3"]
            urls = cast("Any", models.s3_backends)[DEFAULT_ACCOUNT_ID]["aws"].urls
            with (
                mock,
                patch.object(models, "utcnow", _now),
                patch.object(backend_index, "backend_url_patterns", patterns),
                patch.object(models.S3Backend, "urls", urls),
                # It puts what is longer than a part into a file on the real disk.
                patch.object(models, "get_s3_default_key_buffer_size", lambda: 1 << 40),
            ):
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

    def etag(self, bucket: str, key: str) -> str | None:
        """The bare etag of what stands there now."""
        held = self._bucket(bucket)
        found = None if held is None else held.keys.get(key)
        return None if found is None else str(found.etag).strip('"')

    def decay(self, bucket: str, key: str) -> None:
        """Flip a bit in the middle of the object."""
        held = self._bucket(bucket).keys[key]
        data, etag = bytearray(held.value), held.etag  # it computes the etag when it is first asked for it
        data[len(data) // 2] ^= 1
        held.value = bytes(data)
        assert held.etag == etag

    def abort_upload(self, call: Call, request: Request) -> None:
        """Drop the upload that ``request`` belongs to."""
        held = self._bucket(call.bucket)
        if held is not None:
            held.multiparts.pop(_upload_of(request), None)

    def knows_upload(self, call: Call, request: Request) -> bool:
        held, upload = self._bucket(call.bucket), _upload_of(request)
        if held is None or upload in held.multiparts:
            return True
        made_of = getattr(held.keys.get(call.key), "multipart", None)
        return made_of is not None and made_of.id == upload

    def _bucket(self, name: str) -> Any:
        from moto.s3.models import s3_backends

        for accounts in cast("Any", s3_backends).values():
            for backend in accounts.values():
                if name in backend.buckets:
                    return backend.buckets[name]
        return None

    def reset(self, seed: int) -> None:
        from moto.moto_api._internal import mock_random
        from moto.s3.models import FakeKey, FakeMultipart, s3_backends

        for accounts in list(cast("Any", s3_backends).values()):
            accounts.reset()
        # It keeps all that ever was, and goes through it at each reset: a search would slow down, and grow, run by run.
        for model in cast("tuple[Any, ...]", (FakeKey, FakeMultipart)):
            model.instances_tracked.clear()
        cast("Any", mock_random).seed(seed)


def _upload_of(request: Request) -> str:
    return parse_qs(urlsplit(request.url).query).get("uploadId", [""])[0]


def _now() -> datetime:
    """Moto's clock: naive, in UTC, and late-bound, so that it is the simulation's in a run."""
    import time

    return datetime.fromtimestamp(time.time(), UTC).replace(tzinfo=None)
