"""The simulated broker on a real socket, for clients in any language."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from factflow_infra_testing.broker.server import SimulatedBroker
from factflow_infra_testing.wire.protocols import protocol_of

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from factflow_infra_testing.search.decisions import Decisions


class WireServer:
    """A simulated broker that listens. ``broker`` is for looking inside it; ``port`` is where it listens."""

    def __init__(self, broker: SimulatedBroker, server: asyncio.Server) -> None:
        self.broker = broker
        self._server = server

    @property
    def port(self) -> int:
        return self._server.sockets[0].getsockname()[1]

    async def serve_forever(self) -> None:
        """Serve until cancelled."""
        await self._server.serve_forever()

    async def close(self) -> None:
        """Stop listening, and cut every connection."""
        self._server.close()
        self.broker.restart()
        await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def serve(
    host: str = "127.0.0.1",
    port: int = 0,
    profile: str = "rabbitmq",
    *,
    decisions: Decisions | None = None,
) -> WireServer:
    """Serve a simulated broker of ``profile`` on ``host`` and ``port`` (0: any), in real time, on the running loop.

    Every connection meets the faults that ``decisions`` draw; by default there are none. Raises ``OSError`` where the
    port is taken, ``SettingsError`` for a profile that is not known, or not served.
    """
    protocol = protocol_of(profile)
    broker = SimulatedBroker(profile, decisions)
    front_end = protocol.make(broker)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: front_end.connection(exposed=True), host, port)
    return WireServer(broker, server)
