"""ActiveMQ Classic's and RabbitMQ's STOMP: what their NACKs, transactions and subscriptions do, under a fault too; and that they are served."""

import asyncio
import contextlib
import socket
import subprocess
import sys

import pytest
import stompman
from stomp_play import Line, play

from factflow_infra.errors import SettingsError
from factflow_infra.protocols import QueueMessage
from factflow_infra_testing import Fault, Simulation, simulate
from factflow_infra_testing.wire.protocols import PROTOCOLS
from factflow_infra_testing.wire.stomp.dialects import DIALECTS, Dialect

CLASSIC, RABBITMQ = "activemq-classic", "rabbitmq-stomp"


def frame(command, *headers, body=""):
    return "\n".join([command, *headers, "", body]).encode() + b"\0"


def connect(profile, *headers):
    dialect = DIALECTS[profile]
    login = (f"login:{dialect.user}", f"passcode:{dialect.password}")
    return frame("CONNECT", "accept-version:1.2", "host:/", *login, *headers)


def talk(profile, *requests, again=()):
    """What comes for ``requests``; after them the client is gone without a goodbye, and another one says ``again``."""

    async def scenario(front_end):
        received = b""
        for one in (requests, again):
            line = Line(front_end)
            for request in (connect(profile, "client-id:c"), *one) if one else ():
                received += await line.talk(request)
            line.protocol.connection_lost(None)
            received += b"\n--\n" if one is requests else b""
        return received.decode()

    return play(scenario, profile=profile)


def bodies(text):
    """The bodies of messages, flagged ones with an R."""
    found = []
    for one in text.split("\0"):
        head, _, body = one.lstrip("\n").partition("\n\n")
        if head.startswith("MESSAGE"):
            found.append(body + ("R" if "redelivered:true" in head else ""))
    return found


SEND = frame("SEND", "destination:/queue/q", "persistent:true", body="1")
SUBSCRIBE = frame("SUBSCRIBE", "id:s", "destination:/queue/q", "ack:client-individual")
DEAD = frame("SUBSCRIBE", "id:d", "destination:/queue/ActiveMQ.DLQ", "ack:auto")
IDS = {CLASSIC: "id:ID\\csimulated\\c4", RABBITMQ: "id:T_s@@session-1@@1"}


@pytest.mark.parametrize(
    ("profile", "headers", "come"),
    [(CLASSIC, (), ["1", "1"]), (RABBITMQ, (), ["1", "1R", "1R"]), (RABBITMQ, ("requeue:false",), ["1"])],
)
def test_a_nack_is_death_on_activemq_and_means_again_on_rabbitmq(profile, headers, come):
    nack = frame("NACK", IDS[profile], "receipt:n", *headers)
    text = talk(profile, SEND, SUBSCRIBE, nack, again=(SUBSCRIBE, *([DEAD] if profile == CLASSIC else [])))
    assert "receipt-id:n" in text
    assert bodies(text) == come
    assert ("original-destination:/queue/q" in text) is (profile == CLASSIC)


def test_a_transient_message_that_is_nacked_leaves_no_dead_letter_on_activemq():
    send = frame("SEND", "destination:/queue/q", body="1")
    assert bodies(talk(CLASSIC, send, SUBSCRIBE, frame("NACK", IDS[CLASSIC]), again=(SUBSCRIBE, DEAD))) == ["1"]


@pytest.mark.parametrize("profile", [CLASSIC, RABBITMQ])
@pytest.mark.parametrize(("end", "left"), [("COMMIT", ["1"]), ("ABORT", ["1", "1R"])])
def test_an_ack_is_part_of_its_transaction(profile, end, left):
    begin, ack = frame("BEGIN", "transaction:t"), frame("ACK", IDS[profile], "transaction:t")
    text = talk(profile, SEND, SUBSCRIBE, begin, ack, frame(end, "transaction:t"), again=(SUBSCRIBE,))
    assert bodies(text) == left


def test_a_client_id_of_a_connection_that_is_not_gone_yet_is_refused_on_activemq():
    async def scenario(front_end):
        lines = [Line(front_end), Line(front_end), Line(front_end)]
        answers = [await line.talk(connect(CLASSIC, "client-id:c")) for line in lines[:2]]
        lines[0].protocol.connection_lost(None)
        answers.append(await lines[2].talk(connect(CLASSIC, "client-id:c")))
        return answers

    first, second, third = play(scenario, profile=CLASSIC)
    assert b"CONNECTED" in first
    assert b"already connected" in second
    assert b"CONNECTED" in third


def test_whoever_falls_silent_is_cut_off_without_a_word():
    async def scenario(front_end):
        line = Line(front_end)
        text = await line.talk(connect(front_end.server.profile.name, "heart-beat:1000,0"), 2.9)
        assert not line.closed
        await asyncio.sleep(0.2)
        return text + line.wire.written, line.closed

    for profile in (CLASSIC, RABBITMQ):
        text, closed = play(scenario, profile=profile)
        assert closed
        assert b"ERROR" not in text


@pytest.mark.parametrize("profile", DIALECTS)
def test_every_field_of_a_dialect_cites_a_fact(profile, pytestconfig):
    facts = (pytestconfig.rootpath / "docs" / "facts.md").read_text()
    evidence = DIALECTS[profile].evidence
    assert set(evidence) == set(Dialect.__slots__) - {"user", "password", "evidence"}
    assert [fact for fact in evidence.values() if f"**{fact}**" not in facts] == []


# --- in a simulation, with a client of one's own ------------------------------------------------------------------------


async def stomp_client(uri):
    credentials, _, place = uri.removeprefix("stomp://").partition("@")
    login, _, passcode = credentials.partition(":")
    host, _, port = place.partition(":")
    server = stompman.ConnectionParameters(host, int(port), login, passcode)
    return stompman.Client([server], heartbeat=stompman.Heartbeat(10_000, 10_000), connect_retry_attempts=20)


@pytest.mark.parametrize("profile", [CLASSIC, RABBITMQ])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed")
def test_a_client_of_ones_own_meets_the_faults_there(profile):
    seen = []

    @simulate(plan=[Fault("ack-lost", "orders", 1)])
    async def scenario(sim: Simulation):
        uri = sim.uri(profile)

        async def consumer(_):
            async with await stomp_client(uri) as client:

                async def handle(message):
                    seen.append(message.headers.get("redelivered", "false"))
                    await message.ack()

                await client.subscribe_with_manual_ack("/queue/orders", handle, ack="client-individual")
                await asyncio.Event().wait()

        sim.start(consumer, name="consumer")
        async with await stomp_client(uri) as client:
            await client.send(b"1", "/queue/orders", headers={"persistent": "true"}, receipt_timeout=5)
        await sim.sleep(30)

    scenario()
    assert seen == ["false", "true"]


@pytest.mark.parametrize("profile", [CLASSIC, RABBITMQ])
def test_there_is_no_provider_for_them(profile):
    @simulate(max_examples=1)
    async def scenario(sim: Simulation):
        with pytest.raises(SettingsError, match="a client of your own"):
            sim.queue(profile, tier="wire")
        await sim.queue(profile, tier="model").publish("orders", QueueMessage(b"1"))
        assert sim.broker(profile).depth("orders") == 1

    scenario()


# --- on real sockets ----------------------------------------------------------------------------------------------------

GREETINGS = {
    "stomp": (connect, b"CONNECTED"),
    "amqp": (lambda _: b"AMQP\x00\x00\x09\x01", b"\x01\x00\x00"),
    "pulsar": (lambda _: b"\0\0\0\x10\0\0\0\x0c\x08\x02\x12\x08\x0a\x041.0\x20\x20\x14", b"\0\0\0"),
}


def test_each_profile_is_served_by_the_command_and_speaks():
    with contextlib.ExitStack() as stack:
        servers = {}
        for profile in ("rabbitmq", *PROTOCOLS):
            options = ["serve", "--profile", profile, "--port", "0"]
            command = [sys.executable, "-uc", "from factflow_infra_testing.cli import main; main()", *options]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            stack.callback(process.terminate)
            servers[profile] = process
        for profile, process in servers.items():
            line = process.stdout.readline()
            assert line.startswith("Serving "), (profile, line)
            scheme, _, place = line.partition(" at ")[2].partition(" ")[0].partition("://")
            port = int(place.rstrip("/").rpartition(":")[2])
            greeting, answer = GREETINGS[scheme]
            with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                client.sendall(greeting(profile))
                assert client.recv(len(answer)) == answer, profile
