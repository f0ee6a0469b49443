"""What stompman's ``Client`` does that a provider must not, each shown on it, and shown not to befall the provider.

The provider uses stompman's connection, frames and codec without its ``Client`` (``queue/artemis/session.py`` says why). Here both
talk to the same scripted server. What needs a broker to show is in ``tests/wire/stomp/test_stomp_ablations.py``.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress

import pytest
import stompman
from stomp_peer import Peer, Server, against
from stompman import MessageFrame, ReceiptFrame

from factflow_infra.errors import PublishUnconfirmedError, QueueConnectionError
from factflow_infra.queue.artemis.provider import ArtemisQueueProvider
from factflow_infra.queue.messages import QueueMessage
from factflow_infra.queue.settings import QueueSettings
from factflow_infra_testing.simulation.errors import SimulationError
from factflow_infra_testing.simulation.runner import run

SERVERS = [stompman.ConnectionParameters("artemis", 61613, "u", "p")]
BEAT = stompman.Heartbeat(10_000, 10_000)


def bare(server, scenario, *, livelock_limit=100_000):
    """Run ``scenario()``, which makes a ``stompman.Client``, against ``server``."""

    async def main():
        asyncio.get_running_loop().network.serve(lambda: Peer(server), ["artemis"], 61613)
        return await scenario()

    return run(main, livelock_limit=livelock_limit)


def client(**options):
    return stompman.Client(SERVERS, **{"heartbeat": BEAT, "connect_retry_interval": 1, **options})


def provider():
    return ArtemisQueueProvider(QueueSettings(uri="stomp://u:p@artemis", heartbeat=10, reconnect_base=0.1))


def deliver(peer, *numbers):
    (name,) = [headers["id"] for command, headers in peer.frames if command == "SUBSCRIBE"]
    for number in numbers:
        ids = {"message-id": f"7,{number}", "ack": f"7,{number}"}
        headers = {"subscription": name, "destination": "/queue/orders", "content-length": "1", **ids}
        peer.say(MessageFrame(headers=headers, body=b"%d" % number))


async def subscribed(server):
    while not server.peers or "SUBSCRIBE" not in server.peers[-1].commands:  # noqa: ASYNC110 - the server tells nobody
        await asyncio.sleep(0.1)
    return server.peers[-1]


class TestASendCountsAsDoneWhenItIsWritten:
    def test_by_the_client(self):
        server = Server()
        server.on["SEND"] = lambda peer, _: peer.transport.abort()

        async def scenario():
            async with client() as connected:
                await connected.send(b"x", "/queue/orders")
                return "done"

        assert bare(server, scenario).value == "done", "nobody has the message"

    def test_not_by_the_provider(self):
        server = Server()
        server.on["SEND"] = lambda peer, _: peer.transport.abort()

        async def scenario(connected):
            await connected.connect()
            with pytest.raises(PublishUnconfirmedError):
                await connected.publish()

        against(server, scenario)


class TestAnExceptionIsANack:
    """Artemis takes a NACK for an ACK: the message is gone (ART-1)."""

    def test_of_the_client(self):
        server = Server()

        async def fail(_):
            raise ValueError("cannot handle it")

        async def scenario():
            async with client() as connected:
                subscription = await connected.subscribe("/queue/orders", fail, on_suppressed_exception=lambda *_: None)
                deliver(await subscribed(server), 1)
                await asyncio.sleep(1)
                await subscription.unsubscribe()

        bare(server, scenario).result()
        assert "NACK" in server.peers[0].commands

    @pytest.mark.parametrize("error", [ValueError("cannot handle it"), asyncio.CancelledError()])
    def test_not_of_the_provider(self, error):
        server = Server()

        async def fail(_):
            raise error

        async def scenario():
            queue = provider()
            await queue.subscribe("orders", fail)
            deliver(await subscribed(server), 1)
            await asyncio.sleep(1)
            await queue.stop()

        bare(server, scenario).result()
        commands = [command for peer in server.peers for command in peer.commands]
        assert "NACK" not in commands
        # The copy for the retry is confirmed, and then the original acked.
        assert ("SEND" in commands, commands.count("ACK")) == (True, 1)


class TestAnAckOfALostConnectionIsDroppedWithoutAWord:
    def test_by_the_client(self):
        server = Server()

        async def scenario():
            told = []

            async def slow(frame):
                await asyncio.sleep(5)
                told.append(await frame.ack())

            async with client() as connected:
                subscription = await connected.subscribe_with_manual_ack("/queue/orders", slow)
                peer = await subscribed(server)
                deliver(peer, 1)
                await asyncio.sleep(1)
                peer.transport.abort()
                await asyncio.sleep(10)
                await subscription.unsubscribe()
            return told

        assert bare(server, scenario).value == [None], "as if it had been acked"
        assert all("ACK" not in peer.commands for peer in server.peers)

    def test_not_by_the_provider(self):
        server = Server()

        async def scenario(connected):
            await connected.connect()
            await connected.consume()
            deliver(server.peers[-1], 1)
            await asyncio.sleep(1)
            server.peers[-1].transport.abort()
            await asyncio.sleep(1)
            await connected.consume()
            with pytest.raises(QueueConnectionError, match="delivers it again"):
                await connected.taken[0].ack()
            assert all("ACK" not in peer.commands for peer in server.peers)

        against(server, scenario)


class TestHandlersRunAllAtOnce:
    def order(self, subscribe):
        server = Server()
        ended = []

        async def later_is_quicker(number):
            await asyncio.sleep(1.0 / (number + 1))
            ended.append(number)

        bare(server, lambda: subscribe(server, later_is_quicker)).result()
        return ended

    def test_those_of_the_client(self):
        async def subscribe(server, handle):
            async with client() as connected:
                subscription = await connected.subscribe_with_manual_ack(
                    "/queue/orders", lambda frame: handle(int(frame.body))
                )
                deliver(await subscribed(server), *range(5))
                await asyncio.sleep(10)
                await subscription.unsubscribe()

        assert self.order(subscribe) == [4, 3, 2, 1, 0]

    def test_not_those_of_the_provider(self):
        async def subscribe(server, handle):
            queue = provider()
            await queue.subscribe("orders", lambda message: handle(int(message.body)))
            deliver(await subscribed(server), *range(5))
            await asyncio.sleep(10)
            await queue.stop()

        assert self.order(subscribe) == [0, 1, 2, 3, 4]


class TestATransactionIsReplayedWithoutItsBegin:
    """The provider uses none: the copy is confirmed before the ack, and a duplicate is what a crash between them costs."""

    def test_by_the_client(self):
        server = Server()

        async def scenario():
            async with client() as connected:
                with suppress(KeyError):  # what its abort raises
                    async with connected.begin() as transaction:
                        await transaction.send(b"x", "/queue/orders")
                        await asyncio.sleep(1)
                        server.peers[0].transport.abort()
                        await asyncio.sleep(5)
                        raise KeyError("the work failed: abort")

        bare(server, scenario).result()
        assert server.peers[1].commands[:3] == ["CONNECT", "SEND", "COMMIT"], "what was to be aborted is committed"

    def test_not_by_the_provider(self):
        server = Server()

        async def scenario():
            queue = provider()

            async def handle(message):
                await queue.publish("done", message)

            await queue.subscribe("orders", handle)
            deliver(await subscribed(server), 1)
            await asyncio.sleep(1)
            await queue.stop()

        bare(server, scenario).result()
        assert not {"BEGIN", "COMMIT", "ABORT"} & {command for peer in server.peers for command in peer.commands}


class TestASilentBrokerIsNotMissed:
    def test_by_the_client(self):
        server = Server()

        async def scenario():
            async with client() as connected:
                await asyncio.sleep(600)
                assert not connected.is_alive()
                return len(server.peers)

        assert bare(server, scenario).value == 1, "it knows, and does nothing"

    def test_but_by_the_provider(self):
        server = Server()

        async def scenario():
            queue = provider()
            async with queue:
                await asyncio.sleep(600)
                assert queue.health().reconnect_attempts <= 1
            return len(server.peers)

        assert bare(server, scenario).value > 10


class TestABrokerThatWantsNoHeartBeatsIsFlooded:
    def test_by_the_client(self):
        async def scenario():
            async with client():
                await asyncio.sleep(60)

        outcome = bare(Server("0,0"), scenario)
        assert isinstance(outcome.error, SimulationError), "so many newlines that the clock stands still"

    def test_not_by_the_provider(self):
        server = Server("0,0")

        async def scenario():
            async with provider():
                await asyncio.sleep(60)

        bare(server, scenario).result()
        assert server.peers[0].beats == 0


class TestLeavingWaitsForSubscriptions:
    def test_of_the_client_for_ever(self):
        async def scenario():
            async def handle(_): ...

            subscriptions = []

            async def leave():
                async with client() as connected:
                    subscriptions.append(await connected.subscribe_with_manual_ack("/queue/orders", handle))

            leaving = asyncio.ensure_future(leave())
            await asyncio.wait([leaving], timeout=1800)
            hangs = not leaving.done()
            await subscriptions[0].unsubscribe()
            await leaving
            return hangs

        assert bare(Server(), scenario).value

    def test_not_of_the_provider(self):
        async def scenario():
            async def handle(_): ...

            queue = provider()
            await queue.subscribe("orders", handle)
            began = asyncio.get_running_loop().time()
            await queue.stop()
            return asyncio.get_running_loop().time() - began

        assert bare(Server(), scenario).value < 1


class TestAnHourWithoutMessagesIsTakenForALostConnection:
    def connections(self, scenario):
        server = Server()

        async def beating():
            async def beat():
                while True:
                    for peer in server.peers:
                        if not peer.ended:
                            peer.transport.write(b"\n")
                    await asyncio.sleep(5)

            beats = asyncio.ensure_future(beat())
            await scenario(server)
            beats.cancel()

        bare(server, beating).result()
        return [peer for peer in server.peers if "SUBSCRIBE" in peer.commands]

    def test_by_the_client_under_a_running_handler(self):
        async def scenario(server):
            async def handle(_):
                await asyncio.sleep(5000)

            async with client() as connected:
                subscription = await connected.subscribe_with_manual_ack("/queue/orders", handle)
                deliver(await subscribed(server), 1)
                await asyncio.sleep(4000)
                await subscription.unsubscribe()

        assert len(self.connections(scenario)) == 2

    def test_not_by_the_provider(self):
        async def scenario(server):
            async def handle(_):
                await asyncio.sleep(5000)

            queue = provider()
            await queue.subscribe("orders", handle)
            deliver(await subscribed(server), 1)
            await asyncio.sleep(4000)
            await queue.stop(timeout=0)

        assert len(self.connections(scenario)) == 1


@pytest.mark.parametrize("steps", range(0, 30, 3))
def test_a_connect_that_is_cancelled_at_any_step_ends(steps):
    """On 3.11 ``asyncio.wait_for``, which the client uses, can swallow a cancellation that meets a handshake's end."""
    server = Server()

    async def scenario():
        queue = provider()
        call = asyncio.ensure_future(queue.publish("orders", QueueMessage(b"x")))
        for _ in range(steps):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call], timeout=100)
        assert call.done()
        await queue.stop()
        assert all(peer.ended for peer in server.peers)

    bare(server, scenario).result()


def test_a_server_that_answers_receipts_it_was_not_asked_for_confuses_nobody():
    server = Server()
    numbers = itertools.count()

    def answer(peer, headers):
        peer.say(ReceiptFrame(headers={"receipt-id": f"other-{next(numbers)}"}))
        peer.receipt(headers)
        peer.receipt(headers)

    server.on["SEND"] = answer

    async def scenario(connected):
        await connected.connect()
        for _ in range(3):
            await connected.publish()
        assert connected.lost == []

    against(server, scenario)
