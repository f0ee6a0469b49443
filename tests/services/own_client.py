"""What the services with AMQP code of their own share: aio-pika as its documentation shows it, with the patience it needs."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aio_pika
from aio_pika.exceptions import AMQPError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aio_pika.abc import AbstractChannel

LOST = (AMQPError, OSError, RuntimeError, asyncio.TimeoutError)
"""What a lost connection looks like from aio-pika, together with a ``CancelledError`` that nobody asked for."""
PATIENCE_SECONDS = 20.0


@asynccontextmanager
async def connected(uri: str, **options: object) -> AsyncIterator[AbstractChannel]:
    """A channel on a connection of its own, which is made anew when it is lost: by the caller, who knows what is undone."""
    connection = await aio_pika.connect(uri, timeout=PATIENCE_SECONDS)
    try:
        yield await asyncio.wait_for(connection.channel(**options), PATIENCE_SECONDS)
    finally:
        closing = asyncio.ensure_future(connection.close())
        await asyncio.wait([closing], timeout=1)


async def until_it_works(job) -> None:
    """Do ``job`` again and again until it ends without having lost its connection."""
    while True:
        task = asyncio.ensure_future(job())  # so that a cancellation from within the client is told from our own
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not task.cancelled() and not isinstance(task.exception(), LOST):
            return task.result()
        await asyncio.sleep(0.5)
