"""An in-memory transport that a test steers by hand: it loses connections, refuses, hangs and counts, and never sleeps."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from itertools import count

from factflow_infra.errors import QueueConnectionError
from factflow_infra.queue.engine import QueueProvider
from factflow_infra.queue.naming import AmqpNamingStrategy
from factflow_infra.queue.options import EngineOptions
from factflow_infra.queue.transport import DestinationKind, Envelope

QUICK = EngineOptions(reconnect_base=0.001, reconnect_cap=0.002, cancel_grace=0.05, publish_timeout=5.0)


def key_of(address):
    name = f"{address.destination.kind.value}:{address.destination.name}"
    return f"{name}/{address.subscription}" if address.subscription else name


class FakeDelivery:
    def __init__(self, consumer, envelope, *, redelivered=False, counted=None, undecodable=None):
        self.consumer = consumer
        self.envelope = envelope
        self.redelivered = redelivered
        self.delivery_count = counted
        self.undecodable = undecodable
        self.state = "held"

    async def ack(self):
        await self.consumer.transport.on_ack(self)
        self._settle("acked")

    async def release(self):
        self._settle("released")
        self.consumer.transport.give_back(self)
        self.consumer.transport.pump()

    def _settle(self, state):
        assert self.state == "held", f"settled twice: {self.state}, then {state}"
        if not self.consumer.alive:
            raise QueueConnectionError("the channel of this delivery is gone")
        self.state = state
        self.consumer.held.remove(self)
        self.consumer.transport.log.append((state, self.envelope.message.message_id))
        self.consumer.transport.pump()


class FakeConsumer:
    def __init__(self, transport, address, prefetch, on_delivery, on_cancelled):
        self.transport = transport
        self.address = address
        self.key = key_of(address)
        self.prefetch = prefetch
        self.on_delivery = on_delivery
        self.on_cancelled = on_cancelled
        self.taking = True
        self.alive = True
        self.held = []
        self.most_held = 0

    async def cancel(self):
        if self.transport.cancel_hook is not None:
            self.transport.cancel_hook()
        self.taking = False

    async def close(self):
        self.taking = False
        self.end()

    def end(self):
        if self.alive:
            self.alive = self.taking = False
            for delivery in reversed(self.held):
                delivery.state = "lost"
                self.transport.give_back(delivery)
            self.held.clear()
            self.transport.consumers.remove(self)
            if not self.address.durable:
                self.transport.queues.pop(self.key, None)
            self.transport.pump()


class FakeTransport:
    """``counts``: whether it counts deliveries, as a quorum queue does."""

    def __init__(self, *, counts=False):
        self.counts = counts
        self.up = False
        self.refuse_connect = None
        self.connects = 0
        self.closed = 0
        self.on_lost = None
        self.queues = defaultdict(deque)
        self.consumers = []
        self.published = []
        self.log = []
        self.delays = []
        self.serial = count(1)
        self.publish_hook = None
        self.ack_hook = None
        self.consume_hook = None
        self.connect_hook = None
        self.cancel_hook = None
        self.checked = []

    # The seam

    async def connect(self, on_lost):
        self.connects += 1
        if self.connect_hook is not None:
            await self.connect_hook()
        if self.refuse_connect is not None:
            raise self.refuse_connect
        self.up = True
        self.on_lost = on_lost

    async def close(self):
        self.closed += 1
        self.up = False
        for consumer in list(self.consumers):
            consumer.end()

    def check(self, address, message, *, delay):
        self.checked.append((address, message, delay))

    async def publish(self, address, envelope, *, delay=0.0):
        if not self.up:
            raise QueueConnectionError("not connected")
        self.published.append((key_of(address), envelope, delay))
        if self.publish_hook is not None:
            await self.publish_hook(address, envelope)
        self.put(address, envelope, delay)

    async def consume(self, address, *, prefetch, concurrency, on_delivery, on_cancelled):
        self.concurrency = concurrency
        if not self.up:
            raise QueueConnectionError("not connected")
        if self.consume_hook is not None:
            await self.consume_hook(address)
        consumer = FakeConsumer(self, address, prefetch, on_delivery, on_cancelled)
        self.consumers.append(consumer)
        self.queues[consumer.key]
        asyncio.get_running_loop().call_soon(self.pump)
        return consumer

    # The broker

    async def on_ack(self, delivery):
        if self.ack_hook is not None:
            await self.ack_hook(delivery)

    def put(self, address, envelope, delay=0.0):
        self.delays.append(delay)
        key = key_of(address)
        self.log.append(("put", key, envelope.message.message_id))
        if address.destination.kind is DestinationKind.TOPIC and address.subscription is None:
            for name in [name for name in self.queues if name.startswith(key + "/")]:
                self.queues[name].append((envelope, 0, None))
        else:
            self.queues[key].append((envelope, 0, None))
        self.pump()

    def inject(self, key, envelope, *, seen=0, undecodable=None):
        self.queues[key].append((envelope, seen, undecodable))
        self.pump()

    def give_back(self, delivery):
        seen = delivery.seen + 1
        self.queues[delivery.consumer.key].appendleft((delivery.envelope, seen, delivery.undecodable))

    def pump(self):
        for consumer in list(self.consumers):
            queue = self.queues[consumer.key]
            while consumer.taking and queue and len(consumer.held) < consumer.prefetch:
                envelope, seen, undecodable = queue.popleft()
                delivery = FakeDelivery(
                    consumer,
                    envelope,
                    redelivered=seen > 0,
                    counted=seen + 1 if self.counts else None,
                    undecodable=undecodable,
                )
                delivery.seen = seen
                consumer.held.append(delivery)
                consumer.most_held = max(consumer.most_held, len(consumer.held))
                consumer.on_delivery(delivery)

    def lose(self, error=None):
        """The connection breaks; what was held goes back."""
        self.up = False
        on_lost, self.on_lost = self.on_lost, None
        for consumer in list(self.consumers):
            consumer.taking = False
        for consumer in list(self.consumers):
            consumer.end()
        on_lost(error)

    # What tests look at

    def waiting(self, name):
        return [envelope for envelope, *_ in self.queues[f"queue:{name}"]]

    def sent_to(self, name):
        return [envelope for key, envelope, _ in self.published if key == f"queue:{name}"]

    def count(self, *entry):
        return self.log.count(entry)


def provider_on(transport, options=QUICK):
    return QueueProvider(transport, AmqpNamingStrategy(), options)


async def until(condition, *, turns=2000):
    """Let the loop turn until ``condition()``; with quick options, timers are a millisecond."""
    for turn in range(turns):
        if condition():
            return
        await asyncio.sleep(0 if turn < turns // 2 else 0.001)
    raise AssertionError("it did not come about")


async def turns(n=20):
    for _ in range(n):
        await asyncio.sleep(0)


def envelope(message, attempts=0, deliveries=0):
    return Envelope(message, attempts, deliveries)
