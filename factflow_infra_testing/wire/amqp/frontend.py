"""The AMQP front end of one simulated broker: what its connections share, and where it listens."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from factflow_infra_testing.wire.amqp.connection import AmqpConnection
from factflow_infra_testing.wire.amqp.declaring import SYSTEM_EXCHANGES
from factflow_infra_testing.wire.amqp.replies import Replies

if TYPE_CHECKING:
    from factflow_infra_testing.broker.queues import Queue
    from factflow_infra_testing.broker.server import SimulatedBroker
    from factflow_infra_testing.broker.sessions import Consumer

PORT: Final = 5672
EXPOSED_PORT: Final = 5673
"""In a simulation: whoever connects here meets the faults, the test itself included."""


class AmqpFrontEnd:
    """Speaks AMQP 0-9-1 for ``server``. ``users``: passwords by name.

    In a simulation a connection belongs to the process that made it, and meets the faults of the run; the test's own do
    not. On real sockets ``exposed`` says which.
    """

    def __init__(self, server: SimulatedBroker, *, users: dict[str, str] | None = None) -> None:
        self.server = server
        self.users = {"guest": "guest"} if users is None else users
        self.arguments: dict[str, tuple[Queue, dict[str, Any]]] = {}
        self.exclusive: dict[Queue, Consumer] = {}
        self.replies = Replies()
        self._queues = 0
        for name, kind in SYSTEM_EXCHANGES.items():
            server.broker.declare_exchange(name, kind)

    def connection(self, *, exposed: bool | None = None, client: str = "") -> AmqpConnection:
        """A protocol for one connection. ``exposed=None``: as its owner in the simulation is; ``client``: its name."""
        return AmqpConnection(self, exposed=exposed, client=client)

    def listen(self, *hosts: str) -> None:
        """Take connections to ``hosts`` in the network of the simulation that is running, on ``PORT`` and ``EXPOSED_PORT``."""
        loop: Any = self.server.loop
        run, serve = self.server.context.run, loop.network.serve
        run(partial(serve, self.connection, list(hosts), PORT, framed=True))
        run(partial(serve, lambda: self.connection(exposed=True), list(hosts), EXPOSED_PORT, framed=True, exposed=True))

    def new_queue_name(self) -> str:
        """A name for a queue whose client left that to the broker."""
        self._queues += 1
        return f"amq.gen-{self._queues:022d}"
