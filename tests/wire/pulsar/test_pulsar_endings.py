"""What ends while its connection lives: an unnamed subscription, a producer. Neither may stay behind, or take others with it."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from pulsar_harness import URI, WORK, simulated

from factflow_infra.errors import QueueConnectionError
from factflow_infra.queue.messages import QueueMessage
from factflow_infra.queue.pulsar import PulsarQueueProvider
from factflow_infra.queue.pulsar.client import PulsarOptions
from factflow_infra.queue.pulsar.transport import PulsarTransport
from factflow_infra.queue.settings import QueueSettings
from factflow_infra.queue.transport import Envelope


def test_an_unnamed_subscription_that_was_closed_is_forgotten_with_what_waited_for_it():
    async def scenario():
        async with PulsarQueueProvider(QueueSettings(uri=URI)) as provider:
            begun = []

            async def handle(message):
                begun.append(message)
                await asyncio.Event().wait()

            kept = []
            for _ in range(3):
                one = await provider.subscribe("/topic/news", handle, prefetch=1)
                for n in range(5):
                    await provider.publish("/topic/news", QueueMessage(b"%d" % n))
                await asyncio.sleep(1)
                await one.pause()
                await one.resume()
                await asyncio.sleep(1)
                kept += [weakref.ref(subscription) for subscription in provider._transport._ephemeral.values()]
                await one.close(timeout=0)
                begun.clear()
                del one
            await asyncio.sleep(1)
            gc.collect()
            assert provider._transport._live.consumers == {}
            assert kept
            assert all(one() is None for one in kept)

    simulated(scenario)


def test_a_producer_that_was_closed_for_good_costs_its_own_message_and_nothing_else():
    async def scenario():
        lost = []
        transport = PulsarTransport(PulsarOptions(service_url=URI))
        await transport.connect(lost.append)
        await transport.publish(WORK, Envelope(QueueMessage(b"before")))
        (line,) = transport._live.publisher._lines.values()
        await line.producer.close()
        with pytest.raises(QueueConnectionError, match="AlreadyClosed"):
            await transport.publish(WORK, Envelope(QueueMessage(b"on it")))
        await transport.publish(WORK, Envelope(QueueMessage(b"after")))
        await asyncio.sleep(60)
        assert lost == []
        await transport.close()

    simulated(scenario)
