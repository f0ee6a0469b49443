"""The STOMP front end of one simulated broker: what its connections share, and where it listens."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from factflow_infra_testing.wire.stomp.connection import StompConnection
from factflow_infra_testing.wire.stomp.dialects import DIALECTS

if TYPE_CHECKING:
    from factflow_infra_testing.broker.server import SimulatedBroker

PORT: Final = 61613
EXPOSED_PORT: Final = 61614
"""In a simulation: whoever connects here meets the faults, the test itself included."""
USER: Final = DIALECTS["artemis"].user
PASSWORD: Final = DIALECTS["artemis"].password
"""Of a simulated Artemis."""


class StompFrontEnd:
    """Speaks STOMP 1.0 to 1.2 for ``server``, as the broker of its profile does. ``users``: passwords by name.

    In a simulation a connection belongs to the process that made it, and meets the faults of the run; the test's own do
    not. On real sockets ``exposed`` says which.
    """

    def __init__(self, server: SimulatedBroker, *, users: dict[str, str] | None = None) -> None:
        self.server = server
        self.dialect = dialect = DIALECTS[server.broker.profile.name]
        self.users = {dialect.user: dialect.password} if users is None else users
        self.destinations = dialect.destinations(server.broker)
        self._numbers = 0

    def connection(self, *, exposed: bool | None = None, client: str = "") -> StompConnection:
        """A protocol for one connection. ``exposed=None``: as its owner in the simulation is; ``client``: its name."""
        return StompConnection(self, exposed=exposed, client=client)

    def listen(self, *hosts: str) -> None:
        """Take connections to ``hosts`` in the network of the simulation that is running, on ``PORT`` and ``EXPOSED_PORT``."""
        loop: Any = self.server.loop
        run, serve = self.server.context.run, loop.network.serve
        run(partial(serve, self.connection, list(hosts), PORT, framed=True))
        run(partial(serve, lambda: self.connection(exposed=True), list(hosts), EXPOSED_PORT, framed=True, exposed=True))

    def new_number(self) -> int:
        """The broker's next number, for messages, consumers and sessions."""
        self._numbers += 1
        return self._numbers
