"""The network of a run: named hosts, listening ports, connections, and what may go wrong between them.

Everybody is on ``localhost`` unless its owner says otherwise. What the run's decisions can do here, by kind (``target``
is ``"client>server:port"``, or ``"server:port>client"`` for the way back):

    connect      1 refused, 2 no answer for 127 s              (target: client>server:port)
    link-loss    1 reset before a segment, 2 inside it, 3 after it, 4 nothing passes any more and nobody is told
    link-delay   a segment takes 1 ms, 50 ms, 1 s longer
    chunk        of what arrived, the reader gets 1 byte, half, all but the last byte at first
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import zlib
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from factflow_infra_testing.simulation.clock import LOCAL_HOST
from factflow_infra_testing.simulation.links import SYN_TIMEOUT, Link, Links
from factflow_infra_testing.simulation.owners import OWNER, Owner
from factflow_infra_testing.simulation.servers import SimulatedServer
from factflow_infra_testing.simulation.transports import Address, Segment, SimulatedTransport, connection_reset

if TYPE_CHECKING:
    from collections.abc import Callable

    from factflow_infra_testing.simulation.loop import DeterministicLoop

LOOPBACK = ("localhost", "127.0.0.1", "::1")
ANY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
FIRST_EPHEMERAL_PORT = 49152

CONNECT = "connect"
LOSS = "link-loss"
DELAY = "link-delay"
CHUNK = "chunk"
DELAYS = (0.0, 0.001, 0.05, 1.0)


class Network:
    """Hosts, links and connections. ``links`` is where latency and partitions are set."""

    def __init__(self, loop: DeterministicLoop) -> None:
        self.loop = loop
        self.links = Links()
        self._outside = Context()  # what is under way on the wire belongs to nobody
        self._names: dict[str, str] = {LOCAL_HOST: "127.0.0.1"}
        self._by_address: dict[str, str] = {}
        self._listeners: dict[tuple[str, int], SimulatedServer] = {}
        self._ends: dict[SimulatedTransport, None] = {}
        self.services: dict[tuple[str, int], Any] = {}
        """What is reached at a host and port by clients that are simulated above the socket: theirs to define."""
        self._port = FIRST_EPHEMERAL_PORT
        decisions = loop.decisions
        kinds = (CONNECT, LOSS, DELAY, CHUNK)
        self._on = {kind for kind in kinds if decisions is not None and decisions.enabled(kind)}

    # -- names --------------------------------------------------------------------------------------------------------

    def add_host(self, name: str) -> str:
        """Make ``name`` known; its address. A host that connects or listens is known by itself."""
        name = name.lower()
        if name not in self._names:
            number = len(self._names)
            self._names[name] = address = f"10.0.{number // 250}.{number % 250 + 1}"
            self._by_address[address] = name
        return self._names[name]

    def resolve(self, host: str) -> str:
        """The name of the host that ``host`` (a name or an address) means to the running code."""
        name = host.lower()
        if name in LOOPBACK:
            return self._here()
        if name in self._names:
            return name
        if name in self._by_address:
            return self._by_address[name]
        try:
            ipaddress.ip_address(name)
        except ValueError:
            raise socket.gaierror(socket.EAI_NONAME, f"Name or service not known: {host!r} in the simulation") from None
        return name

    def _here(self) -> str:
        owner = OWNER.get()
        host = owner.host.lower() if owner is not None else LOCAL_HOST
        self.add_host(host)
        return host

    def getaddrinfo(self, host: Any, port: Any) -> list[tuple[Any, ...]]:
        """As ``loop.getaddrinfo``: one TCP address."""
        name = host.decode() if isinstance(host, bytes) else host
        found = "127.0.0.1" if name is None or name.lower() in LOOPBACK else self._address(self.resolve(name))
        number = int(port) if port is not None else 0
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (found, number))]

    def getnameinfo(self, address: Address) -> tuple[str, str]:
        """As ``loop.getnameinfo``."""
        return self._by_address.get(address[0], address[0]), str(address[1])

    def _address(self, name: str) -> str:
        return self._names.get(name, name)

    def _next_port(self) -> int:
        self._port += 1
        return self._port - 1

    # -- making connections -------------------------------------------------------------------------------------------

    def serve(
        self, protocol_factory: Callable[[], Any], hosts: list[str | None], port: int, *, start: bool = True
    ) -> SimulatedServer:
        """Listen for the running owner on its host (or, for the test's own code, on any host it names)."""
        names = [self._here() if host is None or host in ANY_ADDRESS else self._listen_name(host) for host in hosts]
        keys = [(name, port or self._next_port()) for name in dict.fromkeys(names)]
        addresses = [(self._address(name), number) for name, number in keys]
        server = SimulatedServer(self, protocol_factory, keys, addresses)
        if start:
            self.listen(server)
        return server

    def _listen_name(self, host: str) -> str:
        if host.lower() not in LOOPBACK and host not in self._by_address:
            self.add_host(host)
        return self.resolve(host)

    def listen(self, server: SimulatedServer) -> None:
        """Take connections for ``server`` from now on."""
        for key in server.keys:
            if self._listeners.get(key, server) is not server:
                text = f"error while attempting to bind on address {key!r}: address already in use"
                raise OSError(errno.EADDRINUSE, text)
        for key in server.keys:
            self._listeners[key] = server

    def unlisten(self, server: SimulatedServer) -> None:
        """Refuse connections to ``server`` from now on."""
        for key in server.keys:
            if self._listeners.get(key) is server:
                del self._listeners[key]

    def listens(self, server: SimulatedServer) -> bool:
        """Whether connections reach ``server``."""
        return any(self._listeners.get(key) is server for key in server.keys)

    async def connect(self, protocol_factory: Callable[[], Any], host: str, port: int) -> tuple[Any, Any]:
        """As ``loop.create_connection``."""
        source, target = self._here(), self.resolve(host)
        name = f"{source}>{target}:{port}"
        await self._handshake(source, target, name, host, port)
        server = self._listeners.get((target, port))
        if server is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"Connect call failed {(host, port)!r}")
        near, far = (self._address(source), self._next_port()), (self._address(target), port)
        client = SimulatedTransport(self, source, name, near, far, copy_context())
        remote = SimulatedTransport(self, target, f"{target}:{port}>{source}", far, near, server.context.copy())
        client.peer, remote.peer = remote, client
        for end in (client, remote):
            self._ends[end] = None
            end.when_lost(lambda end=end: self._forget(end))
        self.loop.note(f"{name} connects")
        server.accept(remote)
        protocol = protocol_factory()
        client.set_protocol(protocol)
        made: asyncio.Future[None] = self.loop.create_future()
        self.loop.call_soon(self._made, protocol, client, made)
        try:
            await made
        except BaseException:
            client.abort()
            raise
        return client, protocol

    @staticmethod
    def _made(protocol: Any, transport: SimulatedTransport, made: asyncio.Future[None]) -> None:
        protocol.connection_made(transport)
        if not made.done():
            made.set_result(None)
        transport.schedule_delivery()

    async def _handshake(self, source: str, target: str, name: str, host: str, port: int) -> None:
        choice = self._pick(CONNECT, 3, name)
        if choice == 1:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"Connect call failed {(host, port)!r}")
        there, back = self.links.get(source, target), self.links.get(target, source)
        if choice == 2 or not (there.up and back.up):
            await self._unreachable(there, back, forever=choice == 2)
        elif there.latency + back.latency:
            await asyncio.sleep(there.latency + back.latency)

    async def _unreachable(self, there: Link, back: Link, *, forever: bool) -> None:
        try:
            async with asyncio.timeout(SYN_TIMEOUT):
                while forever or not (there.up and back.up):
                    await self.links.healed(self.loop)
        except TimeoutError:
            raise TimeoutError(errno.ETIMEDOUT, "Connection timed out") from None

    # -- carrying -----------------------------------------------------------------------------------------------------

    def send(self, end: SimulatedTransport, segment: Segment) -> None:
        """Put ``segment`` on the link from ``end`` to its peer."""
        if end.silent or end.peer.silent:
            return
        extra = 0.0
        if self._on:
            if isinstance(segment, bytes) and (loss := self._pick(LOSS, 5, end.name)):
                self._lose(end, segment, loss)
                return
            extra = DELAYS[self._pick(DELAY, len(DELAYS), end.name)]
        self._carry(end, segment, extra)

    def _carry(self, end: SimulatedTransport, segment: Segment, extra: float = 0.0) -> None:
        link = self.links.get(end.host, end.peer.host)
        delay = link.latency + extra
        if not delay and not end.flight and link.up:
            self._arrive(end, segment)
            return
        now = self.loop.time()
        due = max(now + delay, end.flight[-1][0]) if end.flight else now + delay
        end.flight.append((due, segment))
        if len(end.flight) == 1:
            self.loop.call_at(due, self._land, end, context=self._outside)

    def _land(self, end: SimulatedTransport) -> None:
        if not self.links.get(end.host, end.peer.host).up:
            self.links.when_healed(lambda: self.loop.call_soon(self._land, end, context=self._outside) and None)
            return
        now = self.loop.time()
        while end.flight and end.flight[0][0] <= now:
            self._arrive(end, end.flight.popleft()[1])
        if end.flight:
            self.loop.call_at(end.flight[0][0], self._land, end, context=self._outside)

    def _arrive(self, end: SimulatedTransport, segment: Segment) -> None:
        if isinstance(segment, bytes):
            self.loop.note(f"{end.name} {len(segment)} bytes {zlib.crc32(segment):08x}")
        else:
            self.loop.note(f"{end.name} {'ends' if segment is True else 'resets'}")
        end.peer.arrive(segment)

    def read_size(self, end: SimulatedTransport, size: int) -> int:
        """How many of the ``size`` bytes that have arrived the reader gets now."""
        link = self.links.get(end.peer.host, end.host)
        if link.chunk:
            size = min(size, link.chunk)
        choice = self._pick(CHUNK, 4, end.peer.name) if size > 1 else 0
        return (size, 1, max(1, size // 2), size - 1)[choice]

    # -- breaking -----------------------------------------------------------------------------------------------------

    def connections(self, owner: Owner | None) -> list[SimulatedTransport]:
        """The open ends of ``owner``, in the order they were made."""
        return [end for end in self._ends if end.owner is owner]

    def reset(self, end: SimulatedTransport) -> None:
        """Break the connection: both sides get a reset, after what has already arrived there."""
        self.loop.note(f"{end.name} breaks")
        for side in (end, end.peer):
            side.flight.clear()
        end.peer.break_off(connection_reset())
        end.break_off(connection_reset())

    def silence(self, end: SimulatedTransport) -> None:
        """Half-open from here on: nothing passes in either direction, and neither side is told."""
        self.loop.note(f"{end.name} falls silent")
        for side in (end, end.peer):
            side.flight.clear()
            side.silent = True

    def owner_died(self, owner: Owner, how: str) -> None:
        """Its ports are closed and its connections end ``how``: "reset", "eof" or "silent"."""
        if how not in ("reset", "eof", "silent"):
            raise ValueError(f"connections must be 'reset', 'eof' or 'silent', got {how!r}")
        for server in dict.fromkeys(self._listeners.values()):
            if server.context.get(OWNER) is owner:
                self.unlisten(server)
        for end in self.connections(owner):
            end.owner_died(how)

    def close(self) -> None:
        """The run is over: every end is closed, and tells nobody."""
        for end in list(self._ends):
            end.discard()
        self._ends.clear()
        self._listeners.clear()

    def _lose(self, end: SimulatedTransport, segment: bytes, how: int) -> None:
        if how == 4:
            self.silence(end)
            return
        part = (b"", b"", segment[: len(segment) // 2], segment)[how]
        if part:
            self._carry(end, part)
        self.loop.note(f"{end.name} breaks")
        self._carry(end, connection_reset())
        end.break_off(connection_reset())

    def _forget(self, end: SimulatedTransport) -> None:
        self._ends.pop(end, None)

    def _pick(self, kind: str, choices: int, target: str) -> int:
        if kind not in self._on:
            return 0
        assert self.loop.decisions is not None
        return self.loop.decisions.pick(choices, kind, target)
