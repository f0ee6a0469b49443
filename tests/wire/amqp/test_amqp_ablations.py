"""Each safeguard of the RabbitMQ provider on the wire, taken out: which behaviour of the contract breaks."""

import aiormq
import pytest
from wire_harness import WireHarness

from factflow_infra.queue.rabbitmq import declaring, delays, wire
from factflow_infra.queue.rabbitmq.declaring import Declarer
from factflow_infra.queue.rabbitmq.session import Session
from factflow_infra_testing.contracts import QUEUE_BEHAVIOURS

TRANSIENT = 1


def not_persistent(patch):
    patch.setattr(wire, "PERSISTENT", TRANSIENT)


def not_durable(patch):
    declare = aiormq.Channel.queue_declare

    async def transient(channel, name, **options):
        return await declare(channel, name, **options | {"durable": False})

    patch.setattr(aiormq.Channel, "queue_declare", transient)


def no_confirms(patch):
    channel = Session.channel
    patch.setattr(Session, "channel", lambda session, **_: channel(session, confirms=False))


def no_prefetch(patch):
    async def nothing(*_, **__):
        return None

    patch.setattr(aiormq.Channel, "basic_qos", nothing)


def one_delay_queue(patch):
    patch.setattr(delays, "DELAY_STEPS_MS", (60_000,))


def keeps_a_closing_channel(patch):
    async def declare(declarer, declaration):
        channel = await declarer._ready()
        await declarer._session.request(declaring._call(channel, declaration), declaration.text)

    patch.setattr(Declarer, "_declare", declare)


def any_id_on_the_wire(patch):
    patch.setattr(wire, "fits_short_string", lambda _: True)


ABLATIONS = {
    not_persistent: ("rabbitmq-classic", "q1-accepted-survives-a-broker-restart", "expected 5 deliveries, got 0"),
    not_durable: ("rabbitmq-classic", "q1-accepted-survives-a-broker-restart", "expected 5 deliveries, got 0"),
    no_confirms: ("rabbitmq-quorum", "q1-refusal-raises", "PublishRefusedError was not raised"),
    no_prefetch: ("rabbitmq-quorum", "q6-prefetch-leaves-the-rest-to-others", "expected 4 finished handlings, got 0"),
    one_delay_queue: ("rabbitmq-quorum", "q1-delay-holds-a-message-back", "a delay of 20 s took 60 s"),
    keeps_a_closing_channel: (
        "rabbitmq-quorum",
        "q5-cancelled-subscribe-leaves-nothing-behind",
        "Channel closed by RPC timeout",
    ),
    any_id_on_the_wire: ("rabbitmq-quorum", "q7-messages-survive-delivery", "maximum length of 255 bytes"),
}
"""What is taken out, the behaviour that must break for it, and how."""


@pytest.mark.parametrize(
    ("take_out", "profile", "row", "words"),
    [pytest.param(out, *what, id=f"{out.__name__}-{what[1]}") for out, what in ABLATIONS.items()],
)
def test_without_it_a_promise_breaks(monkeypatch, take_out, profile, row, words):
    harness, check = WireHarness(profile), QUEUE_BEHAVIOURS[row].check
    harness.run(check)
    take_out(monkeypatch)
    with pytest.raises(Exception, match=words):
        harness.run(check)
