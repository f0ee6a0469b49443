"""A receive that nobody waits for any more: the client still has it, and ends the process if its consumer is freed (PUL-28)."""

import asyncio
import contextlib
import gc
import weakref

import pytest

from factflow_infra.queue.pulsar.client import receive


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
