"""One connection against a scripted server: what is said, what is waited for, and how it ends."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stomp_peer import Client, Server, against
from stompman import ErrorFrame, MessageFrame

from factflow_infra.errors import (
    PublishRefusedError,
    PublishUnconfirmedError,
    QueueAuthenticationError,
    QueueConnectionError,
)


def message(number=1, body=b"x", subscription="", **headers):
    return MessageFrame(
        headers={
            "subscription": subscription,
            "message-id": f"7,{number}",
            "ack": f"7,{number}",
            "destination": "d",
            **headers,
        },
        body=body,
    )


def say(text, **headers):
    """Answer with an ERROR frame, and close, as Artemis does."""

    def answer(peer, asked):
        more = {"receipt-id": asked["receipt"]} if headers.get("named") and "receipt" in asked else {}
        peer.say(ErrorFrame(headers={"message": text, **more}))
        peer.transport.close()

    return answer


def ignore(_peer, _headers):
    pass


def test_what_is_said_at_login():
    server = Server()

    async def scenario(client):
        await client.connect()
        ((name, headers),) = server.peers[0].frames
        assert name == "CONNECT"
        assert headers == {
            "accept-version": "1.2",
            "host": "artemis",
            "heart-beat": "10000,10000",
            "client-id": "factflow",
            "login": "u",
            "passcode": "p",
        }

    against(server, scenario)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (say("Security Error occurred: AMQ229031"), QueueAuthenticationError, "login of user 'u'"),
        (say("too many connections"), QueueConnectionError, "too many connections"),
        (lambda peer, _: peer.transport.close(), QueueConnectionError, "closed"),
        (lambda peer, _: peer.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n"), QueueConnectionError, "in time"),
        (lambda peer, _: peer.transport.write(b"CONNECTED\nversion:1.0\n\n\0"), QueueConnectionError, "STOMP 1.0"),
        (ignore, QueueConnectionError, "in time"),
    ],
)
def test_a_refused_login(answer, error, words):
    server = Server()
    server.on["CONNECT"] = answer

    async def scenario(client):
        with pytest.raises(error, match=words):
            await client.connect()
        await asyncio.sleep(1)
        assert server.peers[0].ended

    against(server, scenario)


def test_a_refused_message_is_refused_and_what_else_was_under_way_is_unknown():
    server = Server()

    async def scenario(client):
        await client.connect()
        server.on["SEND"] = ignore
        other = asyncio.ensure_future(client.publish())
        await asyncio.sleep(1)
        server.on["SEND"] = say("AMQ339031 Error handling send", named=True)
        with pytest.raises(PublishRefusedError, match="AMQ339031"):
            await client.publish()
        with pytest.raises(PublishUnconfirmedError):
            await other

    against(server, scenario)


def test_a_refused_message_ends_nothing_but_the_connection_that_it_came_by():
    server = Server()

    async def scenario(client):
        await client.connect()
        await client.consume()
        server.on["SEND"] = say("AMQ339031 Error handling send", named=True)
        for _ in range(3):
            with pytest.raises(PublishRefusedError):
                await client.publish()
        del server.on["SEND"]
        await client.publish()
        peer = server.peers[1]
        peer.say(message(1, subscription=peer.frames[1][1]["id"]))
        await asyncio.sleep(1)
        await client.taken[0].ack()
        await asyncio.sleep(1)
        assert (client.lost, client.cancelled, peer.commands[-1]) == ([], [], "ACK")

    against(server, scenario)


def test_closing_after_a_refusal_leaves_nothing_that_listens():
    server = Server()

    async def scenario(client):
        await client.connect()
        server.on["SEND"] = ignore
        other = asyncio.ensure_future(client.publish())
        await asyncio.sleep(1)
        server.on["SEND"] = lambda peer, asked: peer.say(
            ErrorFrame(headers={"message": "AMQ339011", "receipt-id": asked["receipt"]})
        )
        with pytest.raises(PublishRefusedError):
            await client.publish()
        await client.transport.close()
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("factflow-artemis-read")]
        with pytest.raises(PublishUnconfirmedError):
            await other

    against(server, scenario)


def test_a_refusal_after_which_nobody_lets_us_in_again_is_a_lost_connection():
    server = Server()

    async def scenario(client):
        await client.connect()
        await client.consume()
        server.on["SEND"] = say("AMQ339031 Error handling send", named=True)
        server.on["CONNECT"] = say("AMQ229031 Security Error occurred")
        with pytest.raises(PublishRefusedError):
            await client.publish()
        with pytest.raises(QueueConnectionError):
            await client.publish()
        assert len(client.lost) == 1
        assert server.peers[1].commands[-2:] == ["UNSUBSCRIBE", "DISCONNECT"]

    against(server, scenario)


@pytest.mark.parametrize("steps", range(6))
def test_closing_while_it_connects_again_after_a_refusal(steps):
    server = Server()

    async def scenario(client):
        await client.connect()
        server.on["SEND"] = say("AMQ339031 Error handling send", named=True)
        with pytest.raises(PublishRefusedError):
            await client.publish()
        for _ in range(steps):
            await asyncio.sleep(0)
        await client.transport.close()
        await asyncio.sleep(10)
        assert client.lost == []
        assert all(peer.ended for peer in server.peers)

    against(server, scenario)


def test_a_message_that_was_written_and_not_answered_is_unknown():
    server = Server()
    server.on["SEND"] = lambda peer, _: peer.transport.abort()

    async def scenario(client):
        await client.connect()
        with pytest.raises(PublishUnconfirmedError):
            await client.publish()

    against(server, scenario)


def test_a_broker_that_falls_silent_is_lost_after_two_intervals_and_is_told():
    server = Server()

    async def scenario(client):
        await client.connect()
        await client.consume()
        publishing, consuming = server.peers
        loop = asyncio.get_running_loop()
        began = loop.time()
        publishing.transport.write(b"\n")
        await asyncio.sleep(19)
        assert client.lost == []
        await asyncio.sleep(12)
        assert loop.time() - began == 31
        assert "not even a heart-beat" in str(client.lost[0])
        await asyncio.sleep(1)
        # The consumer's connection may live: nothing it holds may be left behind (ART-4).
        assert publishing.commands[-1] == "DISCONNECT"
        assert consuming.commands[-2:] == ["UNSUBSCRIBE", "DISCONNECT"]
        assert publishing.ended
        assert consuming.ended

    against(server, scenario)


@pytest.mark.parametrize("heart_beat", ["0,0", "10000,0"])
def test_a_broker_that_wants_no_heart_beats_gets_none(heart_beat):
    """Stompman would send them without a pause: 41,242 newlines a second."""
    server = Server(heart_beat)

    async def scenario(client):
        await client.connect()
        for _ in range(100):
            server.peers[0].transport.write(b"\n")
            await asyncio.sleep(9)
        assert server.peers[0].beats == 0
        assert client.lost == []

    against(server, scenario)


def test_heart_beats_go_both_ways():
    server = Server()

    async def scenario(client):
        await client.connect()
        for _ in range(36):
            server.peers[0].transport.write(b"\n")
            await asyncio.sleep(10)
        assert 35 <= server.peers[0].beats <= 36
        assert client.lost == []

    against(server, scenario)


def test_the_farewell_is_answered_before_the_socket_closes_and_bounded():
    server = Server()

    async def scenario(client):
        await client.connect()
        consumer = await client.consume()
        server.on["DISCONNECT"] = ignore
        loop = asyncio.get_running_loop()
        began = loop.time()
        await consumer.close()
        await consumer.close()
        assert 5 <= loop.time() - began < 6
        assert server.peers[1].commands == ["CONNECT", "SUBSCRIBE", "UNSUBSCRIBE", "DISCONNECT"]
        assert client.cancelled == []

    against(server, scenario)


def test_closing_waits_for_the_farewells_that_a_lost_connection_has_begun():
    """What a subscription holds goes back with its farewell: whoever has stopped may count on that."""
    server = Server()

    def slowly(peer, headers):
        def answer():
            peer.receipt(headers)
            peer.transport.close()

        asyncio.get_running_loop().call_later(2.0, answer)

    async def scenario(client):
        await client.connect()
        await client.consume()
        server.on["DISCONNECT"] = slowly
        before = asyncio.all_tasks()
        server.peers[0].transport.abort()
        await asyncio.sleep(1)
        assert len(client.lost) == 1
        await client.transport.close()
        await asyncio.sleep(0)
        assert server.peers[1].commands[-2:] == ["UNSUBSCRIBE", "DISCONNECT"]
        assert server.peers[1].ended
        assert asyncio.all_tasks() <= before

    against(server, scenario)


@pytest.mark.parametrize("steps", range(1, 9))
def test_a_cancelled_subscribe_says_goodbye(steps):
    server = Server()

    async def scenario(client):
        await client.connect()
        call = asyncio.ensure_future(client.consume())
        for _ in range(steps):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        await asyncio.sleep(10)
        for peer in server.peers[1:]:
            assert peer.ended
            if "SUBSCRIBE" in peer.commands:
                assert peer.commands[-2:] == ["UNSUBSCRIBE", "DISCONNECT"]

    against(server, scenario)


def test_what_is_answered_after_a_refusal_counts():
    """ART-37: behind the ERROR about one message, what was ahead of it is confirmed, and what came after it is said not to be
    taken, and sent again.
    """
    server = Server()
    held = []

    def answer(peer, asked):
        held.append(asked["receipt"])
        if len(server.peers) > 1:
            peer.receipt(asked)
        elif len(held) == 4:
            taken, refused, behind, _ = held
            peer.say(ErrorFrame(headers={"message": "AMQ339011 Error sending message", "receipt-id": refused}))
            peer.receipt({"receipt": taken})
            peer.say(ErrorFrame(headers={"message": "AMQ339010 Connection is not valid.", "receipt-id": behind}))
            peer.transport.close()

    server.on["SEND"] = answer

    async def scenario(client):
        await client.connect()
        outcomes = await asyncio.gather(*(client.publish() for _ in range(4)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [
            type(None),
            PublishRefusedError,
            type(None),
            PublishUnconfirmedError,
        ]
        assert [peer.commands.count("SEND") for peer in server.peers] == [4, 1]
        assert client.lost == []

    against(server, scenario)


def test_a_message_behind_two_refusals_is_surely_not_taken():
    server = Server()
    held = []

    def answer(peer, asked):
        held.append(asked["receipt"])
        if len(held) == 4 - len(server.peers):
            refused, *behind = held
            peer.say(ErrorFrame(headers={"message": "AMQ339011 Error sending message", "receipt-id": refused}))
            for receipt in behind:
                peer.say(ErrorFrame(headers={"message": "AMQ339010 Connection is not valid.", "receipt-id": receipt}))
            peer.transport.close()
            held.clear()

    server.on["SEND"] = answer

    async def scenario(client):
        await client.connect()
        outcomes = await asyncio.gather(*(client.publish() for _ in range(3)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [
            PublishRefusedError,
            PublishRefusedError,
            QueueConnectionError,
        ]
        assert outcomes[2].retryable

    against(server, scenario)


def test_a_server_that_refuses_and_does_not_close_is_left():
    server = Server()

    def answer(peer, asked):
        if peer.commands.count("SEND") == 1:
            peer.say(ErrorFrame(headers={"message": "AMQ339011 Error sending message", "receipt-id": asked["receipt"]}))

    server.on["SEND"] = answer

    async def scenario(client):
        await client.connect()
        async with asyncio.timeout(10):
            outcomes = await asyncio.gather(client.publish(), client.publish(), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [PublishRefusedError, PublishUnconfirmedError]

    against(server, scenario)


def test_an_unanswered_subscribe_is_given_up():
    server = Server()
    server.on["SUBSCRIBE"] = ignore

    async def scenario(client):
        await client.connect()
        with pytest.raises(QueueConnectionError, match="did not answer in 30"):
            await client.consume()

    # Heart-beats are off, so that nothing else gives it up.
    against(server, scenario, seconds=0)


def test_a_subscription_without_permission():
    server = Server()
    server.on["SUBSCRIBE"] = say("AMQ229213: User: u does not have permission='CONSUME'")

    async def scenario(client):
        await client.connect()
        with pytest.raises(QueueAuthenticationError, match=r"'/queue/orders'.*CONSUME"):
            await client.consume()
        assert client.lost == []

    against(server, scenario)


def test_deliveries_after_cancel_and_close_go_to_nobody():
    server = Server()

    async def scenario(client):
        await client.connect()
        consumer = await client.consume()
        peer = server.peers[1]
        name = peer.frames[1][1]["id"]
        peer.say(message(1, subscription=name))
        peer.say(message(2, subscription="unknown"))
        await asyncio.sleep(1)
        await consumer.cancel()
        peer.say(message(3, subscription=name))
        await asyncio.sleep(1)
        assert [delivery.number for delivery in client.taken] == ["1"]
        await client.taken[0].ack()
        await consumer.close()
        assert peer.commands == ["CONNECT", "SUBSCRIBE", "ACK", "UNSUBSCRIBE", "DISCONNECT"]
        assert "NACK" not in peer.commands

    against(server, scenario)


def test_release_writes_a_copy_confirmed_before_the_ack_and_never_a_nack():
    server = Server()
    order = []

    def note(peer, headers):
        order.append(("SEND", headers["destination"]))
        peer.receipt(headers)

    server.on["SEND"] = note
    server.on["ACK"] = lambda _peer, headers: order.append(("ACK", headers["id"]))

    async def scenario(client):
        await client.connect()
        await client.consume()
        peer = server.peers[1]
        peer.say(message(1, subscription=peer.frames[1][1]["id"]))
        await asyncio.sleep(1)
        await client.taken[0].release()
        await asyncio.sleep(1)
        assert order == [("SEND", "/queue/orders"), ("ACK", "7,1")]

    against(server, scenario)


def test_slots_are_added_only_where_large_messages_leave_handlers_idle():
    server = Server()

    async def scenario(client):
        await client.connect()
        await client.consume(prefetch=10, concurrency=3)
        peer = server.peers[1]
        (first,) = [headers for name, headers in peer.frames if name == "SUBSCRIBE"]
        peer.say(message(1, subscription=first["id"]))
        await asyncio.sleep(1)
        assert peer.commands.count("SUBSCRIBE") == 1
        peer.say(message(2, body=b"x" * 10_000, subscription=first["id"]))
        await asyncio.sleep(1)
        assert peer.commands.count("SUBSCRIBE") == 2
        slot = peer.frames[-1][1]
        assert (slot["consumer-window-size"], slot["destination"]) == ("1", "/queue/orders")
        peer.say(message(3, body=b"x" * 10_000, subscription=slot["id"]))
        await asyncio.sleep(1)
        assert peer.commands.count("SUBSCRIBE") == 2, "three messages are in hand, and that is enough"

    against(server, scenario)


@given(
    st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([b"MESSAGE\n\n\0", b"RECEIPT\n\n\0", b"ERROR\n\n\0"])))
)
@settings(max_examples=60, deadline=None)
def test_whatever_bytes_come_the_connection_ends_or_goes_on_and_nothing_breaks(chunks):
    server = Server()

    async def scenario(client: Client):
        await client.connect()
        await client.consume()
        for peer in list(server.peers):
            for chunk in chunks:
                if not peer.ended:
                    peer.transport.write(chunk)
        await asyncio.sleep(100)
        # Those that understood nothing of it had heart-beats to miss.
        assert len(client.lost) == 1

    against(server, scenario)
