"""Own stompman code that lets ``subscribe`` NACK what its handler raises on: Artemis takes a NACK for an ACK, and the message is gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import stompman

from .support import Database, ids, numbered

if TYPE_CHECKING:
    from factflow_infra_testing import Process, Simulation

TIERS = ("wire",)
FROM_QUEUE = {"subscription-type": "ANYCAST"}
TO_QUEUE = {"destination-type": "ANYCAST", "persistent": "true"}
DOCUMENTS = "/queue/documents"
LOST = (stompman.Error, OSError)


class Index(Database):
    """Refuses each document the first time: it has to be warmed up."""

    def __init__(self) -> None:
        super().__init__()
        self._warm: dict[str, None] = {}

    async def add(self, key: str) -> None:
        await self._request()
        if key not in self._warm:
            self._warm[key] = None
            raise TimeoutError(f"the index is not ready for {key}")
        await self.insert(key)


async def serve(uri: str, subscribe) -> None:
    """A client, as long as the process lives: ``subscribe(client)`` makes its subscription."""
    place = urlsplit(uri)
    server = stompman.ConnectionParameters(
        place.hostname or "", place.port or 0, place.username or "", place.password or ""
    )
    while True:
        try:
            async with stompman.Client([server], connect_retry_attempts=100) as client:
                subscription = await subscribe(client)
                try:
                    await asyncio.Event().wait()
                finally:
                    await subscription.unsubscribe()
        except* LOST:
            await asyncio.sleep(1)


def document_of(frame: stompman.MessageFrame) -> str:
    return frame.headers["factflow-wire-id"]


async def broken(_: Process, uri: str, index: Index) -> None:
    async def handle(frame: stompman.MessageFrame) -> None:
        await index.add(document_of(frame))  # raises: stompman says NACK, for another try

    def subscribe(client: stompman.Client):
        return client.subscribe(DOCUMENTS, handle, headers=FROM_QUEUE, on_suppressed_exception=lambda *_: None)

    await serve(uri, subscribe)


async def mended(_: Process, uri: str, index: Index) -> None:
    def subscribe(client: stompman.Client):
        async def handle(frame: stompman.AckableMessageFrame) -> None:
            while True:  # try here, and never NACK: an ACK when it is done, or none at all
                try:
                    await index.add(document_of(frame))
                    break
                except TimeoutError:
                    await asyncio.sleep(0.1)
            await frame.ack()

        return client.subscribe_with_manual_ack(DOCUMENTS, handle, headers=FROM_QUEUE)

    await serve(uri, subscribe)


async def scenario(sim: Simulation, service) -> None:
    index = Index()
    uri = sim.uri("artemis")
    sim.start(lambda process: service(process, uri, index), name="indexer")
    for document in numbered(3):
        await sim.queue("artemis").publish("documents", document)
    await sim.drain()
    sim.check.exactly_once_effect(index.inserted, expected=ids(numbered(3)))
