"""A TCP proxy between a provider and a real broker, which can fall silent, can lose the confirmation of one publish, and sees
when one was refused.

Each provider has a proxy of its own; ``Proxies`` are those of one test. What a confirmation looks like is in ``confirms``.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from factflow_infra.protocols import QueueProtocol


class Watch(Protocol):
    """What one connection says, in one protocol. Bytes come as the network cuts them."""

    def sent(self, data: bytes) -> None:
        """The client said this."""

    async def answered(self, data: bytes) -> bytes | None:
        """The broker said this: what the client is to hear, or ``None`` where a confirmation in it must be lost."""


@dataclass
class Refusal:
    """A destination where the broker refuses publishes. ``lift`` ends that, before the client hears of the last of ``times``."""

    times: int
    lift: Callable[[], Awaitable[None]]


class Armed:
    """What is to befall the next publishes. All connections of a test share it."""

    def __init__(self) -> None:
        self.losing: list[str] = []
        """Destinations whose next publish is confirmed in vain."""
        self.due: list[str] = []
        """Of these, published and not confirmed yet."""
        self.refused: dict[str, Refusal] = {}

    def loses(self, name: str) -> bool:
        """Whether a publish to the queue ``name`` is the one whose confirmation is to be lost."""
        if name not in self.losing:
            return False
        self.losing.remove(name)
        self.due.append(name)
        return True

    async def was_refused(self, name: str) -> None:
        refusal = self.refused.get(name)
        if refusal is not None:
            refusal.times -= 1
            if not refusal.times:
                del self.refused[name]
                await refusal.lift()


class Proxy:
    """Listens on ``port`` of 127.0.0.1 and passes everything on to ``target``, a port there too."""

    def __init__(self, target: int, watch: Callable[[int], Watch], away: float) -> None:
        self.port = 0
        self._target = target
        self._watch = watch
        self._away = away
        self._back_at = 0.0
        self._server: asyncio.Server | None = None
        self._silent: dict[asyncio.StreamWriter, bool] = {}
        self._passing: dict[asyncio.Task[None], None] = {}

    async def open(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def stall(self) -> None:
        """From here on nothing passes on the connections there are, in neither direction, and no end is told."""
        self._silent = dict.fromkeys(self._silent, True)

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)
        for writer in self._silent:
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if asyncio.get_running_loop().time() < self._back_at:
                raise ConnectionRefusedError
            broker, to_broker = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        watch = self._watch(self.port)

        async def sent(data: bytes) -> bytes:
            watch.sent(data)
            return data

        async def answered(data: bytes) -> bytes | None:
            passed = await watch.answered(data)
            if passed is None:
                self._back_at = asyncio.get_running_loop().time() + self._away
                writer.transport.abort()
                to_broker.transport.abort()
            return passed

        self._silent[writer] = self._silent[to_broker] = False
        for source, sink, through in ((reader, to_broker, sent), (broker, writer, answered)):
            task = asyncio.create_task(self._pass(source, sink, through))
            self._passing[task] = None
            task.add_done_callback(lambda done: self._passing.pop(done, None))

    async def _pass(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        through: Callable[[bytes], Awaitable[bytes | None]],
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if self._silent[sink]:
                    continue
                passed = await through(data)
                if passed is None:
                    return
                sink.write(passed)
                await sink.drain()
        if not self._silent[sink]:
            sink.close()


class ThroughProxies:
    """What a backend of the queue contract has of a provider whose connections go through a proxy of its own. For a class that
    also has ``connecting(port, **settings)``, which makes a provider, and sets ``_proxies``.
    """

    _proxies: Proxies
    connecting: Callable[..., QueueProtocol]
    publish_timeout = 6.0
    """Seconds for which a publish waits on a connection that is silent. Long enough for one that is only slow."""

    async def provider(self) -> QueueProtocol:
        proxy = await self._proxies.open()
        provider = self.connecting(proxy.port, publish_timeout=self.publish_timeout)
        self._proxies.of[provider] = proxy
        return provider

    async def stall(self, provider: QueueProtocol) -> None:
        self._proxies.of[provider].stall()

    async def lose_confirm(self, destination: str) -> None:
        self._proxies.lose_confirm(destination)

    async def close(self) -> None:
        await self._proxies.close()


class Proxies:
    """The proxies of one test, by the provider behind each. ``watch(armed, port)`` makes what looks at a connection.

    ``away``: seconds for which a connection that was cut is not let back in.
    """

    def __init__(self, target: int, watch: Callable[[Armed, int], Watch], *, away: float = 0.0) -> None:
        self._target = target
        self._watch = watch
        self._away = away
        self._armed = Armed()
        self._proxies: list[Proxy] = []
        self.of: dict[Any, Proxy] = {}

    async def open(self) -> Proxy:
        proxy = Proxy(self._target, lambda port: self._watch(self._armed, port), self._away)
        self._proxies.append(await proxy.open())
        return proxy

    def lose_confirm(self, destination: str) -> None:
        self._armed.losing.append(destination.removeprefix("/queue/"))

    def refuse(self, destination: str, lift: Callable[[], Awaitable[None]], *, times: int = 1) -> None:
        """The broker is about to refuse what is published to ``destination``; ``lift`` ends that after so many."""
        self._armed.refused[destination.removeprefix("/queue/")] = Refusal(times, lift)

    async def close(self) -> None:
        for proxy in self._proxies:
            await proxy.close()
        missed = [*self._armed.losing, *self._armed.due, *self._armed.refused]
        assert not missed, f"no confirmation was lost, or no publish refused, of {missed}; so nothing was tested"
