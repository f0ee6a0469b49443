"""The simulated broker's end of STOMP connections, spoken to directly: bytes in, bytes out, in virtual time."""

import asyncio

from factflow_infra_testing.broker import SimulatedBroker
from factflow_infra_testing.simulation.runner import run
from factflow_infra_testing.wire.stomp import StompFrontEnd


class Wire(asyncio.Transport):
    """What the broker wrote, and whether it hung up."""

    def __init__(self):
        super().__init__()
        self.written = bytearray()
        self.closed = False

    def write(self, data):
        self.written += data

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True

    abort = close


class Line:
    """A connection to ``front_end``."""

    def __init__(self, front_end):
        self.protocol = front_end.connection(exposed=False)
        self.wire = Wire()
        self.protocol.connection_made(self.wire)

    @property
    def closed(self):
        return self.wire.closed

    async def talk(self, data, seconds=0.01):
        """Send; what comes back within ``seconds``."""
        if not self.closed:
            self.protocol.data_received(data)
        await asyncio.sleep(seconds)
        found = bytes(self.wire.written)
        self.wire.written.clear()
        return found


def play(scenario, decisions=None, profile="artemis"):
    """Run ``await scenario(front_end)`` with a broker of ``profile``, and give what it returns."""

    async def main():
        return await scenario(StompFrontEnd(SimulatedBroker(profile, decisions)))

    outcome = run(main)
    assert not outcome.unhandled, outcome.unhandled
    return outcome.result()
