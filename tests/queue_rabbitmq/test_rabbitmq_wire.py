"""Messages as AMQP properties: through the client's own codec and back, whatever their characters and bytes (Q7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from factflow_infra.errors import InvalidMessageError
from factflow_infra.queue.messages import RESERVED_HEADER_PREFIX, QueueMessage
from factflow_infra.queue.rabbitmq import wire
from factflow_infra.queue.transport import Envelope

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
long_texts = st.builds(lambda text, times: text * times, texts.filter(bool), st.integers(1, 20))
names = st.one_of(
    long_texts, st.sampled_from(["CC", "BCC", "x-death", "X-a", "n" * 128, "n" * 129, "ü" * 65, "amqp-type"])
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
    ordering_key=st.one_of(st.none(), long_texts),
)


def sent(properties: Basic.Properties) -> Basic.Properties:
    """What the other side reads: through the client's codec."""
    header = ContentHeader()
    header.unmarshal(ContentHeader(properties=properties).marshal())
    return header.properties


def amqp_id_for(message: QueueMessage) -> str | None:
    return None if wire.fits_short_string(message.message_id) else "factflow-1"


@given(messages, st.integers(0, 2**40), st.integers(0, 2**40))
@example(QueueMessage(b"", correlation_id="", headers={"CC": "a", "x-death": "b", "n" * 129: "c"}), 0, 0)
@example(QueueMessage(b"", timestamp=datetime(9999, 12, 29, 1, 2, 3, 4, UTC)), 1, 1)
@example(QueueMessage(b"", timestamp=datetime(1900, 1, 1, tzinfo=UTC)), 1, 1)
def test_round_trip(message: QueueMessage, attempts: int, deliveries: int) -> None:
    envelope = Envelope(message, attempts, deliveries)
    decoded, problem = wire.decode(sent(wire.encode(envelope, amqp_id_for(message))), message.body)
    assert problem is None
    assert decoded == envelope
    assert decoded.message.timestamp.utcoffset() == message.timestamp.utcoffset()


def test_another_amqp_id_does_not_show() -> None:
    message = QueueMessage(b"x", message_id="mine")
    properties = sent(wire.encode(Envelope(message), "factflow-7"))
    assert properties.message_id == "factflow-7"
    assert wire.decode(properties, b"x")[0].message == message


def test_other_clients_find_what_amqp_has_fields_for() -> None:
    moment = datetime(2026, 4, 22, 18, 30, 0, 123456, tzinfo=UTC)
    message = QueueMessage(
        b"x", message_id="m", headers={"a": "ü"}, content_type="t/x", correlation_id="c", timestamp=moment
    )
    properties = sent(wire.encode(Envelope(message)))
    assert (properties.message_id, properties.content_type, properties.correlation_id) == ("m", "t/x", "c")
    assert properties.timestamp == moment.replace(microsecond=0)
    assert properties.delivery_mode == wire.PERSISTENT
    assert properties.headers is not None
    assert properties.headers["a"] == "ü"


@pytest.mark.parametrize("name", ["CC", "BCC", "x-death", "X-Up", "n" * 129, "ü" * 65])
def test_names_with_a_meaning_of_their_own_stay_off_the_table(name: str) -> None:
    headers = wire.encode(Envelope(QueueMessage(b"", headers={name: "v"}))).headers
    assert headers is not None
    assert set(headers) == {wire.TIMESTAMP, wire.HEADERS}


class TestForeign:
    def test_every_type_of_header_value(self) -> None:
        headers = {
            "s": "ü",
            "n": 7,
            "f": 0.5,
            "t": True,
            "none": None,
            "list": [1, "a", {"b": datetime(2026, 1, 1, tzinfo=UTC)}],
            "raw": bytearray(b"\xff\xfe"),
            "text": bytearray(b"abc"),
            "x-own": "kept",
            "x-death": [{"count": 1}],
            "x-first-death-queue": "q",
            "x-delivery-count": 3,
            "factflow-wire-unknown": "dropped",
        }
        envelope, problem = wire.decode(sent(Basic.Properties(headers=headers)), b"body")
        assert problem is None
        assert dict(envelope.message.headers) == {
            "s": "ü",
            "n": "7",
            "f": "0.5",
            "t": "true",
            "none": "",
            "list": '[1, "a", {"b": "2026-01-01T00:00:00+00:00"}]',
            "raw": "//4=",
            "text": "abc",
            "x-own": "kept",
        }

    def test_nothing_but_a_body(self) -> None:
        envelope, problem = wire.decode(Basic.Properties(), b"body")
        assert problem is None
        assert envelope.message.content_type == "application/octet-stream"
        assert envelope.message.body == b"body"

    def test_the_id_is_of_the_content_and_outlives_redelivery(self) -> None:
        first = wire.decode(Basic.Properties(headers={"a": 1}), b"body")[0].message.message_id
        again = wire.decode(Basic.Properties(headers={"a": 1, "x-delivery-count": 1}), b"body")[0].message.message_id
        assert first == again
        others = [Basic.Properties(headers={"a": 2}), Basic.Properties(headers={"a": 1}, correlation_id="c")]
        ids = {first, *(wire.decode(other, b"body")[0].message.message_id for other in others)}
        assert len(ids | {wire.decode(Basic.Properties(headers={"a": 1}), b"other")[0].message.message_id}) == 4


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({wire.TIMESTAMP: "yesterday"}, "timestamp"),
        ({wire.TIMESTAMP: 5}, "must be text"),
        ({wire.TIMESTAMP: "2026-01-01T00:00:00.000000+00:00", wire.ATTEMPTS: "many"}, "whole number"),
        ({wire.TIMESTAMP: "2026-01-01T00:00:00.000000+00:00", wire.ATTEMPTS: -1}, "whole number"),
        ({wire.TIMESTAMP: "2026-01-01T00:00:00.000000+00:00", wire.HEADERS: "{"}, ""),
        ({wire.TIMESTAMP: "2026-01-01T00:00:00.000000+00:00", wire.HEADERS: "[]"}, "no JSON object"),
        ({wire.TIMESTAMP: "2026-01-01T00:00:00.000000+00:00", wire.HEADERS: '{"a": 1}'}, "header 'a'"),
        (
            {wire.TIMESTAMP: "2026-01-01T00:00:00.000000+00:00", wire.HEADERS: "[" * 500_000},
            "while decoding a JSON array",
        ),
        ({wire.TIMESTAMP: "2026-01-01T00:00:00.000000+00:00", wire.ATTEMPTS: 2**63 - 1}, "whole number"),
        ({wire.TIMESTAMP: "2026-01-01T00:00:00.000000+00:00", wire.DELIVERIES: 2**63 - 1}, "whole number"),
        ({wire.UNDECODABLE: "the reader said so"}, "the reader said so"),
    ],
)
def test_undecodable_keeps_what_can_be_saved(headers: dict[str, object], words: str) -> None:
    envelope, problem = wire.decode(Basic.Properties(headers=headers, message_id="m"), b"body")
    assert problem is not None
    assert words in problem
    assert (envelope.message.body, envelope.message.message_id) == (b"body", "m")


@pytest.mark.parametrize(
    ("headers", "count"), [(None, 1), ({}, 1), ({"x-delivery-count": 2}, 3), ({"x-delivery-count": "?"}, 1)]
)
def test_delivery_count(headers: dict[str, object] | None, count: int) -> None:
    assert wire.delivery_count(Basic.Properties(headers=headers)) == count


class TestHeaderSize:
    @pytest.mark.parametrize("character", ["a", "ü", "\0", "\U0001f600"])
    def test_what_is_let_through_fits_into_a_frame(self, character: str) -> None:
        for name in ("h", "x-odd"):
            largest = 0
            for length in range(1000, 98_304, 3001):
                message = QueueMessage(b"", headers={name: character * length})
                try:
                    wire.check_headers(message)
                except InvalidMessageError:
                    continue
                largest = max(largest, length)
                assert len(wire.encode(Envelope(message)).marshal()) <= wire.MAX_HEADER_BYTES
            assert largest >= 10_000

    def test_a_long_id_counts_too(self) -> None:
        with pytest.raises(InvalidMessageError, match="bytes"):
            wire.check_headers(QueueMessage(b"", message_id="i" * 100_000))
