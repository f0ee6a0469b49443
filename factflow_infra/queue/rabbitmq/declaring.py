"""Declares what a route or a consumer needs, once a connection, on a channel of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from factflow_infra.errors import TopologyMismatchError
from factflow_infra.queue.rabbitmq.topology import ExchangeBinding, ExchangeSpec, QueueBinding, QueueSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiormq import Channel

    from factflow_infra.queue.rabbitmq.session import Session
    from factflow_infra.queue.rabbitmq.topology import Declaration

_REMEMBERED: Final = 10_000
"""Declarations remembered; past that all are forgotten, and made again when needed. That costs time only."""


class Declarer:
    """Remembers what was declared on this connection. Declaring again what exists changes nothing on the broker."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._channel: Channel | None = None
        self._known: set[Declaration] = set()
        self._lock = asyncio.Lock()

    async def ensure(self, declarations: Iterable[Declaration]) -> None:
        """Have all of ``declarations`` exist, in that order.

        Raises ``TopologyMismatchError`` (naming queue and property), ``QueueAuthenticationError`` where the user may not,
        ``QueueConnectionError``.
        """
        if all(declaration in self._known for declaration in declarations):
            return
        async with self._lock:
            for declaration in declarations:
                if declaration not in self._known:
                    await self._declare(declaration)
                    if len(self._known) >= _REMEMBERED:
                        self._known.clear()
                    self._known.add(declaration)

    def forget(self, declarations: Iterable[Declaration]) -> None:
        """Declare these again the next time: one of them turned out to be gone."""
        self._known.difference_update(declarations)

    async def _ready(self) -> Channel:
        if self._channel is None or self._channel.is_closed:
            self._channel = await self._session.channel(confirms=False)
        return self._channel

    async def _declare(self, declaration: Declaration) -> None:
        # Of a request that failed, or whose caller was cancelled, the channel is closing: but the client says so only once the
        # broker has answered, and until then it refuses the next request. So it is kept only where all went well.
        channel = await self._ready()
        self._channel = None
        try:
            await self._session.request(_call(channel, declaration), declaration.text)
            self._channel = channel
        except TopologyMismatchError as error:
            # Declared by an older release or by an operator with a limit of their choice: usable as it is.
            if "'x-delivery-limit'" not in str(error.__cause__) or not isinstance(declaration, QueueSpec):
                raise


def _call(channel: Channel, declaration: Declaration) -> Callable[[], Any]:
    match declaration:
        case QueueSpec(name, arguments, exclusive):
            return lambda: channel.queue_declare(
                name, durable=not exclusive, exclusive=exclusive, arguments=dict(arguments)
            )
        case ExchangeSpec(name):
            return lambda: channel.exchange_declare(name, exchange_type="fanout", durable=True)
        case QueueBinding(queue, exchange):
            return lambda: channel.queue_bind(queue, exchange)
        case ExchangeBinding(target, source):
            return lambda: channel.exchange_bind(target, source)
