"""Garbage, and sessions with bytes changed: the connection is closed, and nothing crashes, hangs or grows."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from factflow_infra_testing.broker import SimulatedBroker
from factflow_infra_testing.simulation.runner import run
from factflow_infra_testing.wire.pulsar.connection import PulsarConnection
from factflow_infra_testing.wire.pulsar.frames import MAX_FRAME_SIZE, Cutter, write_batch, write_content, write_frame
from factflow_infra_testing.wire.pulsar.frontend import PulsarFrontEnd

TOPIC = "persistent://public/default/t"
ONE = {"producer_name": "p", "sequence_id": 1, "publish_time": 2, "partition_key": "k", "deliver_at_time": 5}
BATCH = {"producer_name": "p", "sequence_id": 2, "publish_time": 2, "num_messages_in_batch": 2}
ID = {"ledgerId": 1, "entryId": 0}
SESSION = [
    ("connect", {"client_version": "fuzz", "protocol_version": 19}, b""),
    ("lookup", {"topic": TOPIC, "request_id": 0}, b""),
    ("partitioned_metadata", {"topic": TOPIC, "request_id": 1}, b""),
    ("producer", {"topic": TOPIC, "producer_id": 0, "request_id": 2}, b""),
    ("send", {"producer_id": 0, "sequence_id": 1}, write_content(ONE, b"hello")),
    ("send", {"producer_id": 0, "sequence_id": 2, "num_messages": 2}, write_content(BATCH, write_batch([({}, b"a"), ({}, b"b")]))),
    ("subscribe", {"topic": TOPIC, "subscription": "s", "subType": 3, "consumer_id": 0, "request_id": 3, "initialPosition": 1}, b""),
    ("flow", {"consumer_id": 0, "messagePermits": 10}, b""),
    ("get_last_message_id", {"consumer_id": 0, "request_id": 4}, b""),
    ("ack", {"consumer_id": 0, "ack_type": 0, "message_id": [ID], "request_id": 5}, b""),
    ("redeliver_unacknowledged_messages", {"consumer_id": 0, "message_ids": [ID]}, b""),
    ("seek", {"consumer_id": 0, "request_id": 6, "message_publish_time": 1}, b""),
    ("ping", {}, b""),
    ("pong", {}, b""),
    ("get_topics_of_namespace", {"request_id": 7, "namespace": "public/default"}, b""),
    ("consumer_stats", {"request_id": 8, "consumer_id": 0}, b""),
    ("get_schema", {"request_id": 9, "topic": TOPIC}, b""),
    ("unsubscribe", {"consumer_id": 0, "request_id": 10}, b""),
    ("close_consumer", {"consumer_id": 0, "request_id": 11}, b""),
    ("close_producer", {"producer_id": 0, "request_id": 12}, b""),
]  # fmt: skip
FRAMES = [write_frame(*one) for one in SESSION]


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
    """What the broker wrote for ``chunks``, and whether it hung up; a silent client is given up in time."""

    async def main():
        broker = SimulatedBroker("pulsar")
        connection = PulsarConnection(PulsarFrontEnd(broker), exposed=False)
        wire = Wire()
        connection.connection_made(wire)
        for chunk in chunks:
            if not wire.closed:
                connection.data_received(chunk)
                await asyncio.sleep(0)
        await asyncio.sleep(1)
        closed, written = wire.closed, bytes(wire.written)
        await asyncio.sleep(120)
        assert wire.closed, "a client that answers no ping is given up"
        connection.connection_lost(None)
        assert not broker.broker.connections
        assert len(connection._cutter._data) <= MAX_FRAME_SIZE
        return written, closed

    outcome = run(main)
    written, closed = outcome.result()
    assert not outcome.unhandled
    return list(Cutter().feed(written)), closed


def names(frames):
    return [name for name, _, _ in frames]


def test_the_whole_session_is_answered():
    frames, closed = serve(FRAMES)
    assert not closed
    assert names(frames) == [
        "connected", "lookup_response", "partitioned_metadata_response", "producer_success", "send_receipt", "send_receipt",
        "success", "message", "message", "get_last_message_id_response", "ack_response", "close_consumer", "success", "pong",
        "get_topics_of_namespace_response", "error", "get_schema_response", "error", "success", "success",
    ]  # fmt: skip


def test_what_comes_before_connect_or_is_not_for_a_broker_closes_the_connection():
    for chunks in ([FRAMES[1]], [FRAMES[0], FRAMES[0]], [FRAMES[0], write_frame("success", {"request_id": 1})]):
        assert serve(chunks)[1]


def test_a_corrupted_message_is_refused_and_the_connection_goes_on():
    raw = bytearray(write_content(ONE, b"hello"))
    raw[-1] ^= 1
    frames, closed = serve([*FRAMES[:4], write_frame("send", {"producer_id": 0, "sequence_id": 1}, bytes(raw))])
    assert not closed
    assert frames[-1][1]["error"] == 9


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_garbage(chunks):
    serve(chunks)


@settings(max_examples=150)
@given(
    frames=st.lists(st.sampled_from(range(len(FRAMES))), max_size=25),
    changes=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=5),
    size=st.integers(1, 400),
)
def test_sessions_in_any_order_with_bytes_changed_and_cut_anywhere(frames, changes, size):
    data = bytearray(b"".join([FRAMES[0], *(FRAMES[index] for index in frames)]))
    for at, value in changes:
        data[at % len(data)] = value
    serve([bytes(data[at : at + size]) for at in range(0, len(data), size)])
