"""What a consumer asks the client for, and a receive that nobody waits for any more: the client still has it (PUL-28)."""

import asyncio
import contextlib
import gc
import weakref

import pytest

from factflow_infra.queue.pulsar.client import receive
from factflow_infra.queue.pulsar.consuming import divide


class Beneath:
    """The compiled half of a consumer, as far as it is asked: it keeps the callback until it answers."""

    def __init__(self):
        self.callbacks = []

    def receive_async(self, callback):
        self.callbacks.append(callback)


class Held:
    """What must outlive its receives: a consumer, or the session that closes it."""

    def __init__(self, beneath=None):
        self._consumer = beneath


async def given_up(receiving):
    # The cancellation ends here: its traceback would keep what the receive was given.
    with contextlib.suppress(asyncio.CancelledError):
        await receiving


@pytest.mark.asyncio
async def test_a_receive_that_is_cancelled_keeps_its_consumer_and_its_session_until_it_is_answered():
    beneath, session = Beneath(), Held()
    consumer = Held(beneath)
    receiving = asyncio.ensure_future(given_up(receive(consumer, session)))
    await asyncio.sleep(0)
    receiving.cancel()
    await receiving
    kept = [weakref.ref(consumer), weakref.ref(session)]
    del consumer, session, receiving
    gc.collect()
    assert all(one() is not None for one in kept)
    beneath.callbacks.clear()
    gc.collect()
    assert not any(one() is not None for one in kept)


@pytest.mark.parametrize(
    ("prefetch", "concurrency", "hand", "queue"),
    [
        (100, 1, 20, 80),
        (100, 15, 30, 70),
        (100, 30, 50, 50),  # less for the queue than half would be
        (100, 90, 90, 10),
        (40, 1, 20, 20),
        (8, 1, 4, 4),
        (1, 1, 1, 0),
        (1000, 1, 900, 100),
    ],
)
def test_what_is_in_hand_and_what_waits_in_the_client_are_prefetch(prefetch, concurrency, hand, queue):
    assert divide(prefetch, concurrency, batches=False) == (hand, queue)
