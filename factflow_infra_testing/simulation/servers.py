"""A listening port, as ``asyncio.Server``."""

from __future__ import annotations

import asyncio
import sys
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from factflow_infra_testing.simulation.transports import Address, SimulatedSocket, SimulatedTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from factflow_infra_testing.simulation.network import Network


class SimulatedServer(asyncio.AbstractServer):
    """Accepts connections for the owner that made it.

    ``framed``: its protocol asks for the faults of its frames, so that the network asks for none. ``exposed``: the test's own
    connections to it meet faults as well.
    """

    def __init__(
        self,
        network: Network,
        protocol_factory: Callable[[], Any],
        keys: list[tuple[str, int]],
        addresses: list[Address],
        *,
        framed: bool = False,
        exposed: bool = False,
    ) -> None:
        self.keys = keys
        self.framed = framed
        self.exposed = exposed
        self.context = copy_context()
        self._network = network
        self._factory = protocol_factory
        self._addresses = addresses
        self._closed = False
        self._clients: dict[SimulatedTransport, None] = {}
        self._waiters: list[asyncio.Future[None]] = []
        self._forever: asyncio.Future[None] | None = None

    @property
    def sockets(self) -> tuple[Any, ...]:
        """For ``getsockname()``; empty once closed."""
        return () if self._closed else tuple(SimulatedSocket(address, None) for address in self._addresses)

    def accept(self, transport: SimulatedTransport) -> None:
        """A connection has been made; the protocol is made in the server's own time."""
        self._clients[transport] = None
        transport.when_lost(lambda: self._gone(transport))
        self._network.loop.call_soon(self._begin, transport, context=transport.context)

    def _begin(self, transport: SimulatedTransport) -> None:
        protocol = self._factory()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        transport.schedule_delivery()

    def _gone(self, transport: SimulatedTransport) -> None:
        self._clients.pop(transport, None)
        self._wake_if_done()

    def _wake_if_done(self) -> None:
        if self._closed and not self._clients:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiters.clear()

    def get_loop(self) -> Any:
        return self._network.loop

    def is_serving(self) -> bool:
        return not self._closed and self._network.listens(self)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._network.unlisten(self)
            if self._forever is not None and not self._forever.done():
                self._forever.cancel()
            self._wake_if_done()

    def close_clients(self) -> None:
        for transport in list(self._clients):
            transport.close()

    def abort_clients(self) -> None:
        for transport in list(self._clients):
            transport.abort()

    async def start_serving(self) -> None:
        self._network.listen(self)
        await asyncio.sleep(0)

    async def serve_forever(self) -> None:
        if self._forever is not None:
            raise RuntimeError("server is already being awaited on serve_forever()")
        if self._closed:
            raise RuntimeError("server is closed")
        self._network.listen(self)
        forever: asyncio.Future[None] = self._network.loop.create_future()
        self._forever = forever
        try:
            await forever
        except asyncio.CancelledError:
            self.close()
            await self.wait_closed()
            raise
        finally:
            self._forever = None

    async def wait_closed(self) -> None:
        """On 3.12 and later: until closed and every connection is gone. Before, asyncio did not wait for those."""
        if sys.version_info < (3, 12) or (self._closed and not self._clients):
            await asyncio.sleep(0)
            return
        waiter: asyncio.Future[None] = self._network.loop.create_future()
        self._waiters.append(waiter)
        await waiter
