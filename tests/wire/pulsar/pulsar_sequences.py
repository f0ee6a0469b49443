"""Generated sequences of what a program does with Pulsar, run on the API tier, the wire tier and a real broker, and compared.

``python tests/wire/pulsar/pulsar_sequences.py --count 200`` compares the stand-in with the real client on the wire tier;
``--url pulsar://127.0.0.1:6650`` compares both with the broker that is there. Each sequence has a topic of its own, and many run
at once, because most of the time they wait: for acks that are grouped, nacks that are delayed, connections that come back.

What is compared, after every operation: its outcome, and what has come to each subscription since the one before: bodies,
redelivery counts, keys, properties, positions. In order where one consumer takes from the subscription; who of several got
what is the broker's choice, and left out. So is which of several consumers of a Failover subscription is the active one, and
whose a key is: of these there is one at a time. Consumers that share are closed together, and not sought with, for what each
of them holds is chosen too.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pulsar
import pulsar.asyncio

sys.path.insert(0, str(Path(__file__).parent))
from pulsar_clients import Gate, connect, run_loop
from pulsar_clients import api_bench as api
from pulsar_clients import wire_bench as wire

KINDS = ("Shared", "Shared", "KeyShared", "Exclusive", "Failover")
SETTLE = 1.0
"""Seconds after each operation: longer than acks are grouped, nacks delayed, and a lost connection is away. A busy machine needs
more."""
ROUND = 25
"""Sequences at once."""


def sequence(seed):
    """Operations as tuples: a name, and small numbers that say which of what is there."""
    rng = random.Random(seed)
    kinds = {name: rng.choice(KINDS) for name in "ab"}
    ops = [("producer", rng.random() < 0.3), ("subscribe", "a", kinds["a"], rng.random() < 0.8)]
    if rng.random() < 0.5:
        ops.append(("subscribe", "b", kinds["b"], rng.random() < 0.5))
    ops.append(("send", rng.randint(2, 4), rng.choice([None, "k1"])))
    weights = {
        "send": 5, "ack": 5, "nack": 4, "subscribe": 3, "close": 2, "drop": 3, "redeliver": 1, "cumulative": 2,
        "seek": 1, "last": 1, "unsubscribe": 1, "delay": 1, "again": 1, "bury": 2,
    }  # fmt: skip
    for _ in range(rng.randint(5, 9)):
        name = rng.choices(tuple(weights), tuple(weights.values()))[0]
        which, pick = rng.choice("aaab"), rng.randrange(8)
        if name == "send":
            ops.append((name, rng.randint(1, 4), rng.choice([None, "k1", "k2"])))
        elif name == "subscribe":
            ops.append((name, which, kinds[which] if rng.random() < 0.9 else rng.choice(KINDS), rng.random() < 0.7))
        elif name in ("drop", "delay", "again"):
            ops.append((name,))
        else:
            ops.append((name, which, pick))
    return [*ops, ("wait",)]


class Program:
    """One sequence under way: a topic, a producer, the consumers of two subscriptions."""

    def __init__(self, client, gate, topic, settle):
        self.client = client
        self.gate = gate
        self.topic = topic
        self.settle = settle
        self.producer = None
        self.dead = None
        self.buried = 0
        self.sent = 0
        self.consumers = {"a": [], "b": []}
        self.arrived = {"a": [], "b": []}
        self.latest = {"a": {}, "b": {}}
        self.tasks = {}
        self.told = []

    async def run(self, ops):
        for op in ops:
            try:
                outcome = await asyncio.wait_for(getattr(self, f"op_{op[0]}")(*op[1:]), 20)
            except pulsar.asyncio.PulsarException as error:
                outcome = error.error().name
            except TimeoutError:
                outcome = "stuck"
            await asyncio.sleep(self.settle)
            self.told.append((op, outcome, *(self.came(name) for name in "ab")))
        for task in self.tasks.values():
            task.cancel()
        for consumers in self.consumers.values():
            for consumer in consumers:
                await consumer.close()
        for producer in (self.producer, self.dead):
            if producer is not None:
                await producer.close()
        return self.told

    def came(self, name):
        arrived, self.arrived[name] = self.arrived[name], []
        return arrived if len(self.consumers[name]) < 2 else sorted(arrived)

    async def take(self, name, consumer):
        while True:
            try:
                message = await consumer.receive()
            except pulsar.asyncio.PulsarException:
                return
            at = message.message_id()
            body = message.data().decode()
            self.latest[name][body] = (consumer, message)
            self.arrived[name].append(
                (
                    at.entry_id(),
                    at.batch_index(),
                    body,
                    message.redelivery_count(),
                    message.partition_key(),
                    tuple(sorted(message.properties().items())),
                    message.topic_name() == self.topic,
                )
            )

    def pick(self, name, number):
        """One of the messages that have come, the same on every tier; ``None`` where there are none."""
        latest = self.latest[name]
        if not latest or not self.consumers[name]:
            return None
        consumer, message = latest[sorted(latest)[number % len(latest)]]
        return (consumer if consumer in self.consumers[name] else self.consumers[name][0]), message

    async def op_producer(self, batches):
        self.producer = await self.client.create_producer(
            self.topic,
            batching_enabled=batches,
            batching_max_messages=2,
            batching_max_publish_delay_ms=60,
            block_if_queue_full=True,
        )

    async def op_again(self):
        """Close the producer, and make one without batches."""
        await self.producer.close()
        await self.op_producer(batches=False)

    async def op_send(self, count, key):
        sends = []
        for _ in range(count):
            body = b"%02d" % self.sent
            sends.append(self.producer.send(body, properties={"n": str(self.sent)}, partition_key=key))
            self.sent += 1
        return [(one.entry_id(), one.batch_index()) for one in await asyncio.gather(*sends)]

    async def op_delay(self):
        """A message that is due in 1.6 s: the broker may be 1 s early, and is given time to be late. What had come before?"""
        body = b"%02d" % self.sent
        self.sent += 1
        await self.producer.send(body, deliver_after=timedelta(seconds=1.6))
        await asyncio.sleep(0.4)
        early = [name for name in "ab" if any(one[2] == body.decode() for one in self.arrived[name])]
        await asyncio.sleep(2.5)
        return early

    async def op_wait(self):
        await asyncio.sleep(self.settle)

    async def op_subscribe(self, name, kind, earliest):
        if kind in ("Failover", "KeyShared") and self.consumers[name]:
            return
        position = pulsar.InitialPosition.Earliest if earliest else pulsar.InitialPosition.Latest
        consumer = await self.client.subscribe(
            self.topic,
            name,
            getattr(pulsar.ConsumerType, kind),
            initial_position=position,
            negative_ack_redelivery_delay_ms=100,
            receiver_queue_size=100,
        )
        self.consumers[name].append(consumer)
        self.tasks[consumer] = asyncio.create_task(self.take(name, consumer))

    async def op_ack(self, name, number):
        if chosen := self.pick(name, number):
            consumer, message = chosen
            await consumer.acknowledge(message)

    async def op_cumulative(self, name, number):
        if chosen := self.pick(name, number):
            consumer, message = chosen
            await consumer.acknowledge_cumulative(message)

    async def op_nack(self, name, number):
        if chosen := self.pick(name, number):
            consumer, message = chosen
            await consumer.negative_acknowledge(message)

    async def op_bury(self, name, number):
        """Dead-letter by a copy, as the provider does: publish it elsewhere, then ack the original. What lies there?"""
        chosen = self.pick(name, number)
        if not chosen:
            return None
        consumer, message = chosen
        if self.dead is None:
            self.dead = await self.client.create_producer(f"{self.topic}-dead", batching_enabled=False)
        count = message.redelivery_count()
        await self.dead.send(message.data(), properties={**message.properties(), "redelivered": str(count)})
        await consumer.acknowledge(message)
        reader = await self.client.create_reader(f"{self.topic}-dead", pulsar.MessageId.earliest)
        self.buried += 1
        lie = [await asyncio.wait_for(reader.read_next(), 10) for _ in range(self.buried)]
        await reader.close()
        return [(one.data().decode(), tuple(sorted(one.properties().items()))) for one in lie]

    async def op_redeliver(self, name, _):
        if (
            len(self.consumers[name]) == 1
        ):  # of several, one may be given what another has just given back, and return it too
            self.consumers[name][0].redeliver_unacknowledged_messages()

    async def op_close(self, name, number):
        del number
        consumers, self.consumers[name] = self.consumers[name], []
        for consumer in consumers:
            await consumer.close()
        if len(consumers) > 1:
            self.arrived[name].clear()  # what the first to close gave back to the others

    async def op_unsubscribe(self, name, number):
        if self.consumers[name]:
            consumer = self.consumers[name][number % len(self.consumers[name])]
            await consumer.unsubscribe()
            self.consumers[name].remove(consumer)
            self.latest[name].clear()

    async def op_seek(self, name, number):
        if len(self.consumers[name]) == 1 and (chosen := self.pick(name, number)):
            consumer, message = chosen
            target = pulsar.MessageId(-1, -1, -1, -1) if number % 2 else pulsar.MessageId.wrap(message.message_id())
            await consumer.seek(target)

    async def op_last(self, name, _):
        if self.consumers[name]:
            last = await self.consumers[name][0].get_last_message_id()
            return last.entry_id(), last.batch_index()
        return None

    async def op_drop(self):
        """Every connection of the client breaks; it makes new ones."""
        self.gate.drop()


async def programs(gate, url, seeds, prefix, settle=SETTLE):
    """What each of the sequences told, by seed; each has a client of its own, so that a drop is its own affair."""

    async def one(seed):
        own = await gate(url)
        client = connect(own.url, operation_timeout_seconds=10)
        try:
            topic = f"persistent://public/default/{prefix}{seed}"
            return await Program(client, own, topic, settle).run(sequence(seed))
        finally:
            await client.close()
            await own.close()

    return dict(zip(seeds, await asyncio.gather(*(one(seed) for seed in seeds)), strict=True))


def on_api(seeds, settle=SETTLE):
    return api(lambda bench: programs(bench.gate, bench.url, seeds, "s", settle))


def on_wire(seeds, settle=SETTLE):
    return wire(lambda bench: programs(Gate.open, bench.url, seeds, "s", settle))


def on_server(url, seeds, prefix, settle):
    return run_loop(programs(Gate.open, url, seeds, prefix, settle))


def differences(one, other):
    """The first step that differs in each sequence that does, for people."""
    for seed, told in one.items():
        for number, (mine, theirs) in enumerate(zip(told, other[seed], strict=True)):
            if mine != theirs:
                yield f"sequence {seed}, step {number}:\n  {mine}\n  {theirs}"
                break


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--url", help="a real broker")
    parser.add_argument("--settle", type=float, default=SETTLE, help="seconds after each operation")
    parser.add_argument("--show", type=int, default=5)
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.count)
    steps, differing, ops = 0, [], Counter()
    prefix = f"compared-{random.SystemRandom().randrange(1 << 32):x}-"
    for begin in range(0, len(seeds), ROUND):
        part = seeds[begin : begin + ROUND]
        told = {"api": on_api(part, options.settle), "wire": on_wire(part, options.settle)}
        differing += [f"api | wire: {text}" for text in differences(told["api"], told["wire"])]
        if options.url:
            live = on_server(options.url, part, prefix, options.settle)
            differing += [f"api | live: {text}" for text in differences(told["api"], live)]
        steps += sum(len(one) for one in told["api"].values())
        ops.update(step[0][0] for one in told["api"].values() for step in one)
        print(f"{begin + len(part)} sequences, {steps} steps, {len(differing)} differ", flush=True)
    for text in differing[: options.show]:
        print(text)
    print(dict(sorted(ops.items())))
    return bool(differing)


if __name__ == "__main__":
    sys.exit(main())
