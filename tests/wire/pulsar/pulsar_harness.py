"""The queue contract's harness for the production Pulsar provider: on the client's stand-in, in virtual time, and on the real
client over the wire, in real time.
"""

import asyncio

from pulsar_clients import Gate, connect, run_loop, url_of

from factflow_infra.queue.naming import PulsarNamingStrategy
from factflow_infra.queue.pulsar import PulsarQueueProvider, wire
from factflow_infra.queue.settings import QueueSettings
from factflow_infra.queue.transport import Address, Destination, DestinationKind
from factflow_infra_testing.api.pulsar.provider import attach, listening
from factflow_infra_testing.broker import SimulatedBroker
from factflow_infra_testing.broker.events import FAULT
from factflow_infra_testing.broker.faults import CONFIRM_LOST
from factflow_infra_testing.contracts import LIVE_PACE, PlainQueueBackend
from factflow_infra_testing.contracts.harnesses.simulated_queue import (
    SimulatedQueueBackend,
    SimulatedQueueHarness,
)
from factflow_infra_testing.contracts.queue import QueueCapability, exercise_queue
from factflow_infra_testing.simulation.runner import run
from factflow_infra_testing.wire.pulsar.frames import Content
from factflow_infra_testing.wire.serving import serve

URI = "pulsar://broker:6650"
WORK = Address(Destination(DestinationKind.QUEUE, "work", "work"))
FOREIGN = {wire.TIMESTAMP: "no moment", wire.ID: "foreign"}


def simulated(scenario):
    """What ``scenario()`` gives, in virtual time, with a broker at ``URI``."""

    async def main():
        listening(SimulatedBroker("pulsar"), "broker", exposed=True)
        return await scenario()

    return run(main).result()


async def never(*_args, **_kwargs):
    await asyncio.get_running_loop().create_future()


def topic_of(destination):
    naming = PulsarNamingStrategy()
    return naming.encode(naming.destination(destination))


class ApiBackend(SimulatedQueueBackend):
    """Each provider connects to a host of its own, so that its connections can be told from the others'."""

    def __init__(self, subscription_type="shared"):
        super().__init__("pulsar", lambda *_: None)
        self._front_end = listening(self.broker, "broker", exposed=True)
        self._subscription_type = subscription_type
        self._names = {}

    async def provider(self):
        client = f"client-{len(self._names) + 1}"
        attach(self._front_end, client, exposed=True, client=client)
        settings = QueueSettings(
            uri=f"pulsar://{client}:6650", subscription_type=self._subscription_type, reconnect_base=0.05
        )
        provider = PulsarQueueProvider(settings)
        self._names[provider] = client
        return provider

    async def sever(self, provider):
        if (live := provider._transport._live) is not None:
            live.session.lose("cut off by the test")
        await asyncio.sleep(0.001)

    async def start_broker(self):
        # Longer than the client may take to come back by itself: a real broker takes longer still.
        await asyncio.sleep(5)
        await super().start_broker()

    async def lose_confirm(self, destination):
        """A lost answer alone is made good by the client, which connects and sends again; so the broker is away afterwards."""

        def struck(event):
            if event.kind == FAULT and event.reason == CONFIRM_LOST:
                self.broker.loop.call_soon(self._be_away)

        self.broker.observe(struck)
        await super().lose_confirm(destination)

    def _be_away(self):
        self.broker.downtime = 5.0
        self.broker.restart()

    async def stall(self, provider):
        self.broker.stall_client(self._names[provider], 3600.0)

    async def kill(self, provider):
        provider._transport.connect = never
        await self.sever(provider)

    async def inject(self, destination):
        properties = [{"key": key, "value": value} for key, value in FOREIGN.items()]
        metadata = {"producer_name": "foreign", "sequence_id": 0, "publish_time": 1, "properties": properties}
        self.broker.advance()
        topic = self._front_end.topics.topic(topic_of(destination))
        content = Content(b"", metadata, b"\xff written by another program", intact=True)
        topic.publish(content, client="foreign", laboratory=False, due=None)
        self.broker.flush()


class ApiHarness(SimulatedQueueHarness):
    def __init__(self, subscription_type="shared", **options):
        super().__init__("pulsar", **options)
        # The one refusal of a single message that the client tells of is that of one which arrived corrupted (PUL-52). As it may
        # have sent it before, that is no certainty: ``PublishUnconfirmedError``.
        self.capabilities -= {QueueCapability.REFUSE}
        self._subscription_type = subscription_type

    def backend(self):
        return ApiBackend(self._subscription_type)


class WireBackend(PlainQueueBackend):
    """The real client, and the simulated broker behind a socket; each provider goes through a proxy of its own."""

    def __init__(self, url):
        self._url = url
        self._gates = {}

    async def provider(self):
        gate = await Gate.open(self._url)
        provider = PulsarQueueProvider(QueueSettings(uri=gate.url, reconnect_base=0.05, reconnect_cap=0.5))
        self._gates[provider] = gate
        return provider

    async def sever(self, provider):
        if (live := provider._transport._live) is not None:
            live.session.lose("cut off by the test")

    async def kill(self, provider):
        provider._transport.connect = never
        await self.sever(provider)

    async def close(self):
        for gate in self._gates.values():
            await gate.close()

    async def inject(self, destination):
        client = connect(self._url)
        producer = await client.create_producer(topic_of(destination), batching_enabled=False)
        await producer.send(b"foreign", FOREIGN)
        await client.close()


WIRE_CAPABILITIES = frozenset(
    {
        QueueCapability.SEVER,
        QueueCapability.KILL,
        QueueCapability.INJECT,
        QueueCapability.TOPICS,
        QueueCapability.DURABLE_SUBSCRIPTIONS,
        QueueCapability.DELAY,
        QueueCapability.BATCH,
        QueueCapability.ORDERING_KEY,
    }
)


class WireHarness:
    capabilities = WIRE_CAPABILITIES

    def run(self, check):
        async def main():
            async with await serve(profile="pulsar") as server:
                backend = WireBackend(url_of(server))
                await exercise_queue(check, backend, capabilities=self.capabilities, pace=LIVE_PACE)

        run_loop(main())
