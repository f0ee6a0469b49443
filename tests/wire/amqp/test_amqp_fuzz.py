"""Garbage, and sessions with bytes changed: the client is told what is wrong, and nothing crashes, hangs or grows."""

import asyncio
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands as spec
from pamqp import frame as pamqp_frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from factflow_infra_testing.broker import SimulatedBroker
from factflow_infra_testing.simulation.runner import run
from factflow_infra_testing.wire.amqp import AmqpFrontEnd
from factflow_infra_testing.wire.amqp.frames import answer, write_method

HEAD = b"AMQP\x00\x00\x09\x01"
LOGIN = [
    (0, spec.Connection.StartOk({"product": "fuzz"}, "PLAIN", "\0guest\0guest", "en_US")),
    (0, spec.Connection.TuneOk(2047, 131_072, 60)),
    (0, spec.Connection.Open("/")),
]
SESSION = [
    *LOGIN,
    (1, spec.Channel.Open()),
    (1, spec.Confirm.Select()),
    (1, spec.Exchange.Declare(exchange="e", exchange_type="topic")),
    (1, spec.Queue.Declare(queue="q", arguments={"x-message-ttl": 100, "x-dead-letter-exchange": "e"})),
    (1, spec.Queue.Bind(queue="q", exchange="e", routing_key="a.#")),
    (1, spec.Basic.Qos(prefetch_count=1)),
    (1, spec.Basic.Consume(queue="q", consumer_tag="t")),
    (1, spec.Basic.Publish(exchange="e", routing_key="a.b", mandatory=True)),
    (1, ContentHeader(0, 5, spec.Basic.Properties(headers={"a": [1, {"b": None}]}, message_id="m", expiration="50"))),
    (1, ContentBody(b"hello")),
    (0, Heartbeat()),
    (1, spec.Basic.Ack(1)),
    (1, spec.Basic.Get(queue="q")),
    (1, spec.Basic.Nack(0, multiple=True, requeue=True)),
    (1, spec.Queue.Delete(queue="q")),
    (1, spec.Channel.Close(200, "", 0, 0)),
    (0, spec.Connection.Close(200, "", 0, 0)),
]
FRAMES = [pamqp_frame.marshal(value, channel) for channel, value in SESSION]


class Wire(asyncio.Transport):
    """What the broker wrote, and whether it hung up."""

    def __init__(self):
        super().__init__()
        self.written = bytearray()
        self.closed = False

    def write(self, data):
        self.written += data

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True

    abort = close


def serve(chunks):
    """The broker's answers to ``chunks``, the connection, and the wire, a virtual minute later."""

    async def main():
        broker = SimulatedBroker("rabbitmq-quorum")
        connection = AmqpFrontEnd(broker).connection(exposed=False)
        wire = Wire()
        connection.connection_made(wire)
        for chunk in chunks:
            if not wire.closed:
                connection.data_received(chunk)
                await asyncio.sleep(0)
        await asyncio.sleep(60)
        return connection, wire

    outcome = run(main)
    assert not outcome.unhandled, outcome.unhandled
    return outcome.result()


def close_code(written):
    """The reply code of the broker's ``connection.close``, or None."""
    data, code = bytes(written), None
    while data and not data.startswith(b"AMQP"):
        consumed, _, value = pamqp_frame.unmarshal(data)
        if isinstance(value, spec.Connection.Close):
            code = value.reply_code
        data = data[consumed:]
    return code


def check(connection, wire):
    close_code(wire.written)  # what was written is made of whole, valid frames
    assert len(connection._cutter._rest) <= 131_072
    assert len(wire.written) < 100_000


def cut(data, at):
    places = sorted({place % (len(data) + 1) for place in at} | {0, len(data)})
    return [data[one:other] for one, other in itertools.pairwise(places)]


def test_a_whole_session_is_served():
    connection, wire = serve([HEAD, *FRAMES])
    assert wire.closed
    assert not connection.server_open
    assert close_code(wire.written) is None


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 10_000), max_size=40))
def test_where_the_bytes_are_cut_makes_no_difference(at):
    data = HEAD + b"".join(FRAMES)
    _, whole = serve([data])
    _, parts = serve(cut(data, at))
    assert parts.closed
    assert close_code(parts.written) is None
    assert close_code(whole.written) is None


@settings(deadline=None, max_examples=100)
@given(st.lists(st.binary(max_size=200), max_size=5))
def test_garbage_instead_of_a_greeting_is_answered_with_the_version(chunks):
    connection, wire = serve(chunks)
    check(connection, wire)
    assert wire.closed  # at the latest when the login takes too long
    if len(b"".join(chunks)) >= len(HEAD) and not b"".join(chunks).startswith(HEAD):
        assert bytes(wire.written) == HEAD


@settings(deadline=None, max_examples=100)
@given(st.integers(0, len(FRAMES)), st.binary(min_size=8, max_size=300), st.lists(st.integers(0, 300), max_size=4))
def test_garbage_in_a_session(place, garbage, at):
    connection, wire = serve([HEAD, *FRAMES[:place], *cut(garbage, at)])
    check(connection, wire)


@settings(deadline=None, max_examples=250)
@given(
    st.integers(3, len(FRAMES) - 2),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_frames_with_bytes_changed(place, changes):
    frame = bytearray(FRAMES[place])
    for at, value in changes:
        frame[at % len(frame)] = value
    connection, wire = serve([HEAD, *FRAMES[:place], bytes(frame), *FRAMES[place + 1 :]])
    check(connection, wire)


@settings(deadline=None, max_examples=80)
@given(st.permutations(range(3, len(FRAMES))), st.integers(0, 3))
def test_frames_out_of_order(order, missing):
    frames = [FRAMES[index] for index in order[missing:]]
    connection, wire = serve([HEAD, *FRAMES[:3], *frames])
    check(connection, wire)


def test_each_kind_of_malformed_frame_has_its_error():
    for frame, code in (
        (b"\x01\x00\x01\x00\x00\x00\x04\x00\x14\x00\x0a\x00", 501),  # no frame end
        (b"\x07\x00\x01\x00\x00\x00\x01\x00\xce", 501),  # no such frame type
        (b"\x01\x00\x01\x7f\xff\xff\xff", 501),  # larger than agreed on
        (b"\x01\x00\x01\x00\x00\x00\x04\x00\x63\x00\x63\xce", 503),  # no such method
        (b"\x01\x00\x01\x00\x00\x00\x06\x00\x32\x00\x0a\x00\x00\xce", 502),  # queue.declare cut short
        (b"\x02\x00\x01\x00\x00\x00\x0e" + bytes(14) + b"\xce", 505),  # a content header nobody announced
        (b"\x03\x00\x01\x00\x00\x00\x01x\xce", 505),  # a body nobody announced
        (pamqp_frame.marshal(spec.Channel.Open(), 1), 504),  # open already
        (pamqp_frame.marshal(spec.Basic.Get(queue="q"), 9), 504),  # a channel that was not opened
    ):
        connection, wire = serve([HEAD, *FRAMES[:4], frame])
        assert close_code(wire.written) == code, frame
        assert not connection.server_open
        assert wire.closed


def test_names_that_the_client_library_refuses_are_no_crash():
    odd = "é" * 100 + " ,;"
    publish = {"ticket": 0, "exchange": odd, "routing_key": odd, "mandatory": True, "immediate": False}
    options = dict.fromkeys(("passive", "durable", "exclusive", "auto_delete", "nowait"), False)
    more = {"passive": False, "durable": False, "auto_delete": False, "internal": False, "nowait": False}
    methods = [
        answer(spec.Queue.Declare, ticket=0, queue=odd, arguments={}, **options),
        answer(spec.Exchange.Declare, ticket=0, exchange=odd, exchange_type="fanout", arguments={}, **more),
        answer(spec.Basic.Publish, **publish),
        None,
        answer(spec.Basic.Publish, **publish | {"exchange": ""}),
        None,
        answer(spec.Basic.Get, ticket=0, queue=odd, no_ack=True),
    ]
    header = pamqp_frame.marshal(ContentHeader(0, 0, spec.Basic.Properties()), 1)
    frames = [header if method is None else write_method(1, method) for method in methods]
    _, wire = serve([HEAD, *FRAMES[:4], *frames])
    # Declared; returned, with exchange and key; got, with its key.
    assert bytes(wire.written).count(odd.encode()) == 4
    assert b"NO_ROUTE" in wire.written


def test_of_empty_and_of_needless_parts_of_a_body_nothing_is_kept():
    """RabbitMQ takes them without end (RMQ-60)."""
    publish = [(1, spec.Basic.Publish()), (1, ContentHeader(0, 4, spec.Basic.Properties()))]
    begun = [HEAD, *FRAMES[:4], *(pamqp_frame.marshal(value, number) for number, value in publish)]
    for part in (b"", b"12345"):
        parts = (b"\x03\x00\x01" + len(part).to_bytes(4, "big") + part + b"\xce") * 1000
        connection, wire = serve([*begun, parts])
        assert not wire.closed
        assert connection.channels[1].publishing._body == []
