"""The network of a run: named hosts, listening ports, connections, and what may go wrong between them.

Everybody is on ``localhost`` unless its owner says otherwise. What the run's decisions can do here, and with which targets,
is in ``search.network_faults``.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import zlib
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from factflow_infra_testing.search.network_faults import (
    CLOSED,
    CONNECT_CUT,
    CONNECT_REFUSED,
    DNS_FAILURE,
    INSIDE,
    MUTE,
    REFUSED,
    TO_CLIENT,
    TO_SERVER,
    TRY_AGAIN,
    UNANSWERED,
    NetworkFaults,
    splits,
)
from factflow_infra_testing.simulation.hosts import LOOPBACK, Hosts
from factflow_infra_testing.simulation.links import SYN_TIMEOUT, Links
from factflow_infra_testing.simulation.owners import OWNER, Owner
from factflow_infra_testing.simulation.servers import SimulatedServer
from factflow_infra_testing.simulation.transports import Segment, SimulatedTransport, connection_reset

if TYPE_CHECKING:
    from collections.abc import Callable

    from factflow_infra_testing.simulation.loop import DeterministicLoop

ANY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
FIRST_EPHEMERAL_PORT = 49152


class Network(Hosts):
    """Hosts, links and connections. ``links`` is where latency and partitions are set."""

    def __init__(self, loop: DeterministicLoop) -> None:
        super().__init__()
        self.loop = loop
        self.links = Links()
        self._outside = Context()  # what is under way on the wire belongs to nobody
        self._listeners: dict[tuple[str, int], SimulatedServer] = {}
        self._listened: dict[tuple[str, int], None] = {}
        self._ends: dict[SimulatedTransport, None] = {}
        self.services: dict[tuple[str, int], Any] = {}
        """What is reached at a host and port by clients that are simulated above the socket: theirs to define."""
        self._port = FIRST_EPHEMERAL_PORT
        self._faults = NetworkFaults(loop.decisions)
        self._calm = False
        self.on_fault: Callable[[str, str, str], None] = _nobody
        """Called with the client, the kind and the target of each fault that strikes here."""

    # -- making connections -------------------------------------------------------------------------------------------

    def _next_port(self) -> int:
        self._port += 1
        return self._port - 1

    def serve(
        self,
        protocol_factory: Callable[[], Any],
        hosts: list[str | None],
        port: int,
        *,
        start: bool = True,
        framed: bool = False,
        exposed: bool = False,
    ) -> SimulatedServer:
        """Listen for the running owner on its host (or, for the test's own code, on any host it names).

        ``framed`` and ``exposed`` are those of ``SimulatedServer``.
        """
        names = [self._here() if host is None or host in ANY_ADDRESS else self._listen_name(host) for host in hosts]
        keys = [(name, port or self._next_port()) for name in dict.fromkeys(names)]
        addresses = [(self._address(name), number) for name, number in keys]
        server = SimulatedServer(self, protocol_factory, keys, addresses, framed=framed, exposed=exposed)
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
            self._listened[key] = None

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
        server = self._listeners.get((target, port))
        laboratory = OWNER.get() is None and not (server is not None and server.exposed)
        kind, choice = "", 0
        if not laboratory:
            there = target if server is not None and server.framed else f"{target}:{port}"
            kind, choice = self._strike_connect(host, f"{_who()}>{there}")
        refused = choice if kind == CONNECT_REFUSED else 0
        if refused == REFUSED:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"Connect call failed {(host, port)!r}")
        if refused == UNANSWERED or not (laboratory or self.links.passable(source, target)):
            await self._unreachable(source, target, forever=refused == UNANSWERED)
        elif latency := self.links.get(source, target).latency + self.links.get(target, source).latency:
            await asyncio.sleep(latency)
        server = self._listeners.get((target, port))
        if server is None:
            self._tell_who_listens(host, port)
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"Connect call failed {(host, port)!r}")
        client, remote = self._pair(source, target, port, server)
        for end in (client, remote):
            end.laboratory, end.framed = laboratory, server.framed
            self._ends[end] = None
            end.when_lost(lambda end=end: self._forget(end))
        self.loop.note(f"{client.name} connects")
        if kind == CONNECT_CUT:
            self._cut_connection(remote, choice)
        else:
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

    def _tell_who_listens(self, host: str, port: int) -> None:
        """Nobody has listened there so far: the address may be wrong."""
        if (self.resolve(host), port) not in self._listened:
            known = ", ".join(f"{there}:{number}" for there, number in self._listened) or "none"
            self.loop.notice(f"nobody listens at {host}:{port} in the simulation; there are: {known}")

    def _pair(
        self, source: str, target: str, port: int, server: SimulatedServer
    ) -> tuple[SimulatedTransport, SimulatedTransport]:
        near, far = (self._address(source), self._next_port()), (self._address(target), port)
        who = _who()
        client = SimulatedTransport(self, source, f"{who}>{target}:{port}", near, far, copy_context())
        remote = SimulatedTransport(self, target, f"{target}:{port}>{who}", far, near, server.context.copy())
        client.peer, remote.peer = remote, client
        client.link, remote.link = self.links.own(source, target), self.links.own(target, source)
        client.is_client = True
        return client, remote

    def _strike_connect(self, host: str, target: str) -> tuple[str, int]:
        """The fault that this attempt meets, if it is not one that has ended it already."""
        kind, choice = self._faults.at_connect(target)
        if choice:
            self.on_fault(_who(), kind, target)
        if kind == DNS_FAILURE:
            code, text = (
                (socket.EAI_AGAIN, "Temporary failure in name resolution")
                if choice == TRY_AGAIN
                else (socket.EAI_NONAME, "Name or service not known")
            )
            raise socket.gaierror(code, f"{text}: {host!r} in the simulation")
        return kind, choice

    def _cut_connection(self, remote: SimulatedTransport, choice: int) -> None:
        """The server's kernel has accepted, and its program closes, or says nothing for ever."""
        if choice == MUTE:
            remote.mute = True
        else:
            ending = True if choice == CLOSED else connection_reset()
            self.loop.call_soon(lambda: remote.reset(None, to_peer=ending), context=self._outside)

    @staticmethod
    def _made(protocol: Any, transport: SimulatedTransport, made: asyncio.Future[None]) -> None:
        protocol.connection_made(transport)
        if not made.done():
            made.set_result(None)
        transport.schedule_delivery()

    async def _unreachable(self, source: str, target: str, *, forever: bool) -> None:
        try:
            async with asyncio.timeout(SYN_TIMEOUT):
                while (forever and not self._calm) or not self.links.passable(source, target):
                    await self.links.healed(self.loop)
        except TimeoutError:
            raise TimeoutError(errno.ETIMEDOUT, "Connection timed out") from None

    # -- carrying -----------------------------------------------------------------------------------------------------

    def send(self, end: SimulatedTransport, segment: Segment) -> None:
        """Put ``segment`` on the link from ``end`` to its peer."""
        if end.silent or end.mute or end.peer.silent:
            return
        if self._faults.at_frames and not end.framed and not end.laboratory and isinstance(segment, bytes):
            self._send_with_faults(end, segment)
        else:
            self._carry(end, segment)

    def _send_with_faults(self, end: SimulatedTransport, segment: bytes) -> None:
        fate = self._faults.at_frame(end.name, divisible=True, apart=end.host != end.peer.host)
        if fate.kind:
            self.on_fault(_who(), fate.kind, end.name)
        if fate.loss:
            self._lose(end, segment, fate.loss)
            return
        if fate.silent:
            self.hush(end, fate.silent)
            return
        if fate.split:
            start = end.written - end.get_write_buffer_size() - len(segment)
            end.split_at(start + offset for offset in splits(len(segment), fate.split))
        self._carry(end, segment, fate.delay)
        if fate.partition:
            self.partition(end.host, end.peer.host, fate.partition)

    def _carry(self, end: SimulatedTransport, segment: Segment, extra: float = 0.0) -> None:
        delay = end.link.latency + extra
        if not delay and not end.flight and (end.link.up or end.laboratory):
            self._arrive(end, segment)
            return
        now = self.loop.time()
        due = max(now + delay, end.flight[-1][0]) if end.flight else now + delay
        end.flight.append((due, segment))
        if len(end.flight) == 1:
            self.loop.call_at(due, self._land, end, context=self._outside)

    def _land(self, end: SimulatedTransport) -> None:
        if not end.laboratory and not end.link.up:
            self.links.when_healed(lambda: self.loop.call_soon(self._land, end, context=self._outside) and None)
            return
        now = self.loop.time()
        while end.flight and end.flight[0][0] <= now:
            self._arrive(end, end.flight.popleft()[1])
        if end.flight:
            self.loop.call_at(end.flight[0][0], self._land, end, context=self._outside)

    def _arrive(self, end: SimulatedTransport, segment: Segment) -> None:
        if self.loop.traced:  # a checksum is dear
            what = f"{len(segment)} bytes {zlib.crc32(segment):08x}" if isinstance(segment, bytes) else "ends"
            self.loop.note(f"{end.name} {'resets' if isinstance(segment, BaseException) else what}")
        end.peer.arrive(segment)

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

    def hush(self, end: SimulatedTransport, way: int) -> None:
        """Nothing passes any more from ``end`` on, in the direction that a choice of ``link-silent`` names, or in both.

        Of a closed or aborted end its peer is not told in that direction either: it finds out by itself.
        """
        client = end if end.is_client else end.peer
        for side, silenced in ((client, way != TO_CLIENT), (client.peer, way != TO_SERVER)):
            if silenced:
                self.loop.note(f"{side.name} is not heard any more")
                side.mute = True

    def partition(self, one: str, other: str, seconds: float) -> None:
        """Nothing passes between two hosts for so long."""
        self.links.cut_for(one, other, seconds, loop=self.loop, context=self._outside)

    def calm(self) -> None:
        """Faults end: partitions heal, packets get through again, and connections that fell silent are reset."""
        self._calm = True
        self.links.heal_all()
        for end in list(self._ends):
            if end.mute or end.peer.mute:
                end.mute = end.peer.mute = False
                self.reset(end)

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
        part = segment[: len(segment) // 2] if how == INSIDE else segment if how > INSIDE else b""
        if part:
            self._carry(end, part)
        self.loop.note(f"{end.name} breaks")
        self._carry(end, connection_reset())
        end.break_off(connection_reset())

    def _forget(self, end: SimulatedTransport) -> None:
        self._ends.pop(end, None)


def _who() -> str:
    """What targets call the running code: its process, whichever life it is in."""
    owner = OWNER.get()
    return "test" if owner is None else owner.name.partition("/")[0]


def _nobody(client: str, kind: str, target: str) -> None:
    """Is not told."""
