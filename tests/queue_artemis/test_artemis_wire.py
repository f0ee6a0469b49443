"""Messages as STOMP headers: through stompman's own codec and back, whatever their characters and bytes (Q7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from stompman import FrameParser, MessageFrame, dump_frame

from factflow_infra.errors import InvalidMessageError
from factflow_infra.queue.artemis import wire
from factflow_infra.queue.artemis.publishing import send_frame
from factflow_infra.queue.artemis.topology import Route
from factflow_infra.queue.messages import RESERVED_HEADER_PREFIX, QueueMessage
from factflow_infra.queue.transport import Envelope

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
long_texts = st.builds(lambda text, times: text * times, texts.filter(bool), st.integers(1, 20))
names = st.one_of(
    long_texts,
    st.sampled_from(
        ["destination", "Receipt", "id", "JMSXGroupID", "AMQ_SCHEDULED_DELAY", "_AMQ_x", "a:b", "\r", "type"]
    ),
)
offsets = st.builds(lambda minutes: timezone(timedelta(minutes=minutes)), st.integers(-1439, 1439))
moments = st.datetimes(
    min_value=datetime(1, 1, 3),  # noqa: DTZ001 - the zone comes from timezones
    max_value=datetime(9999, 12, 29),  # noqa: DTZ001
    timezones=st.one_of(st.just(UTC), offsets),
)
messages = st.builds(
    QueueMessage,
    body=st.binary(max_size=50),
    message_id=long_texts,
    headers=st.dictionaries(names.filter(lambda name: not name.startswith(RESERVED_HEADER_PREFIX)), texts, max_size=5),
    content_type=long_texts,
    correlation_id=st.one_of(st.none(), texts, long_texts),
    timestamp=moments,
    ordering_key=st.one_of(st.none(), texts.filter(bool)),
)
ROUTE = Route("/queue/q", "ANYCAST")
BROKERS = {"subscription": "s", "message-id": "23,31", "ack": "23,31", "timestamp": "1795713485449", "expires": "0"}


def delivered(envelope: Envelope) -> MessageFrame:
    """The MESSAGE that the broker makes of a SEND, through the client's codec both ways."""
    sent = send_frame(ROUTE, envelope, 0.0)
    (read,) = FrameParser().parse_frames_from_chunk(dump_frame(sent))
    headers: Any = {**read.headers, **BROKERS, "redelivered": "false", "priority": "4", "receipt": "7"}
    (frame,) = FrameParser().parse_frames_from_chunk(dump_frame(MessageFrame(headers=headers, body=read.body)))
    return frame


def foreign(body: bytes = b"x", **headers: str) -> MessageFrame:
    named: Any = {**BROKERS, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return MessageFrame(headers=named, body=body)


@given(messages, st.integers(0, 2**40), st.integers(0, 2**40))
@example(QueueMessage(b"\0", correlation_id="", headers={"id": "b", "\r": "\r\n\0"}), 0, 0)
@example(
    QueueMessage(b"", message_id="a\\:b\n\\n", headers={"a": " \\c ", "b": "\\", "c": ":"}, ordering_key="\r"), 1, 1
)
@example(QueueMessage(b"\0\n\0", timestamp=datetime(9999, 12, 29, 1, 2, 3, 4, UTC)), 1, 1)
def test_round_trip(message: QueueMessage, attempts: int, deliveries: int) -> None:
    envelope = Envelope(message, attempts, deliveries)
    decoded, problem = wire.decode(delivered(envelope))
    assert problem is None
    assert decoded == envelope
    assert dict(decoded.message.headers) == dict(message.headers)


@pytest.mark.parametrize("value", ["a\rb", "a\0b", "\r", "x\x1fy"])
def test_what_stompman_would_change_travels_otherwise(value: str) -> None:
    """Its codec maps a carriage return to nothing, without an error: with the header as it is, the value comes back cut."""
    message = QueueMessage(b"", headers={"name": value})
    headers = wire.encode(Envelope(message))
    assert "name" not in headers
    assert dict(wire.decode(delivered(Envelope(message)))[0].message.headers) == {"name": value}


def test_plain_headers_are_readable_by_others() -> None:
    message = QueueMessage(
        b"{}", headers={"tenant": "a b:c", "x-y": ""}, content_type="application/json", correlation_id="c-1"
    )
    headers = wire.encode(Envelope(message))
    assert (headers["tenant"], headers["x-y"]) == ("a b:c", "")
    assert (headers["content-type"], headers["correlation-id"]) == ("application/json", "c-1")
    assert wire.HEADERS not in headers


def test_every_send_is_persistent_and_says_its_length_and_type() -> None:
    frame = send_frame(ROUTE, Envelope(QueueMessage(b"abc")), 0.0001)
    headers: Any = frame.headers
    assert (headers["persistent"], headers["content-length"], headers["destination-type"]) == ("true", "3", "ANYCAST")
    assert headers["AMQ_SCHEDULED_DELAY"] == "1"
    assert "AMQ_SCHEDULED_DELAY" not in send_frame(ROUTE, Envelope(QueueMessage(b"")), 0.0).headers
    assert "destination-type" not in send_frame(Route("a::b", None), Envelope(QueueMessage(b"")), 0.0).headers


def test_messages_of_other_producers() -> None:
    frame = foreign(b"x", tenant="a", reply_to="/queue/r", type="t", correlation_id="c", JMSXDeliveryCount="3")
    envelope, problem = wire.decode(frame)
    message = envelope.message
    assert problem is None
    assert dict(message.headers) == {"tenant": "a", "stomp-reply-to": "/queue/r", "stomp-type": "t"}
    assert (message.message_id, message.correlation_id) == ("artemis-31-1795713485449", "c")
    assert message.content_type == wire.DEFAULT_CONTENT_TYPE


@pytest.mark.parametrize(
    ("header", "value", "says"),
    [
        ("factflow_wire_timestamp", "no moment", "no moment"),
        ("factflow_wire_headers", "{", "Expecting"),
        ("factflow_wire_headers", "[1]", "no JSON object"),
        ("factflow_wire_headers", '{"a": 1}', "str"),
        ("factflow_wire_headers", "[" * 500_000, "while decoding a JSON array"),
        ("factflow_wire_attempts", "-1", "attempts"),
        ("factflow_wire_attempts", "٣", "attempts"),
        ("factflow_wire_deliveries", "9" * 5000, "deliveries"),
    ],
)
def test_what_contradicts_itself_is_undecodable_and_keeps_its_id(header: str, value: str, says: str) -> None:
    headers = {"factflow_wire_timestamp": "2026-04-22T18:30:00.123456+00:00", "factflow_wire_id": "mine", header: value}
    envelope, problem = wire.decode(foreign(b"x", **headers))
    assert problem is not None
    assert says in problem
    assert (envelope.message.message_id, envelope.message.body) == ("mine", b"x")


def test_headers_up_to_the_limit() -> None:
    wire.check_headers(QueueMessage(b"", headers={"a": "x" * 39_000}))
    with pytest.raises(InvalidMessageError, match="40,000"):
        wire.check_headers(QueueMessage(b"", headers={"a": "\U0001f600" * 20_000}))
    with pytest.raises(InvalidMessageError, match="10 years"):
        wire.check_delay(1e12)
