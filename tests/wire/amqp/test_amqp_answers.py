"""What the front end answers is what RabbitMQ answers, word for word; and what is not simulated is refused loudly."""

import asyncio
import contextlib
import json
from pathlib import Path

import aiormq
import amqp_requests
import pytest
from pamqp import commands as spec

from factflow_infra_testing.broker import SimulatedBroker
from factflow_infra_testing.simulation.runner import run
from factflow_infra_testing.wire.amqp import AmqpFrontEnd, arguments

RECORDED = json.loads((Path(__file__).parent / "answers_of_rabbitmq_3_10_8.json").read_text())
URI = "amqp://guest:guest@broker:5672/"


def on_the_wire(scenario):
    """The outcome of ``scenario(broker)`` in a simulation where the broker listens."""

    async def main():
        broker = SimulatedBroker("rabbitmq-quorum")
        AmqpFrontEnd(broker).listen("broker")
        return await scenario(broker)

    return run(main).result()


@pytest.fixture(scope="module")
def answers():
    return on_the_wire(lambda _: amqp_requests.answers(URI))


def test_every_request_was_recorded(answers):
    assert answers.keys() == RECORDED.keys() == amqp_requests.REQUESTS.keys()


@pytest.mark.parametrize("name", RECORDED)
def test_the_answer_is_rabbitmqs(answers, name):
    assert answers[name] == RECORDED[name]


def test_an_ack_a_second_time_is_the_error_that_clients_know(answers):
    assert answers["ack twice"] == "ChannelPreconditionFailed: PRECONDITION_FAILED - unknown delivery tag 1"


NOT_SIMULATED = {
    "transactions (tx)": amqp_requests.rpc(spec.Tx.Select()),
    "queue argument 'x-max-priority'": amqp_requests.declare("q", arguments={"x-max-priority": 5}),
    "queue argument 'x-nonsense'": amqp_requests.declare("q", arguments={"x-nonsense": 5}),
    "streams": amqp_requests.declare("q", arguments={"x-queue-type": "stream"}),
    "consumer argument 'x-priority'": amqp_requests.rpc(
        spec.Queue.Declare(queue="q"), amqp_requests.consume("q", arguments={"x-priority": 1})
    ),
    "exchange argument 'x-delayed-type'": amqp_requests.exchange("e", arguments={"x-delayed-type": "direct"}),
    "sender-selected distribution (the header CC)": amqp_requests.publish(headers={"CC": ["q"]}),
    "overflow behaviour 'reject-publish-dlx'": amqp_requests.declare(
        "q", arguments={"x-overflow": "reject-publish-dlx"}
    ),
}


def test_the_page_names_every_argument_and_what_is_refused():
    page = (Path(__file__).parents[3] / "docs" / "rabbitmq.md").read_text()
    told = page.partition("## What the simulated RabbitMQ has")[2].partition("## Speed")[0]
    assert [name for name in arguments.KNOWN if f"`{name}`" not in told] == []
    assert all(
        word in told for word in ("(tx)", "streams", "`x-priority`", "`x-max-priority`", "`CC`", "'reject-publish-dlx'")
    )


@pytest.mark.parametrize("what", NOT_SIMULATED)
def test_what_is_not_simulated_is_refused(what):
    async def scenario(_):
        connection = await aiormq.connect(URI)
        channel = await connection.channel(publisher_confirms=False)
        with contextlib.suppress(aiormq.exceptions.AMQPError):  # what is published unconfirmed hears nothing of it
            await NOT_SIMULATED[what](channel)
        with pytest.raises(aiormq.exceptions.ConnectionNotImplemented, match="NOT_IMPLEMENTED") as caught:
            await connection.closing
        return str(caught.value)

    assert on_the_wire(scenario) == f"NOT_IMPLEMENTED - the simulated broker has no {what}"


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("amqp://guest:wrong@broker:5672/", "ACCESS_REFUSED - Login was refused"),
        ("amqp://guest:guest@broker:5672/nope", "Close"),
    ],
)
def test_a_login_that_fails(uri, said):
    async def scenario(_):
        with pytest.raises(aiormq.exceptions.AMQPError, match=said):
            await aiormq.connect(uri)

    on_the_wire(scenario)


def test_a_returned_message_comes_before_its_confirm_and_large_bodies_come_whole():
    async def scenario(_):
        connection = await aiormq.connect(URI)
        channel = await connection.channel(on_return_raises=True)
        with pytest.raises(aiormq.exceptions.PublishError):
            await channel.basic_publish(b"x", routing_key="nowhere", mandatory=True)
        await channel.queue_declare("q")
        body = bytes(range(256)) * 2000
        properties = spec.Basic.Properties(
            content_type="a/b",
            headers={"one": 1, "t": {"x": [True, None, "é"]}},
            priority=3,
            reply_to="r",
            app_id="app",
        )
        await channel.basic_publish(body, routing_key="q", properties=properties)
        message = await channel.basic_get("q")
        assert message.body == body
        assert message.header.properties == properties
        await connection.close()

    on_the_wire(scenario)


def test_a_deleted_queue_cancels_its_consumers_and_their_channel_goes_on():
    async def scenario(_):
        connection = await aiormq.connect(URI)
        channel = await connection.channel()
        cancelled = []
        channel.on_consumer_cancel_callbacks.add(lambda frame: cancelled.append(frame.consumer_tag))
        await channel.queue_declare("q")
        await channel.basic_consume("q", lambda _: None, consumer_tag="t")
        await channel.queue_delete("q")
        await channel.basic_qos(prefetch_count=1)
        assert cancelled == ["t"]
        await connection.close()

    on_the_wire(scenario)


def test_a_silent_client_is_given_up_after_two_heartbeats_and_a_live_one_never():
    async def scenario(broker):
        connection = await aiormq.connect(URI + "?heartbeat=10")
        channel = await connection.channel()
        await channel.queue_declare("q")
        await channel.basic_publish(b"x", routing_key="q")
        await channel.basic_get("q")
        await asyncio.sleep(3600)
        assert broker.broker.unacked("q") == 1
        network = asyncio.get_running_loop().network
        for end in network.connections(None):
            network.silence(end)
        await asyncio.sleep(14)
        assert broker.broker.unacked("q") == 1
        await asyncio.sleep(16)
        assert broker.broker.unacked("q") == 0
        assert len(broker.broker.ready("q")) == 1

    on_the_wire(scenario)


def test_a_limit_of_the_whole_channel_counts_all_its_consumers():
    async def scenario(_):
        connection = await aiormq.connect(URI)
        channel = await connection.channel()
        got = []
        await channel.queue_declare("q")
        await channel.basic_qos(prefetch_count=3, global_=True)
        for tag in ("a", "b"):
            await channel.basic_consume("q", got.append, consumer_tag=tag)
        for _ in range(5):
            await channel.basic_publish(b"x", routing_key="q")
        await asyncio.sleep(1)
        assert len(got) == 3
        await channel.basic_ack(got[-1].delivery.delivery_tag, multiple=True)
        await asyncio.sleep(1)
        assert len(got) == 5
        await connection.close()

    on_the_wire(scenario)


@pytest.mark.parametrize("ttl", [0, 50])
def test_what_expires_into_its_own_queue_is_dropped(ttl):
    async def scenario(broker):
        connection = await aiormq.connect(URI)
        channel = await connection.channel()
        arguments = {"x-message-ttl": ttl, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q"}
        await channel.queue_declare("q", arguments=arguments)
        await channel.basic_publish(b"x", routing_key="q")
        await asyncio.sleep(1)
        assert broker.depth("q") == 0
        await connection.close()

    on_the_wire(scenario)


def test_an_answer_goes_straight_to_who_asked_and_one_that_is_mandatory_is_returned_too():
    found = on_the_wire(lambda _: amqp_requests.ask(URI))
    assert found == [(b"!", 2, ""), "NO_ROUTE", (b"!!", 2, "")]
