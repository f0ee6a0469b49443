"""The queue contract's harness for the production Artemis provider on the wire, in virtual time."""

import asyncio

from factflow_infra.queue.artemis import ArtemisQueueProvider
from factflow_infra.queue.settings import QueueSettings
from factflow_infra_testing.broker.entries import Message
from factflow_infra_testing.contracts.harnesses.simulated_queue import SimulatedQueueBackend, SimulatedQueueHarness
from factflow_infra_testing.contracts.pace import VIRTUAL_PACE
from factflow_infra_testing.contracts.queue import exercise_queue
from factflow_infra_testing.simulation.runner import run
from factflow_infra_testing.wire.stomp import StompFrontEnd
from factflow_infra_testing.wire.stomp.content import Content

# What ends an interpreter or a coroutine is let through and reported when a handler raises it.
LET_THROUGH = (GeneratorExit, KeyboardInterrupt, SystemExit)


async def never(*_args, **_kwargs):
    await asyncio.get_running_loop().create_future()


class StompBackend(SimulatedQueueBackend):
    """Each provider connects to a host of its own, so that its connections can be told from the others'."""

    def __init__(self, profile):
        super().__init__(profile, lambda *_: None)
        self.front_end = StompFrontEnd(self.broker)
        self._names = {}

    async def provider(self):
        client = f"client-{len(self._names) + 1}"
        network = asyncio.get_running_loop().network
        network.serve(lambda: self.front_end.connection(exposed=True, client=client), [client], 61613)
        provider = ArtemisQueueProvider(QueueSettings(uri=f"stomp://artemis:artemis@{client}:61613", heartbeat=30))
        self._names[provider] = client
        return provider

    async def sever(self, provider):
        self.broker.disconnect(self._names[provider])
        await asyncio.sleep(0.001)

    async def stall(self, provider):
        network = asyncio.get_running_loop().network
        for end in network.connections(None):
            if end.name.startswith("test>" + self._names[provider] + ":"):
                network.silence(end)

    async def kill(self, provider):
        provider._transport.connect = never
        self.broker.disconnect(self._names[provider])
        await asyncio.sleep(0.001)

    async def inject(self, destination):
        headers = {"factflow-wire-timestamp": "no moment"}
        body = b"\xff written by another program"
        content = Content(1, destination, "ANYCAST", headers, body, text=False, persistent=True, timestamp=0)
        self.broker.enqueue(f"/queue/{destination.removeprefix('/queue/')}", Message("foreign", content))


class StompHarness(SimulatedQueueHarness):
    def run(self, check):
        async def main():
            backend = StompBackend(self._profile)
            await exercise_queue(check, backend, capabilities=self.capabilities, pace=VIRTUAL_PACE)

        outcome = run(main)
        outcome.result()
        lost = [one for one in outcome.unhandled if not isinstance(one.error, LET_THROUGH)]
        assert not lost, f"nobody took these errors: {lost}"
