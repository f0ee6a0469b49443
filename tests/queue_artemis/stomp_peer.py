"""A scripted STOMP server on the simulated network: it writes down what it is told, and answers as a test wants."""

from __future__ import annotations

import asyncio

from stompman import ConnectedFrame, FrameParser, ReceiptFrame, dump_frame

from factflow_infra.queue.artemis.session import ArtemisOptions
from factflow_infra.queue.artemis.transport import ArtemisTransport
from factflow_infra.queue.messages import QueueMessage
from factflow_infra.queue.transport import Address, Destination, DestinationKind, Envelope
from factflow_infra_testing.simulation.runner import run

ORDERS = Address(Destination(DestinationKind.QUEUE, "orders", "orders"))


class Peer(asyncio.Protocol):
    """One connection. ``frames``: (command, headers) of what came, heart-beats as ``beats``."""

    def __init__(self, server):
        self.server = server
        self.frames = []
        self.beats = 0
        self.ended = False
        self._parser = FrameParser()

    def connection_made(self, transport):
        self.transport = transport
        self.server.peers.append(self)

    def data_received(self, data):
        for frame in self._parser.parse_frames_from_chunk(data):
            name = type(frame).__name__.removesuffix("Frame").upper()
            if name == "HEARTBEAT":
                self.beats += 1
                continue
            self.frames.append((name, dict(frame.headers)))
            self.server.answer(self, name, frame.headers)

    def connection_lost(self, error):
        del error
        self.ended = True

    @property
    def commands(self):
        return [name for name, _ in self.frames]

    def say(self, frame):
        self.transport.write(dump_frame(frame))

    def receipt(self, headers):
        if "receipt" in headers:
            self.say(ReceiptFrame(headers={"receipt-id": headers["receipt"]}))


class Server:
    """``on``: what to do instead of answering politely, by command: ``on["SEND"] = lambda peer, headers: ...``."""

    def __init__(self, heart_beat="10000,10000"):
        self.peers = []
        self.on = {}
        self.heart_beat = heart_beat

    def answer(self, peer, name, headers):
        if name in self.on:
            self.on[name](peer, headers)
        elif name == "CONNECT":
            peer.say(ConnectedFrame(headers={"version": "1.2", "heart-beat": self.heart_beat}))
        else:
            peer.receipt(headers)
            if name == "DISCONNECT":
                peer.transport.close()


def against(server, scenario, *, seconds=10.0):
    """Run ``scenario(client, server)`` with a client of ``server``, in virtual time; its heart-beats are every ten seconds."""

    async def main():
        asyncio.get_running_loop().network.serve(lambda: Peer(server), ["artemis"], 61613)
        client = Client(heartbeat=seconds)
        try:
            await scenario(client)
        finally:
            await client.transport.close()

    run(main).result()


class Client:
    """A transport towards the server, and what happened to it."""

    def __init__(self, **options):
        self.transport = ArtemisTransport(
            ArtemisOptions(hosts=(("artemis", 61613),), user="u", password="p", **options)
        )
        self.lost = []
        self.taken = []
        self.cancelled = []

    async def connect(self):
        await self.transport.connect(self.lost.append)

    async def publish(self, body=b"x"):
        await self.transport.publish(ORDERS, Envelope(QueueMessage(body)))

    async def consume(self, prefetch=100, concurrency=1):
        return await self.transport.consume(
            ORDERS,
            prefetch=prefetch,
            concurrency=concurrency,
            on_delivery=self.taken.append,
            on_cancelled=self.cancelled.append,
        )
