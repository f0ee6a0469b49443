"""The queue contract's harness for the production Artemis provider on the wire, in virtual time."""

import asyncio

from factflow_infra.queue.artemis import ArtemisQueueProvider
from factflow_infra.queue.settings import QueueSettings
from factflow_infra_testing.broker.entries import Message
from factflow_infra_testing.broker.outcomes import Outcome
from factflow_infra_testing.contracts.harnesses.simulated_queue import SimulatedQueueBackend, SimulatedQueueHarness
from factflow_infra_testing.contracts.queue.capabilities import QueueCapability
from factflow_infra_testing.wire.stomp.content import Content
from factflow_infra_testing.wire.stomp.frontend import PASSWORD, PORT, USER, StompFrontEnd


async def never(*_args, **_kwargs):
    await asyncio.get_running_loop().create_future()


class StompBackend(SimulatedQueueBackend):
    """Each provider connects to a host of its own, so that its connections can be told from the others'."""

    def __init__(self):
        super().__init__("artemis", lambda *_: None)
        self.front_end = StompFrontEnd(self.broker)
        self._names = {}
        self._refused = []
        self._meet = self.broker.meet_publish
        self.broker.meet_publish = self._meet_publish

    async def provider(self):
        client = f"client-{len(self._names) + 1}"
        network = asyncio.get_running_loop().network
        network.serve(lambda: self.front_end.connection(exposed=True, client=client), [client], PORT)
        provider = ArtemisQueueProvider(QueueSettings(uri=f"stomp://{USER}:{PASSWORD}@{client}", heartbeat=30))
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
        provider._transport.consume = never
        self.broker.disconnect(self._names[provider])
        await asyncio.sleep(0.001)

    async def refuse(self, destination):
        self._refused.append(destination.removeprefix("/queue/"))

    def unmet(self):
        return super().unmet() + self._refused

    def _meet_publish(self, line, label, key, apply, confirm):
        if label in self._refused:
            self._refused.remove(label)
            apply = lambda: Outcome.REFUSED  # noqa: E731
        self._meet(line, label, key, apply, confirm)

    async def inject(self, destination):
        headers = {"factflow-wire-timestamp": "no moment"}
        body = b"\xff written by another program"
        content = Content(1, destination, "ANYCAST", headers, body, text=False, persistent=True, timestamp=0)
        self.broker.enqueue(f"/queue/{destination.removeprefix('/queue/')}", Message("foreign", content))


class StompHarness(SimulatedQueueHarness):
    def __init__(self):
        super().__init__("artemis")
        # The provider remembers what it held, and flags it itself.
        self.capabilities |= {QueueCapability.REDELIVERED_FLAG}

    def backend(self):
        return StompBackend()
