"""How a publish ends: its confirmation is one of many, and its place is free again."""

import asyncio
import gc
from types import SimpleNamespace

import pytest

from factflow_infra.errors import PublishUnconfirmedError
from factflow_infra.queue.messages import QueueMessage
from factflow_infra.queue.pulsar.publishing import MAX_PENDING, Confirmation, Line, Publisher
from factflow_infra.queue.transport import Address, Destination, DestinationKind, Envelope

WORK = Address(Destination(DestinationKind.QUEUE, "work", "work"))


def under_way(loop):
    """A publisher with one message that was sent and not confirmed, its confirmation, and the line that it is on."""
    publisher = Publisher(SimpleNamespace(loop=loop, lost=False, endpoint="pulsar://broker:6650"))
    line = Line("work", None)
    line.room -= 1
    confirmation = Confirmation(loop, publisher._itself, WORK, Envelope(QueueMessage(b"x")))
    publisher._unconfirmed[confirmation] = line
    return publisher, confirmation, line


@pytest.mark.asyncio
async def test_a_confirmation_knows_how_many_are_to_come():
    """By which the first of many waits for the rest."""
    loop = asyncio.get_running_loop()
    publisher, first, line = under_way(loop)
    assert first.outstanding() == 1
    second = Confirmation(loop, publisher._itself, WORK, Envelope(QueueMessage(b"y")))
    publisher._unconfirmed[second] = line
    assert first.outstanding() == second.outstanding() == 2
    publisher._unconfirmed.clear()
    line = publisher = None
    gc.collect()
    assert first.outstanding() == 1  # the publisher has gone


@pytest.mark.asyncio
async def test_an_answer_frees_its_place_once():
    publisher, confirmation, line = under_way(asyncio.get_running_loop())
    assert line.room == MAX_PENDING - 1
    confirmation.give_up()
    confirmation.give_up()
    assert publisher.lines == 0
    assert line.room == MAX_PENDING
    with pytest.raises(PublishUnconfirmedError, match="before it was confirmed"):
        await confirmation.future
