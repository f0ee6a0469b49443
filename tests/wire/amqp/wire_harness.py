"""The queue contract's harness for the production RabbitMQ provider on the wire, in virtual time."""

import asyncio

from pamqp import commands

from factflow_infra.queue.rabbitmq import RabbitMqQueueProvider, wire
from factflow_infra.queue.settings import QueueSettings
from factflow_infra_testing.broker.entries import Message
from factflow_infra_testing.broker.outcomes import Outcome
from factflow_infra_testing.contracts.harnesses.simulated_queue import SimulatedQueueBackend, SimulatedQueueHarness
from factflow_infra_testing.wire.amqp import AmqpFrontEnd
from factflow_infra_testing.wire.amqp.content import Content


async def never(*_args, **_kwargs):
    await asyncio.get_running_loop().create_future()


class WireBackend(SimulatedQueueBackend):
    """Each provider connects to a host of its own, so that its connections can be told from the others'."""

    def __init__(self, profile):
        super().__init__(profile, lambda *_: None)
        self.front_end = AmqpFrontEnd(self.broker)
        self._names = {}
        self._refused = {}
        self._meet = self.broker.meet_publish
        self.broker.meet_publish = self._meet_publish

    async def provider(self):
        client = f"client-{len(self._names) + 1}"
        network = asyncio.get_running_loop().network
        network.serve(lambda: self.front_end.connection(exposed=True, client=client), [client], 5672)
        settings = QueueSettings(
            uri=f"amqp://guest:guest@{client}:5672/", queue_type=self.broker.profile.default_type, heartbeat=30
        )
        provider = RabbitMqQueueProvider(settings)
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

    async def refuse(self, destination):
        self._refused[destination.removeprefix("/queue/")] = None

    def unmet(self):
        return super().unmet() + [label for label, first in self._refused.items() if first is None]

    def _meet_publish(self, line, label, key, apply, confirm):
        # Twice: the provider publishes once more after a nack, which a queue that is being deleted gives.
        if label in self._refused:
            first, left = self._refused[label] or (key, 2)
            if key == first:
                self._refused[label] = (first, left - 1)
                if left == 1:
                    del self._refused[label]
                apply = lambda: Outcome.REFUSED  # noqa: E731
        self._meet(line, label, key, apply, confirm)

    async def inject(self, destination):
        properties = commands.Basic.Properties(headers={wire.TIMESTAMP: "no moment"}, message_id="foreign")
        content = Content(properties.marshal(), properties, b"\xff written by another program")
        self.broker.enqueue(destination.removeprefix("/queue/"), Message("foreign", content))


class WireHarness(SimulatedQueueHarness):
    def backend(self):
        return WireBackend(self._profile)
