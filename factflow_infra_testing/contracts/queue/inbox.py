"""Handlers for the behaviours: they record what they get, and can be held, scripted and waited for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from factflow_infra.queue.messages import MessageStatus
from factflow_infra_testing.contracts.pace import Signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from factflow_infra.queue.messages import MessageHandler, QueueMessage


class Inbox:
    """A handler that records every handling, and how many ran at once.

    ``then``: its verdict, or the handler that finds it.
    """

    def __init__(self, then: MessageHandler | MessageStatus | None = None, *, patience: float) -> None:
        self.messages: list[QueueMessage] = []
        self.started_at: list[float] = []
        self.finished: list[str] = []
        self.running: list[str] = []
        self.most_at_once = 0
        self.overlaps: list[str] = []
        self._then = then
        self._signal = Signal(patience)

    async def __call__(self, message: QueueMessage) -> MessageStatus | None:
        self.messages.append(message)
        self.started_at.append(asyncio.get_running_loop().time())
        if message.message_id in self.running:
            self.overlaps.append(message.message_id)
        self.running.append(message.message_id)
        self.most_at_once = max(self.most_at_once, len(self.running))
        self._signal.notify()
        try:
            if self._then is None or isinstance(self._then, MessageStatus):
                return self._then
            return await self._then(message)
        finally:
            self.running.remove(message.message_id)
            self.finished.append(message.message_id)
            self._signal.notify()

    @property
    def ids(self) -> list[str]:
        return [message.message_id for message in self.messages]

    @property
    def bodies(self) -> list[bytes]:
        return [message.body for message in self.messages]

    async def until(self, count: int) -> list[QueueMessage]:
        """The first ``count`` messages, once their handling has started."""
        await self._signal.wait_for(
            lambda: len(self.messages) >= count,
            lambda: f"expected {count} deliveries, got {len(self.messages)}: {self.ids}",
        )
        return self.messages[:count]

    async def until_finished(self, count: int) -> list[QueueMessage]:
        """The first ``count`` messages, once that many handlings have ended."""
        await self._signal.wait_for(
            lambda: len(self.finished) >= count,
            lambda: (
                f"expected {count} finished handlings, got {len(self.finished)}: {self.finished}; started: {self.ids}"
            ),
        )
        return self.messages[:count]

    async def until_seen(self, ids: set[str]) -> None:
        """Until every one of ``ids`` was delivered at least once."""
        await self._signal.wait_for(
            lambda: ids.issubset(self.ids),
            lambda: f"never delivered: {sorted(ids.difference(self.ids))}; delivered: {self.ids}",
        )


class Gate:
    """A handler that waits until it is opened, then gives its verdict."""

    def __init__(self, verdict: MessageStatus | None = None) -> None:
        self._verdict = verdict
        self._opened = asyncio.Event()

    def open(self) -> None:
        self._opened.set()

    async def __call__(self, message: QueueMessage) -> MessageStatus | None:  # noqa: ARG002 - a handler
        await self._opened.wait()
        return self._verdict


class HandlerError(Exception):
    """What the failing handlers of the behaviours raise."""


def fails(
    times: int | None = None, *, error: Callable[[], BaseException] = lambda: HandlerError("told to fail")
) -> MessageHandler:
    """A handler that raises the first ``times`` times that it sees a message (``None``: always), then acks."""
    seen: dict[str, int] = {}

    async def handler(message: QueueMessage) -> MessageStatus | None:
        seen[message.message_id] = seen.get(message.message_id, 0) + 1
        if times is None or seen[message.message_id] <= times:
            raise error()
        return MessageStatus.ACK

    return handler


def answers(*verdicts: MessageStatus | None) -> MessageHandler:
    """A handler that gives each message the verdicts in turn, and the last one ever after."""
    seen: dict[str, int] = {}

    async def handler(message: QueueMessage) -> MessageStatus | None:
        nth = seen.get(message.message_id, 0)
        seen[message.message_id] = nth + 1
        return verdicts[min(nth, len(verdicts) - 1)]

    return handler


async def never(message: QueueMessage) -> MessageStatus | None:  # noqa: ARG001 - a handler
    """A handler that waits until it is cancelled."""
    await asyncio.Event().wait()
    return None
