"""What becomes of a message, as a table."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from factflow_infra.queue.destinations import parse_destination
from factflow_infra.queue.messages import ErrorHandling, MessageStatus, QueueMessage
from factflow_infra.queue.settling import ACK, Copy, Rules, deliveries, describe
from factflow_infra.queue.transport import Address, Envelope

NOW = datetime(2026, 4, 22, 18, 30, tzinfo=UTC)
QUEUE, DLQ = Address(parse_destination("q")), Address(parse_destination("/queue/dlq"))
MESSAGE = QueueMessage(b"x", "id", {"k": "v"})
FAIL = ValueError("why")


def rules(source=QUEUE, **errors):
    return Rules(source=source, name="group", errors=ErrorHandling(**errors), dead_letters=DLQ)


def outcome(decision):
    """A decision in short: ack, retry with its counts, or the dead-letter reason."""
    if decision is None or decision is ACK:
        return decision
    assert isinstance(decision, Copy)
    if decision.address is DLQ:
        assert (decision.envelope.attempts, decision.envelope.deliveries, decision.delay) == (0, 0, 0.0)
        headers = decision.envelope.message.headers
        return headers["factflow-dead-letter-reason"], headers["factflow-dead-letter-attempts"]
    assert decision.address == QUEUE
    assert decision.envelope.message is MESSAGE
    return decision.envelope.attempts, decision.envelope.deliveries, decision.delay


@pytest.mark.parametrize(
    ("errors", "attempts", "count", "result", "expected"),
    [
        ({}, 0, 1, None, ACK),
        ({}, 0, 1, MessageStatus.ACK, ACK),
        ({}, 9, 9, MessageStatus.ACK, ACK),
        ({}, 0, 1, MessageStatus.RETRY, (1, 1, 10.0)),
        ({}, 0, 1, FAIL, (1, 1, 10.0)),
        ({"retry_delay_seconds": 0}, 2, 5, FAIL, (3, 5, 0)),
        ({}, 3, 4, FAIL, ("retries-exhausted", "4")),
        ({}, 3, 4, MessageStatus.RETRY, ("retries-exhausted", "4")),
        ({"max_retries": 0}, 0, 1, FAIL, ("retries-exhausted", "1")),
        ({"max_retries": None}, 10**6, 10**6 + 1, FAIL, (10**6 + 1, 10**6 + 1, 10.0)),
        ({}, 0, 1, MessageStatus.REJECT, ("rejected", "0")),
        ({}, 2, 3, MessageStatus.REJECT, ("rejected", "2")),
        ({}, 0, 1, MessageStatus.ACCEPTED, (1, 1, 10.0)),
        ({"max_retries": 0}, 0, 1, "ack", ("retries-exhausted", "1")),
        ({"max_retries": 0}, 0, 1, True, ("retries-exhausted", "1")),
        ({"max_retries": 0}, 0, 1, KeyboardInterrupt(), ("retries-exhausted", "1")),
    ],
)
def test_after_handling(errors, attempts, count, result, expected):
    assert outcome(rules(**errors).after(Envelope(MESSAGE, attempts), count, result, NOW)) == expected


@pytest.mark.parametrize(
    ("errors", "earlier", "redelivered", "counted", "undecodable", "expected"),
    [
        ({}, 0, False, None, None, None),
        ({}, 99, True, 99, None, None),
        ({}, 0, False, None, "no JSON", ("undecodable", "0")),
        ({"max_deliveries": 3}, 0, False, None, None, None),
        ({"max_deliveries": 3}, 2, False, None, None, None),
        ({"max_deliveries": 3}, 3, False, None, None, ("deliveries-exhausted", "0")),
        ({"max_deliveries": 3}, 0, True, None, None, (0, 1, 0.0)),
        ({"max_deliveries": 3}, 1, True, None, None, (0, 2, 0.0)),
        ({"max_deliveries": 3}, 2, True, None, None, ("deliveries-exhausted", "0")),
        ({"max_deliveries": 3}, 0, True, 3, None, None),
        ({"max_deliveries": 3}, 0, True, 4, None, ("deliveries-exhausted", "0")),
        ({"max_deliveries": 3}, 2, True, 2, None, ("deliveries-exhausted", "0")),
        ({"max_deliveries": 1}, 0, True, None, None, ("deliveries-exhausted", "0")),
        ({"max_deliveries": 1}, 0, False, 1, "no JSON", ("undecodable", "0")),
    ],
)
def test_before_handling(errors, earlier, redelivered, counted, undecodable, expected):
    decision = rules(**errors).before(
        Envelope(MESSAGE, 0, earlier), redelivered=redelivered, counted=counted, undecodable=undecodable, now=NOW
    )
    assert outcome(decision) == expected


@pytest.mark.parametrize(
    ("attempts", "earlier", "redelivered", "counted", "expected"),
    [
        (0, 0, False, None, 1),
        (0, 0, True, None, 2),
        (0, 0, True, 1, 2),
        (0, 0, True, 5, 5),
        (2, 2, False, 1, 3),
        (2, 0, False, None, 3),
        (2, 4, True, None, 6),
    ],
)
def test_count_of_deliveries(attempts, earlier, redelivered, counted, expected):
    assert deliveries(Envelope(MESSAGE, attempts, earlier), redelivered=redelivered, counted=counted) == expected


def test_headers_of_the_dead():
    decision = rules(max_retries=1).after(Envelope(MESSAGE, 1), 2, FAIL, NOW)
    assert dict(decision.envelope.message.headers) == {
        "k": "v",
        "factflow-dead-letter-reason": "retries-exhausted",
        "factflow-dead-letter-source": "q",
        "factflow-dead-letter-subscription": "group",
        "factflow-dead-letter-attempts": "2",
        "factflow-dead-letter-error": "ValueError: why",
        "factflow-dead-letter-time": "2026-04-22T18:30:00.000000+00:00",
    }
    assert decision.envelope.message.changed(headers=MESSAGE.headers) == MESSAGE
    QueueMessage(b"", "i", decision.envelope.message.headers)  # they are legal


def test_the_dead_letter_queue_does_not_bury_its_own_dead():
    dead = MESSAGE.changed(headers={"factflow-dead-letter-source": "q"})
    decision = rules(source=Address(parse_destination("dlq"))).after(Envelope(dead, 3, 4), 5, MessageStatus.REJECT, NOW)
    assert decision.address.destination.name == "dlq"
    assert decision.envelope == Envelope(dead)
    assert decision.delay == 10.0


class UnprintableError(Exception):
    def __str__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FAIL, "ValueError: why"),
        (ValueError(), "ValueError"),
        (UnprintableError(), "UnprintableError: (its message cannot be shown: RuntimeError)"),
        (MessageStatus.RETRY, "the handler returned RETRY"),
        ("ack", "the handler returned a str, which is no verdict; return ACK, RETRY, REJECT or None"),
    ],
)
def test_describe(error, text):
    assert describe(error) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x" * 1000, "x" * 487 + "…"),
        ("line\nline\x00\ud800", "line line  "),
        ("amqp://user:s3cret@host and https://a:s3cret@b", "amqp://***@host and https://***@b"),
        ("https://s3cret@host/x?to=a@b, redis://:s3@cret@host", "https://***@host/x?to=a@b, redis://***@host"),
        ("http://host/a@b and http://host?a@b are no secrets", "http://host/a@b and http://host?a@b are no secrets"),
        ("mail me@host", "mail me@host"),
    ],
)
def test_errors_are_short_printable_and_without_credentials(text, shown):
    decision = rules(max_retries=0).after(Envelope(MESSAGE), 1, ValueError(text), NOW)
    assert decision.envelope.message.headers["factflow-dead-letter-error"] == "ValueError: " + shown
