"""Real servers for the live tests: each started once for a session, or once for each xdist worker."""

from __future__ import annotations

import contextlib
import importlib
import os
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType


def _servers(name: str) -> ModuleType:
    """The module ``servers.name``, loaded when it is first asked for."""
    return importlib.import_module(f"servers.{name}")


def _need(missing: str | None) -> None:
    if missing is not None:
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)


@contextlib.contextmanager
def _one(module: str, kind: str, folder: Path, *, started: bool) -> Iterator[Any]:
    """A server of the class ``kind`` of ``module`` in ``folder``, which ends with the test or the session."""
    servers = _servers(module)
    _need(servers.missing())
    server = getattr(servers, kind)(folder)
    try:
        if started:
            server.start()
        yield server
    finally:
        server.kill()


def _shared(module: str, kind: str) -> Any:
    @pytest.fixture(scope="session", name=f"{module}_server")
    def fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
        with _one(module, kind, tmp_path_factory.mktemp(module), started=True) as server:
            yield server

    fixture.__doc__ = f"A running {kind}, for those who leave it running. Others' messages are in it: use unique names."
    return fixture


def _own(module: str, kind: str) -> Any:
    @pytest.fixture(name=f"own_{module}_server")
    def fixture(tmp_path: Path) -> Iterator[object]:
        with _one(module, kind, tmp_path / module, started=False) as server:
            yield server

    fixture.__doc__ = (
        f"A {kind} of the test's own, not started yet, to be configured, stopped, killed and frozen at will."
    )
    return fixture


activemq_server, own_activemq_server = _shared("activemq", "ActiveMq"), _own("activemq", "ActiveMq")
artemis_server, own_artemis_server = _shared("artemis", "Artemis"), _own("artemis", "Artemis")
pulsar_server, own_pulsar_server = _shared("pulsar", "Pulsar"), _own("pulsar", "Pulsar")
rabbitmq_server, own_rabbitmq_server = _shared("rabbitmq", "RabbitMq"), _own("rabbitmq", "RabbitMq")


@pytest.fixture(scope="module")
def rabbitmq_server_to_restart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A running RabbitMq that only one module uses, which may stop and start it."""
    with _one("rabbitmq", "RabbitMq", tmp_path_factory.mktemp("rabbitmq"), started=False) as server:
        # What expires while its target is still starting is tried again after three minutes, by default.
        server.configure(advanced="[{rabbit, [{dead_letter_worker_publisher_confirm_timeout, 1000}]}].")
        server.start()
        yield server


@pytest.fixture(scope="module")
def artemis_server_to_restart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A running Artemis that only one module uses, which may kill and start it."""
    with _one("artemis", "Artemis", tmp_path_factory.mktemp("artemis"), started=True) as server:
        yield server


@pytest.fixture(scope="module")
def pulsar_server_to_restart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A running Pulsar that only one module uses, which may kill and start it."""
    with _one("pulsar", "Pulsar", tmp_path_factory.mktemp("pulsar"), started=True) as server:
        yield server


@pytest.fixture
def stomp() -> Iterator[Any]:
    """``stomp(server, **headers)`` is a bare STOMP connection to a running ``server``, closed after the test."""
    client = _servers("stomp").Stomp
    with contextlib.ExitStack() as stack:

        def connect(server: Any, **headers: str) -> Any:
            return stack.enter_context(contextlib.closing(client(server.port, server.user, server.password, **headers)))

        yield connect


@pytest.fixture(scope="session")
def radosgw_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A running radosgw with a boto3 ``client`` and the keys of its one user. Use buckets of your own."""
    servers = _servers("radosgw")
    _need(servers.missing())
    import boto3

    with servers.Radosgw(tmp_path_factory.mktemp("radosgw")) as server:
        server.access_key, server.secret_key = servers.ACCESS_KEY, servers.SECRET_KEY
        server.client = boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            aws_access_key_id=servers.ACCESS_KEY,
            aws_secret_access_key=servers.SECRET_KEY,
            region_name="us-east-1",
        )
        yield server
        server.client.close()
