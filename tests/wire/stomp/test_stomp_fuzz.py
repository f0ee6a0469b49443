"""Garbage, and sessions with bytes changed: the client is told what is wrong, and nothing crashes, hangs or grows."""

import asyncio
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stomp_play import Line, play

from factflow_infra_testing.wire.stomp import frames
from factflow_infra_testing.wire.stomp.errors import MalformedError
from factflow_infra_testing.wire.stomp.frames import Cutter

TO = b"destination:/queue/q\ndestination-type:ANYCAST\n"
SESSION = [
    b"CONNECT\naccept-version:1.2\nhost:h\nlogin:artemis\npasscode:artemis\nclient-id:c\nheart-beat:10000,0\n\n\0",
    b"SUBSCRIBE\nid:a\ndestination:/queue/q\nsubscription-type:ANYCAST\nack:client-individual\nconsumer-window-size:300\n\n\0",
    b"SUBSCRIBE\nid:t\ndestination:/topic/t\ndurable-subscription-name:d\nreceipt:r0\n\n\0",
    b"SEND\n" + TO + b"h:a\\cb\\nc\npersistent:true\ncontent-length:5\nreceipt:r1\n\nhe\0lo\0",
    b"BEGIN\ntransaction:x\n\n\0",
    b"SEND\n" + TO + b"transaction:x\nAMQ_SCHEDULED_DELAY:50\n\ntext\0",
    b"\n\n",
    b"SEND\ndestination:/topic/t\nexpires:99\n\nlate\0",
    b"COMMIT\ntransaction:x\nreceipt:r2\n\n\0",
    b"ACK\nid:2,5\n\n\0",
    b"NACK\nid:2,6\n\n\0",
    b"UNSUBSCRIBE\nid:a\n\n\0",
    b"SEND\ndestination:/topic/t::c.d\n\nx\0",
    b"UNSUBSCRIBE\nid:t\ndurable-subscription-name:d\n\n\0",
    b"DISCONNECT\nreceipt:bye\n\n\0",
]


def serve(chunks):
    """The broker's answers to ``chunks``, and the line, two virtual minutes later."""

    async def talk(front_end):
        line = Line(front_end)
        received = b""
        for chunk in chunks:
            received += await line.talk(chunk, 0)
        await asyncio.sleep(0)
        received += await line.talk(b"", 121)
        return received, line

    return play(talk)


def commands(received):
    """The commands of the broker's frames: what it wrote is made of whole, valid ones."""
    found = []
    data = received.lstrip(b"\n")
    while data:
        head, end, rest = data.partition(b"\n\n")
        assert end, data
        command, *lines = head.decode().split("\n")
        headers = dict(line.split(":", 1) for line in reversed(lines))
        length = int(headers["content-length"]) if "content-length" in headers else rest.index(b"\0")
        assert rest[length : length + 1] == b"\0"
        found.append(command)
        data = rest[length + 1 :].lstrip(b"\n")
    return found


def check(received, line):
    assert commands(received).count("ERROR") <= len(SESSION)  # before 1.2 an error about an ACK is no end
    assert len(received) < 100_000
    assert line.protocol._cutter.held <= 1000
    assert line.closed, "a client that says nothing for two minutes is given up"
    assert not line.protocol.server_open


def cut(data, at):
    places = sorted({place % (len(data) + 1) for place in at} | {0, len(data)})
    return [data[one:other] for one, other in itertools.pairwise(places)]


def test_a_whole_session_is_served():
    received, line = serve(SESSION)
    assert commands(received) == ["CONNECTED", "RECEIPT", "RECEIPT", "MESSAGE", "RECEIPT"] or "ERROR" in commands(
        received
    )
    check(received, line)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 10_000), max_size=40))
def test_where_the_bytes_are_cut_makes_no_difference(at):
    data = b"".join(SESSION[:9])
    whole, _ = serve([data])
    parts, line = serve(cut(data, at))
    assert sorted(commands(parts)) == sorted(commands(whole))
    check(parts, line)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.binary(max_size=200), max_size=5))
def test_garbage_instead_of_a_login(chunks):
    received, line = serve(chunks)
    check(received, line)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, len(SESSION) - 1), st.binary(min_size=8, max_size=300), st.lists(st.integers(0, 300), max_size=4))
def test_garbage_in_a_session(place, garbage, at):
    received, line = serve([*SESSION[:place], *cut(garbage, at)])
    check(received, line)


@settings(deadline=None, max_examples=100)
@given(
    st.integers(0, len(SESSION) - 2),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_frames_with_bytes_changed(place, changes):
    frame = bytearray(SESSION[place])
    for at, value in changes:
        frame[at % len(frame)] = value
    received, line = serve([*SESSION[:place], bytes(frame), *SESSION[place + 1 :]])
    check(received, line)


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(1, len(SESSION))), st.integers(0, 3))
def test_frames_out_of_order(order, missing):
    received, line = serve([SESSION[0], *(SESSION[index] for index in order[missing:])])
    check(received, line)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.binary(max_size=60), max_size=8), st.sampled_from(["1.0", "1.1", "1.2"]))
def test_the_codec_gives_frames_or_one_error_however_it_is_fed(chunks, version):
    def outcome(parts):
        cutter = Cutter()
        cutter.version = version
        found = []
        try:
            for part in parts:
                found.extend(cutter.feed(part))
        except MalformedError as error:
            found.append(error.message)
        return found

    assert outcome(chunks) == outcome([b"".join(chunks)])


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (b"NONSENSE\n\n\0", "AMQ339023 Invalid STOMP frame"),
        (b"A" * 100, "AMQ339023 Invalid STOMP frame"),
        (b"SEND\nno colon\n\n\0", "a header without a colon: 'no colon'"),
        (b"SEND\nh:\\x\n\n\0", "AMQ339040 Undefined escape sequence \\x"),
        (b"SEND\nh:\\\n\n\0", "AMQ339040 Undefined escape sequence \\"),
        (b"SEND\ncontent-length:2\n\nabc\0", "no NUL where content-length 2 ends the body"),
        (b"SEND\ncontent-length:x\n\n\0", "content-length must be a number of bytes, got 'x'"),
        (b"SEND\ncontent-length:99999999999\n\n", "a body of 99999999999 bytes; at most 134217728"),
        (b"SEND\nh:v\0\n\n", "the end of a frame stands before the end of its headers"),
        (b"BEGIN\ntransaction:t\n\nbody\0", "a BEGIN frame has no body"),
        (b"SEND\n" + b"h:v\n" * 5000 + b"\n\0", "a frame has more than 4096 headers"),
        (b"SEND\nh:" + b"v" * 600_000, "command and headers take more than 524288 bytes"),
    ],
)
def test_each_kind_of_malformed_frame_has_its_error(frame, message):
    with pytest.raises(MalformedError) as caught:
        list(Cutter().feed(frame))
    assert caught.value.message == message
    received, line = serve([SESSION[0], frame])
    assert commands(received) == ["CONNECTED", "ERROR"]
    check(received, line)


def test_what_waits_for_its_end_is_bounded_and_read_once(monkeypatch):
    monkeypatch.setattr(frames, "MAX_BODY_BYTES", 10_000)
    cutter = Cutter()
    list(cutter.feed(b"SEND\n\n"))
    for _ in range(1000):
        list(cutter.feed(b"x" * 10))
    with pytest.raises(MalformedError, match="a body of more than 10000 bytes"):
        list(cutter.feed(b"x"))
    assert cutter.held == 10_001


def test_the_first_of_repeated_headers_counts_and_escapes_are_those_of_the_version():
    data = b"SEND\nh:a\\nb\nh:second\n\n\0"
    for version, value in (("1.0", "a\\nb"), ("1.1", "a\nb"), ("1.2", "a\nb")):
        cutter = Cutter()
        cutter.version = version
        (frame,) = cutter.feed(data)
        assert frame.headers == {"h": value}
    cutter = Cutter()
    cutter.version = "1.1"
    with pytest.raises(MalformedError):
        list(cutter.feed(b"SEND\nh:a\\rb\n\n\0"))
