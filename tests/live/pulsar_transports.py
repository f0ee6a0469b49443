"""Pulsar transports for the live tests, and what can be done to them."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pulsar
import pulsar.asyncio
from transport_clients import TransportClient

from factflow_infra.queue.naming import PulsarNamingStrategy
from factflow_infra.queue.pulsar.client import PulsarOptions
from factflow_infra.queue.pulsar.transport import PulsarTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NAMING = PulsarNamingStrategy()


class Client(TransportClient):
    TELLS_ONCE = False

    def __init__(self, server: Any, **options: Any) -> None:
        super().__init__(PulsarTransport(PulsarOptions(service_url=server.uri, **options)))

    @property
    def session(self) -> Any:
        return self.transport._live.session


@contextlib.asynccontextmanager
async def foreign(server: Any) -> AsyncIterator[Any]:
    """A client of somebody else's."""
    client = pulsar.asyncio.Client(server.uri, logger=pulsar.FileLogger(pulsar.LoggerLevel.Error, os.devnull))
    yield client
    await client.close()


def cut_connections(server: Any) -> int:
    """Shut down each TCP connection of this process to ``server``, as a network may; the client connects again."""
    cut = 0
    for one in [*Path("/proc/self/fd").iterdir()]:
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(one.name))) as end:
            if end.getpeername()[1:2] == (server.port,):
                end.shutdown(socket.SHUT_RDWR)
                cut += 1
    return cut
