"""The Pulsar front end of one simulated broker: what its connections share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from factflow_infra_testing.wire.pulsar.connection import PulsarConnection
from factflow_infra_testing.wire.pulsar.topics import Topics

if TYPE_CHECKING:
    from factflow_infra_testing.broker.server import SimulatedBroker

PORT: Final = 6650


class PulsarFrontEnd:
    """Serves ``server`` to Pulsar's clients. ``token``: what they must log in with."""

    def __init__(self, server: SimulatedBroker, *, token: str | None = None) -> None:
        self.server = server
        self.token = token
        self.topics = Topics(server.broker)

    @property
    def down(self) -> bool:
        """Whether the broker is restarting."""
        return self.server.loop.time() < self.server.up_at

    def connection(self, *, exposed: bool) -> PulsarConnection:
        """A protocol for one connection on a real socket."""
        return PulsarConnection(self, exposed=exposed)

    def broker_time(self, timestamp: float) -> float:
        """A time of the wall clock, in seconds, as the broker counts."""
        return self.server.loop.time() + timestamp - time.time()
