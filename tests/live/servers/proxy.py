"""A TCP proxy between a provider and a real broker, which can fall silent and can lose the confirmation of one publish.

Each provider has a proxy of its own; ``Proxies`` are those of one test. What a confirmation looks like is in ``confirms``.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable


class Watch(Protocol):
    """What one connection says, in one protocol. Bytes come as the network cuts them."""

    def sent(self, data: bytes) -> None:
        """The client said this."""

    def answered(self, data: bytes) -> bytes | None:
        """The broker said this: what the client is to hear, or ``None`` where a confirmation in it must be lost."""


class Losses:
    """The destinations whose next publish is confirmed in vain. All connections of a test share them."""

    def __init__(self) -> None:
        self.armed: list[str] = []
        """Nothing was published there since."""
        self.due: list[str] = []
        """Published, not confirmed yet."""

    def meet(self, destination: str) -> bool:
        """Whether a publish to ``destination``, as the protocol writes it, is the one."""
        found = next((name for name in self.armed if destination in {name, f"/queue/{name}"}), None)
        if found is None:
            return False
        self.armed.remove(found)
        self.due.append(found)
        return True


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

        def sent(data: bytes) -> bytes:
            watch.sent(data)
            return data

        def answered(data: bytes) -> bytes | None:
            passed = watch.answered(data)
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
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, through: Callable[[bytes], bytes | None]
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if self._silent[sink]:
                    continue
                passed = through(data)
                if passed is None:
                    return
                sink.write(passed)
                await sink.drain()
        if not self._silent[sink]:
            sink.close()


class Proxies:
    """The proxies of one test, by the provider behind each. ``watch(losses, port)`` makes what looks at a connection.

    ``away``: seconds for which a connection that was cut is not let back in.
    """

    def __init__(self, target: int, watch: Callable[[Losses, int], Watch], *, away: float = 0.0) -> None:
        self._target = target
        self._watch = watch
        self._away = away
        self._losses = Losses()
        self._proxies: list[Proxy] = []
        self.of: dict[Any, Proxy] = {}

    async def open(self) -> Proxy:
        proxy = Proxy(self._target, lambda port: self._watch(self._losses, port), self._away)
        self._proxies.append(await proxy.open())
        return proxy

    def lose_confirm(self, destination: str) -> None:
        self._losses.armed.append(destination.removeprefix("/queue/"))

    async def close(self) -> None:
        for proxy in self._proxies:
            await proxy.close()
        missed = self._losses.armed + self._losses.due
        assert not missed, f"no confirmation of {missed} was lost; so nothing was tested"
