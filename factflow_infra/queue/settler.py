"""Carrying out what was decided: the copy confirmed first, then the ack, and never an ack without the copy."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from factflow_infra.errors import QueueError
from factflow_infra.queue.backoff import Backoff
from factflow_infra.queue.settling import Ack

if TYPE_CHECKING:
    from factflow_infra.queue.connection import ConnectionKeeper
    from factflow_infra.queue.intake import Intake, Item
    from factflow_infra.queue.options import EngineOptions
    from factflow_infra.queue.publishing import Publisher
    from factflow_infra.queue.settling import Copy, Decision

_log = logging.getLogger("factflow_infra.queue")


class Settler:
    """Settles what one intake took in."""

    def __init__(
        self, intake: Intake, publisher: Publisher, connection: ConnectionKeeper, options: EngineOptions
    ) -> None:
        self._intake = intake
        self._publisher = publisher
        self._connection = connection
        self._options = options

    async def try_once(self, item: Item, decision: Decision) -> bool:
        """Carry ``decision`` out. False where the copy was not confirmed: the message is still held."""
        if not item.session.alive:
            return True  # it was given back, and comes again
        if not isinstance(decision, Ack):
            try:
                await self._publish(decision)
            except QueueError as error:
                if not item.session.alive:
                    return True
                _log.warning(
                    "the copy of message %s for %s was not confirmed; the message is held and the copy published again: %s",
                    decision.envelope.message.message_id,
                    decision.address.destination.text,
                    error,
                )
                return False
        await self.ack(item)
        return True

    async def until_done(self, item: Item, decision: Decision) -> None:
        """Carry ``decision`` out, after a failed try and however often it takes, while the message is held."""
        backoff = Backoff(self._options.reconnect_base, self._options.reconnect_cap)
        while True:
            await asyncio.wait([item.session.ended], timeout=backoff.next())
            if await self.try_once(item, decision):
                return

    async def _publish(self, copy: Copy) -> None:
        if not self._connection.connected:
            await self._connection.ensure()
        await self._publisher.send(copy.address, copy.envelope, copy.delay)

    async def ack(self, item: Item) -> None:
        """Ack, unless the message went back meanwhile. A failed ack ends the session: the message comes again."""
        session = item.session
        if not session.alive:
            return
        try:
            await item.delivery.ack()
        except QueueError as error:
            self._intake.broken(session, error)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._intake.broken(session, QueueError(f"the ack was cancelled from within the client library: {error}"))
