"""What the services of the corpus share: a database outside every process, and how a service runs until it is told to end."""

from __future__ import annotations

import asyncio
import os
from typing import IO, TYPE_CHECKING, Any

from factflow_infra.protocols import QueueMessage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from factflow_infra.protocols import QueueProtocol

ROUND_TRIP_SECONDS = 0.002


class Database:
    """A table of another machine: what was committed survives a kill of the service, even one that never saw the answer."""

    def __init__(self) -> None:
        self.rows: dict[str, int | str] = {}
        self.inserted: list[str] = []

    async def _request(self) -> None:
        await asyncio.sleep(ROUND_TRIP_SECONDS / 2)

    async def get(self, key: str) -> int | str | None:
        await self._request()
        value = self.rows.get(key)
        await self._request()
        return value

    async def put(self, key: str, value: int | str) -> None:
        await self._request()
        self.rows[key] = value
        self.inserted.append(key)
        await self._request()

    async def insert(self, key: str, value: int | str = 1) -> bool:
        """Insert a row; ``False`` where the key is taken (a unique constraint)."""
        await self._request()
        free = key not in self.rows
        if free:
            self.rows[key] = value
            self.inserted.append(key)
        await self._request()
        return free

    async def append(self, key: str) -> None:
        """Add a row without a key: twice is two rows."""
        await self._request()
        self.inserted.append(key)
        await self._request()

    async def increment(self, key: str, *, once: str | None = None) -> None:
        """Add 1 to a row; with ``once``, in the same transaction as the insertion of that key, or not at all."""
        await self._request()
        if once is None or once not in self.rows:
            if once is not None:
                self.rows[once] = 1
            self.rows[key] = int(self.rows.get(key, 0)) + 1
        await self._request()


async def run_until_terminated(queue: QueueProtocol, *, timeout: float | None = 5.0) -> None:
    """Serve until cancelled, which is how a process is told to terminate; then stop in good order."""
    try:
        await asyncio.Event().wait()
    finally:
        await queue.stop(timeout=timeout)


def sync_file(file: IO[Any]) -> None:
    """Have what was written to an open file survive a power loss."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(path: str) -> None:
    """Have the names in a folder survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def numbered(count: int, *, prefix: str = "m") -> list[QueueMessage]:
    """Messages ``m0``, ``m1`` ... with their number as the body."""
    return [QueueMessage.from_json({"n": n}, message_id=f"{prefix}{n}") for n in range(count)]


def ids(messages: Iterable[QueueMessage]) -> list[str]:
    return [message.message_id for message in messages]
