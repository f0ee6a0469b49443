"""Real servers for the live tests: each started once for a session, or once for each xdist worker."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


def _servers(name: str) -> ModuleType:
    # By path: ``servers`` is no package, and its modules have the names of what they start.
    full_name = f"live_servers_{name}"
    if full_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(full_name, Path(__file__).parent / "servers" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[full_name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[full_name]


def _need(missing: str | None) -> None:
    if missing is not None:
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)


@pytest.fixture(scope="session")
def rabbitmq_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """A running RabbitMQ, for those who leave it running. Queues of other tests are in it: use unique names."""
    servers = _servers("rabbitmq")
    _need(servers.missing())
    server = servers.RabbitMq(tmp_path_factory.mktemp("rabbitmq"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_rabbitmq_server(tmp_path: Path) -> Iterator[object]:
    """A RabbitMQ of the test's own, not started yet, to be stopped, killed and frozen at will."""
    servers = _servers("rabbitmq")
    _need(servers.missing())
    server = servers.RabbitMq(tmp_path / "rabbitmq")
    yield server
    server.kill()


@pytest.fixture(scope="session")
def artemis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """A running Artemis, for those who leave it running. Queues of other tests are in it: use unique names."""
    servers = _servers("artemis")
    _need(servers.missing())
    server = servers.Artemis(tmp_path_factory.mktemp("artemis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_artemis_server(tmp_path: Path) -> Iterator[object]:
    """An Artemis of the test's own, not started yet, to be configured, stopped, killed and frozen at will."""
    servers = _servers("artemis")
    _need(servers.missing())
    server = servers.Artemis(tmp_path / "artemis")
    yield server
    server.kill()


@pytest.fixture(scope="session")
def pulsar_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """A running Pulsar, for those who leave it running. Topics of other tests are in it: use unique names."""
    servers = _servers("pulsar")
    _need(servers.missing())
    server = servers.Pulsar(tmp_path_factory.mktemp("pulsar"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def own_pulsar_server(tmp_path: Path) -> Iterator[object]:
    """A Pulsar of the test's own, not started yet, to be configured, stopped, killed and frozen at will."""
    servers = _servers("pulsar")
    _need(servers.missing())
    server = servers.Pulsar(tmp_path / "pulsar")
    yield server
    server.kill()


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
