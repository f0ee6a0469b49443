"""Connections in memory: addresses, ends, faults, and what a kill does to them."""

# ruff: noqa: ARG002, TRY300 - protocols have the signatures that asyncio calls

import asyncio
import errno
import socket
from collections import Counter

import pytest
from choices import Choices
from test_loop_owners import spawn

from factflow_infra_testing.search.network_faults import NETWORK_FAULTS
from factflow_infra_testing.simulation.errors import DeadlockError, NotSimulatedError
from factflow_infra_testing.simulation.owners import Owner
from factflow_infra_testing.simulation.runner import run
from factflow_infra_testing.simulation.transports import RECEIVE_BUFFER


async def echo(reader, writer):
    while data := await reader.read(100_000):
        writer.write(data)
        await writer.drain()
    writer.close()


async def collect(host="broker", port=1, text=b"hello", until=5):
    """Send ``text``; everything that comes back, and the error that ended it."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(text)
        got = b""
        while len(got) < until:
            data = await reader.read(100)
            if not data:
                return got, "eof"
            got += data
        return got, None
    except OSError as error:
        return got, type(error).__name__
    finally:
        writer.close()


def talk(*, decisions=None, prepare=None, **options):
    async def main():
        await asyncio.start_server(echo, "broker", 1)
        if prepare is not None:
            prepare(asyncio.get_running_loop().network)
        result = await spawn(Owner("client", host="there"), collect(**options))
        return *result, asyncio.get_running_loop().time()

    return run(main, decisions=decisions).result()


def test_hosts_have_names_and_addresses():
    async def main():
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(echo, "Broker", 61613)
        info = await loop.getaddrinfo("broker", 61613, type=socket.SOCK_STREAM)
        address = info[0][4]
        reader, writer = await asyncio.open_connection(*address)
        assert writer.get_extra_info("peername") == address == server.sockets[0].getsockname()
        assert await loop.getnameinfo(address) == ("broker", "61613")
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert sock.getpeername() == address
        assert (await loop.getaddrinfo("localhost", 1))[0][4] == ("127.0.0.1", 1)
        writer.close()
        with pytest.raises(socket.gaierror, match="nowhere"):
            await asyncio.open_connection("nowhere", 1)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("10.9.9.9", 1)
        with pytest.raises(OSError, match="already in use") as caught:
            await asyncio.start_server(echo, "broker", 61613)
        assert caught.value.errno == errno.EADDRINUSE
        return reader

    run(main).result()


def test_localhost_is_each_hosts_own():
    async def worker(log):
        try:
            log.append(await collect("localhost"))
        except ConnectionRefusedError:
            log.append("refused")

    async def main():
        log = []
        await asyncio.start_server(echo, "localhost", 1)
        await spawn(Owner("near"), worker(log))
        await spawn(Owner("far", host="elsewhere"), worker(log))
        return log

    assert run(main).result() == [(b"hello", None), "refused"]


def test_ports_are_given_out():
    async def main():
        servers = [await asyncio.start_server(echo, None, 0) for _ in range(2)]
        ports = [server.sockets[0].getsockname()[1] for server in servers]
        return ports, await collect("localhost", ports[1])

    ports, result = run(main).result()
    assert ports[0] != ports[1]
    assert result == (b"hello", None)


def test_latency_delays_and_keeps_order():
    def slow(network):
        network.links.default.latency = 0.5

    assert talk(prepare=slow) == (b"hello", None, 2.0)  # a handshake, and there and back


def test_a_slow_reader_holds_up_the_writer():
    async def main():
        lines = []
        size = 10 * RECEIVE_BUFFER

        async def slow(reader, writer):
            while data := await reader.read(60_000):
                lines.append(len(data))
                await asyncio.sleep(1)
            writer.close()

        await asyncio.start_server(slow, "broker", 1)
        _, writer = await asyncio.open_connection("broker", 1)
        for _ in range(10):
            writer.write(bytes(RECEIVE_BUFFER))
            await writer.drain()
        waited = asyncio.get_running_loop().time()
        writer.close()
        await asyncio.sleep(1000)
        assert sum(lines) == size
        assert max(lines) <= 60_000
        return waited

    assert run(main).result() > 20


def test_bytes_can_come_one_by_one():
    def split(network):
        network.links.set("localhost", "broker", chunk=1)

    async def main():
        sizes = []

        class Recorder(asyncio.Protocol):
            def data_received(self, data):
                sizes.append(len(data))

        loop = asyncio.get_running_loop()
        await loop.create_server(Recorder, "broker", 1)
        split(loop.network)
        transport, _ = await loop.create_connection(asyncio.Protocol, "broker", 1)
        transport.write(b"hello")
        await asyncio.sleep(1)
        return sizes

    assert run(main).result() == [1, 1, 1, 1, 1]


def test_buffered_protocols_are_served():
    async def main():
        whole = bytearray()

        class Buffered(asyncio.BufferedProtocol):
            def get_buffer(self, sizehint):
                self.buffer = bytearray(3)
                return self.buffer

            def buffer_updated(self, nbytes):
                whole.extend(self.buffer[:nbytes])

        loop = asyncio.get_running_loop()
        await loop.create_server(Buffered, "broker", 1)
        transport, _ = await loop.create_connection(asyncio.Protocol, "broker", 1)
        transport.write(b"hello")
        transport.writelines([b", ", bytearray(b"world"), memoryview(b"!")])
        await asyncio.sleep(1)
        return bytes(whole)

    assert run(main).result() == b"hello, world!"


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"link_loss": [1]}, (b"", "ConnectionResetError", 0)),
        ({"link_loss": [2]}, (b"", "ConnectionResetError", 0)),
        ({"link_loss": [0, 2]}, (b"he", "ConnectionResetError", 0)),
        ({"link_loss": [0, 3]}, (b"hello", None, 0)),
        ({"link_delay": [2]}, (b"hello", None, 0.05)),
        ({"link_delay": [0, 3]}, (b"hello", None, 1.0)),
        ({"link_split": [0, 4]}, (b"hello", None, 0)),
        ({"partition": [1]}, (b"hello", None, 5)),
        ({"partition": [0, 2]}, (b"hello", None, 0)),
        ({"connect_cut": [1]}, (b"", "eof", 0)),
        ({"connect_cut": [2]}, (b"", "ConnectionResetError", 0)),
    ],
)
def test_decisions_break_links(answers, expected):
    assert talk(decisions=Choices(**answers)) == expected


def test_decisions_are_asked_by_link():
    decisions = Choices(link_loss=[], connect_refused=[], dns_failure=[], partition=[])
    talk(decisions=decisions)
    assert {(kind, target) for kind, target, _ in decisions.asked} == {
        ("connect-refused", "client>broker:1"),
        ("dns-failure", "client>broker:1"),
        ("link-loss", "client>broker:1"),
        ("link-loss", "broker:1>client"),
        ("partition", "client>broker:1"),
        ("partition", "broker:1>client"),
    }


def test_the_tests_own_connections_meet_no_fault():
    decisions = Choices(**{kind.replace("-", "_"): [1] * 9 for kind in NETWORK_FAULTS})

    async def main():
        await asyncio.start_server(echo, "broker", 1)
        return await collect()

    assert run(main, decisions=decisions).result() == (b"hello", None)
    assert decisions.asked == []


def test_all_kinds_are_asked_at_each_point_and_the_first_happens():
    decisions = Choices(link_split=[0, 4], link_delay=[2, 3], link_loss=[1], partition=[1], connect_cut=[0])
    assert talk(decisions=decisions) == (b"hello", None, 0.05 + 0)
    counts = Counter((kind, target) for kind, target, _ in decisions.asked)
    assert set(counts.values()) == {1}
    assert len(counts) == 2 * 4 + 1


@pytest.mark.parametrize(
    ("choice", "sizes"), [(1, [2, 3]), (2, [1, 4]), (3, [4, 1]), (4, [1, 1, 1, 1, 1])], ids=["half", "1", "-1", "each"]
)
def test_a_segment_can_come_in_parts(choice, sizes):
    async def main():
        seen = []

        class Recorder(asyncio.Protocol):
            def data_received(self, data):
                seen.append(len(data))

        loop = asyncio.get_running_loop()
        await loop.create_server(Recorder, "broker", 1)

        async def client():
            transport, _ = await loop.create_connection(asyncio.Protocol, "broker", 1)
            transport.write(b"before")
            transport.write(b"hello")
            await asyncio.sleep(1)

        await spawn(Owner("client"), client())
        return seen

    assert run(main, decisions=Choices(link_split=[0, choice])).result() == [6 + sizes[0], *sizes[1:]]


@pytest.mark.parametrize(("choice", "code"), [(1, socket.EAI_AGAIN), (2, socket.EAI_NONAME)])
def test_a_name_server_can_fail(choice, code):
    with pytest.raises(socket.gaierror) as caught:
        talk(decisions=Choices(dns_failure=[choice]))
    assert caught.value.errno == code


def test_a_connect_can_be_refused_or_go_unanswered():
    with pytest.raises(ConnectionRefusedError):
        talk(decisions=Choices(connect_refused=[1]))

    async def main():
        await asyncio.start_server(echo, "broker", 1)
        with pytest.raises(TimeoutError):
            await spawn(Owner("client"), asyncio.open_connection("broker", 1))
        return asyncio.get_running_loop().time()

    assert run(main, decisions=Choices(connect_refused=[2])).result() == 127


def test_a_connection_can_be_accepted_and_go_unanswered():
    with pytest.raises(DeadlockError):
        talk(decisions=Choices(connect_cut=[3]))


@pytest.mark.parametrize(
    ("choice", "expected"),
    [(1, ([], [b"hi", b"there"])), (2, (["eof"], [b"hi"])), (3, ([], [b"hi"]))],
    ids=["to the server", "to the client", "both"],
)
def test_a_direction_can_fall_silent(choice, expected):
    """The server says hi; at what the client says then the silence begins; the server says there, and the client closes."""
    heard, told = [], []

    class Server(asyncio.Protocol):
        def connection_made(self, transport):
            loop = asyncio.get_running_loop()
            loop.call_later(1, transport.write, b"hi")
            loop.call_later(3, transport.write, b"there")

        def data_received(self, data):
            heard.append(data)

        def connection_lost(self, exc):
            heard.append("eof")

    class Client(asyncio.Protocol):
        def data_received(self, data):
            told.append(data)

    async def main():
        loop = asyncio.get_running_loop()
        await loop.create_server(Server, "broker", 1)

        async def client():
            transport, _ = await loop.create_connection(Client, "broker", 1)
            await asyncio.sleep(2)
            transport.write(b"lost")
            await asyncio.sleep(2)
            transport.close()

        await spawn(Owner("client"), client())
        await asyncio.sleep(1000)
        return heard, told

    assert run(main, decisions=Choices(link_silent=[0, choice])).result() == expected


def test_a_half_open_connection_tells_nobody():
    async def main():
        loop = asyncio.get_running_loop()
        await asyncio.start_server(echo, "broker", 1)
        reader, writer = await asyncio.open_connection("broker", 1)
        loop.network.silence(writer.transport)
        writer.write(b"hello")
        await reader.read(5)

    assert isinstance(run(main).error, DeadlockError)


def test_a_partition_holds_back_and_a_heal_delivers():
    async def client(loop):
        reader, writer = await asyncio.open_connection("broker", 1)
        loop.network.links.cut("there", "broker")
        writer.write(b"hello")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(5), 100)
        connecting = asyncio.create_task(asyncio.open_connection("broker", 1))
        await asyncio.sleep(50)
        loop.network.links.heal("there", "broker")
        (await connecting)[1].close()
        answer = await reader.readexactly(5)
        writer.close()
        return answer, loop.time()

    async def main():
        await asyncio.start_server(echo, "broker", 1)
        return await spawn(Owner("client", host="there"), client(asyncio.get_running_loop()))

    assert run(main).result() == (b"hello", 150)


@pytest.mark.parametrize(
    ("how", "seen"),
    [("reset", [b"sent", "ConnectionResetError"]), ("eof", [b"sent", None]), ("silent", [b"sent"])],
)
def test_a_kill_ends_connections(how, seen):
    async def main():
        log = []

        class Peer(asyncio.Protocol):
            def data_received(self, data):
                log.append(data)

            def connection_lost(self, exc):
                log.append(exc and type(exc).__name__)

        class Victim(asyncio.Protocol):
            def connection_lost(self, exc):
                log.append("the victim noticed")

        async def worker():
            transport, _ = await loop.create_connection(Victim, "broker", 1)
            await loop.create_server(Victim, "broker", 2)
            transport.write(b"sent")
            loop.call_later(5, transport.write, b"never")
            await asyncio.sleep(100)

        loop = asyncio.get_running_loop()
        await loop.create_server(Peer, "broker", 1)
        owner = Owner("worker")
        spawn(owner, worker())
        await asyncio.sleep(1)
        loop.kill(owner, connections=how)
        await asyncio.sleep(100)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("broker", 2)
        return log

    outcome = run(main)
    assert outcome.result() == seen
    assert outcome.unhandled == ()


def test_what_is_not_simulated_says_so():
    async def main():
        loop = asyncio.get_running_loop()
        with pytest.raises(NotSimulatedError, match="TLS"):
            await asyncio.open_connection("broker", 1, ssl=True)
        with pytest.raises(NotSimulatedError, match="create_unix_connection"):
            await asyncio.open_unix_connection("/tmp/socket")
        with pytest.raises(NotSimulatedError, match="create_datagram_endpoint"):
            await loop.create_datagram_endpoint(asyncio.DatagramProtocol)

    run(main).result()
