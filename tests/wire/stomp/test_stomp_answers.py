"""The front end's answers to single requests beside those that a real Artemis 2.44.0 gave.

``python tests/wire/stomp/stomp_requests.py PORT USER PASSWORD`` records them; the live suite asks a real one again.
"""

import json
from pathlib import Path

import pytest
import stomp_requests
from stomp_play import Line, play

RECORDED = json.loads((Path(__file__).parent / "answers_of_artemis_2_44_0.json").read_text())
STRICTER = {
    # The simulation refuses what Artemis passes over in silence, or half understands.
    "send first",
    "an unknown command first",
    "garbage first",
    "connect with negative heart-beats",
    "send with an empty destination",
    "send with a wrong content-length",
    "send with a negative content-length",
    "send with a short content-length",
    "send with a trailing backslash",
    "send with a header without colon",
    "subscribe with a wrong ack",
    "a body on a frame that has none",
    # And what it has not.
    "send with priority",
    "subscribe with a selector",
    "subscribe no-local",
}
OTHER_WORDS = {
    # Refused by both, with another code; a NullPointerException's text is not imitated.
    "send without destination",
    "subscribe without a destination",
    "subscribe with a wrong type",
    "unsubscribe a durable one without an id",
    "nack in version 1.0",
}
OTHER_ORDER = {
    # Between an address' ANYCAST and MULTICAST queues.
    "subscribe as anycast to a topic",
}


async def answer(front_end, name):
    line = Line(front_end)
    received = b""
    queue = "q123456789"
    for request in stomp_requests.REQUESTS[name]:
        if not line.closed:
            received += await line.talk(stomp_requests.encoded(request, "artemis", "artemis", queue))
    return [
        *(stomp_requests.normal(one, queue) for one in stomp_requests.read_frames(received)),
        *(["closed"] if line.closed else []),
    ]


def answered(name):
    return stomp_requests.essence(play(lambda front_end: answer(front_end, name)))


def test_every_request_was_asked_of_the_real_broker():
    assert set(RECORDED) == set(stomp_requests.REQUESTS)


@pytest.mark.parametrize("name", [*stomp_requests.REQUESTS])
def test_it_answers_as_the_real_broker_did(name):
    real, ours = stomp_requests.essence(RECORDED[name]), answered(name)
    if name in STRICTER:
        assert (ours[-2][0], ours[-1]) == ("ERROR", ["closed"])
        assert real != ours, "no longer stricter: take it out of the list"
    elif name in OTHER_WORDS:
        assert [one[0] for one in ours] == [one[0] for one in real]
    elif name in OTHER_ORDER:
        assert sorted(ours) == sorted(real)
    else:
        assert ours == real
