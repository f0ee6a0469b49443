"""Messages as Pulsar messages: what is too large is refused before anything is sent, whatever makes it large."""

import pytest

from factflow_infra.errors import InvalidMessageError
from factflow_infra.queue.messages import QueueMessage
from factflow_infra.queue.pulsar import wire

HALF = "x" * (wire.MAX_BYTES // 2)


@pytest.mark.parametrize(
    "fields",
    [
        {"body": HALF.encode() * 2},
        {"headers": {"h": HALF}},
        {"message_id": HALF},
        {"correlation_id": HALF},
        {"content_type": HALF},
        {"ordering_key": HALF},
        {"body": b"", "ordering_key": HALF},  # it is the message's key, too
    ],
    ids=" ".join,
)
def test_what_is_too_large_is_refused(fields):
    with pytest.raises(InvalidMessageError, match="at most 5,111,808"):
        wire.check(QueueMessage(**{"body": HALF.encode(), **fields}))


def test_what_just_fits_is_let_through():
    wire.check(QueueMessage(HALF.encode(), correlation_id=HALF[:-1000]))
    wire.check(QueueMessage(b"", ordering_key=HALF[:-1000]))
