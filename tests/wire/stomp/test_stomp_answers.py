"""The front end's answers to single requests beside those that the real brokers gave: Artemis 2.44.0, ActiveMQ 5.17.2, RabbitMQ 3.10.8.

``python tests/live/record_stomp.py PROFILE`` records them; the live suite asks the real ones again.
"""

import json

import pytest
import stomp_requests
from stomp_play import Line, play

from factflow_infra_testing.wire.stomp.dialects import DIALECTS

PROFILES = tuple(stomp_requests.ASKED)
RECORDED = {profile: json.loads(stomp_requests.recorded(profile).read_text()) for profile in PROFILES}
EVERYWHERE_STRICTER = {
    # The simulation refuses what the brokers pass over in silence, end the connection about without a word, or half understand.
    *("an unknown command first", "garbage first", "connect with negative heart-beats"),
    *("send with a wrong content-length", "send with a negative content-length", "send with a short content-length"),
    *("send with a trailing backslash", "send with a header without colon", "a body on a frame that has none"),
}
STRICTER = {
    "artemis": {
        *EVERYWHERE_STRICTER,
        *("send first", "send with an empty destination", "subscribe with a wrong ack"),
        # And what it has not.
        *("send with priority", "subscribe with a selector", "subscribe no-local"),
        "subscribe with a window below none",
    },
    "activemq-classic": {
        *EVERYWHERE_STRICTER,
        *(
            "unknown command",
            "lower case command",
            "send with an empty destination",
            "send to /queue/",
            "send to /topic/",
        ),
        *(
            "send with a wrong delay",
            "send with a negative delay",
            "send with wrong expiry",
            "send with wrong priority",
        ),
        *("send with an undefined escape", "send with an empty header name", "subscribe in version 1.1"),
        *("many headers", "a long header", "a wrong prefetch", "an unknown option"),
        # And what it has not.
        *("subscribe twice with one id", "subscribe with a selector", "subscribe with a wrong selector"),
        *("a selector of numbers", "exclusive", "retroactive", "a group", "a transformation"),
        *("send and receive /temp-queue/{q}", "send and receive /temp-topic/{q}", "send to /temp-topic/{q}"),
        *("send and receive /queue/{q}.>", "send to /queue/{q}.>", "send to /queue/{q}.*"),
        *("send and receive /queue/{q},/queue/{q}b", "send to /queue/{q},/queue/{q}b"),
        *("send to /queue/{q}?consumer.prefetchSize=1",),
    },
    "rabbitmq-stomp": {
        *EVERYWHERE_STRICTER,
        *("connect twice", "unknown command", "lower case command", "a server's command"),
        *("send with an undefined escape", "subscribe in version 1.1"),
        # And what it has not.
        *("declare a queue otherwise", "a queue that deletes itself", "a quorum queue", "an exclusive queue"),
        *("a queue with a name of its own", "reply to a temporary queue"),
    },
}
OTHER_WORDS = {
    # Refused by both, with another code; a NullPointerException's text is not imitated.
    "artemis": {
        "send without destination",
        "subscribe without a destination",
        "subscribe with a wrong type",
        "unsubscribe a durable one without an id",
        "nack in version 1.0",
    },
    # A name of its own.
    "activemq-classic": {"connect with a wrong password"},
    "rabbitmq-stomp": set(),
}
OTHERWISE = {
    # ActiveMQ unescapes headers in version 1.0 as well, and ends the connection about an unknown ACK there.
    "activemq-classic": {"subscribe in version 1.0"},
}
SORTED = {
    # Between an address' ANYCAST and MULTICAST queues; the other two answer a frame and deliver in any order.
    "artemis": {"subscribe as anycast to a topic"},
    "activemq-classic": set(stomp_requests.ASKED["activemq-classic"]),
    "rabbitmq-stomp": set(stomp_requests.ASKED["rabbitmq-stomp"]),
}
EVERY = [(profile, name) for profile, asked in stomp_requests.ASKED.items() for name in asked]


async def answer(front_end, profile, name):
    line = Line(front_end)
    received = b""
    queue = "q123456789"
    dialect, host = DIALECTS[profile], stomp_requests.HOSTS[profile]
    for request in stomp_requests.ASKED[profile][name]:
        if not line.closed:
            data = stomp_requests.encoded(request, dialect.user, dialect.password, queue, host)
            received += await line.talk(data, stomp_requests.QUIET_SECONDS)
    return [
        *(stomp_requests.normal(one, queue) for one in stomp_requests.read_frames(received)),
        *(["closed"] if line.closed else []),
    ]


def essence(profile, answer):
    return stomp_requests.essence(answer, coded=profile == "artemis")


@pytest.mark.parametrize("profile", PROFILES)
def test_every_request_was_asked_of_the_real_broker(profile):
    assert set(RECORDED[profile]) == set(stomp_requests.ASKED[profile])


@pytest.mark.parametrize(("profile", "name"), EVERY)
def test_it_answers_as_the_real_broker_did(profile, name):
    real = essence(profile, RECORDED[profile][name])
    ours = essence(profile, play(lambda front_end: answer(front_end, profile, name), profile=profile))
    if name in STRICTER[profile]:
        assert "ERROR" in [one[0] for one in ours]
        assert real != ours, "no longer stricter: take it out of the list"
    elif name in OTHER_WORDS[profile]:
        assert [one[0] for one in ours] == [one[0] for one in real]
    elif name in OTHERWISE.get(profile, ()):
        assert real != ours, "no longer otherwise: take it out of the list"
    elif name in SORTED[profile]:
        assert sorted(ours) == sorted(real)
    else:
        assert ours == real
