"""Takes a listing for a snapshot: what it deletes after its work is what is listed then, not what it has worked on."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from factflow_infra.errors import StorageError

from .support import Database

if TYPE_CHECKING:
    from factflow_infra_testing import Process, Simulation

STORAGE = "s3"
DOCUMENTS = 3


async def serve(work) -> None:
    while True:
        with contextlib.suppress(StorageError):  # the next round begins anew
            await work()
        await asyncio.sleep(20)


async def broken(process: Process, database: Database) -> None:
    storage = process.storage(STORAGE)

    async def work() -> None:
        async for key in storage.list("inbox/"):
            await database.insert(key)
        async for key in storage.list("inbox/"):
            await storage.delete(key)

    await serve(work)


async def mended(process: Process, database: Database) -> None:
    storage = process.storage(STORAGE)

    async def work() -> None:
        done = []
        async for key in storage.list("inbox/"):
            await database.insert(key)
            done.append(key)
        for key in done:
            await storage.delete(key)

    await serve(work)


async def scenario(sim: Simulation, service) -> None:
    database = Database()
    sim.start(lambda process: service(process, database), name="archivist")
    inbox = sim.storage(STORAGE)
    for number in range(DOCUMENTS):
        await sim.sleep(23)  # between two rounds of the archivist, unless a fault holds it up
        await inbox.write(f"inbox/{number}", b"document")
    await sim.drain()
    waiting = {key async for key in inbox.list("inbox/")}  # not archived yet, and not deleted
    missing = {f"inbox/{number}" for number in range(DOCUMENTS)} - database.rows.keys() - waiting
    assert not missing, f"deleted and never archived: {sorted(missing)}"
