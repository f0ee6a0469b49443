"""Turns: each key in order and alone, each id alone, nothing forgotten, whatever happens in between."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from factflow_infra.queue.intake import Item
from factflow_infra.queue.messages import QueueMessage
from factflow_infra.queue.transport import Envelope
from factflow_infra.queue.turns import Turns

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 4), st.sampled_from([None, "k", "l"])),
        st.tuples(st.just("take")),
        st.tuples(st.just("done"), st.integers(0, 9)),
        st.tuples(st.just("lose")),
    ),
    max_size=60,
)


def item(session, name, key):
    message = QueueMessage(b"", message_id=str(name), ordering_key=key)
    return Item(SimpleNamespace(envelope=Envelope(message)), session)


def message_of(item):
    return item.delivery.envelope.message


def held_up(item, waiting, running):
    """Only what is busy, or behind another of its key, may wait."""
    message = message_of(item)
    if message.message_id in {message_of(i).message_id for i in running}:
        return True
    if message.ordering_key is None:
        return False
    of_key = [i for i in waiting if message_of(i).ordering_key == message.ordering_key]
    return of_key[0] is not item or message.ordering_key in {message_of(i).ordering_key for i in running}


@settings(deadline=None, max_examples=300)
@given(STEPS)
def test_turns(steps):
    turns = Turns()
    session = object()
    waiting, running = [], []
    begun = defaultdict(list)
    arrived = defaultdict(list)

    def take():
        taken = turns.take()
        if taken is None:
            assert all(held_up(i, waiting, running) for i in waiting)
            return
        assert message_of(taken).message_id not in {message_of(i).message_id for i in running}
        key = message_of(taken).ordering_key
        if key is not None:
            assert key not in {message_of(i).ordering_key for i in running}
            begun[key].append(taken)
        waiting.remove(taken)
        running.append(taken)

    for step in steps:
        if step[0] == "add":
            new = item(session, step[1], step[2])
            turns.add(new)
            waiting.append(new)
            arrived[step[2]].append(new)
        elif step[0] == "take":
            take()
        elif step[0] == "done" and running:
            turns.done(running.pop(step[1] % len(running)))
        elif step[0] == "lose":
            lost = turns.withdraw(session)
            assert sorted(map(id, lost)) == sorted(map(id, waiting))
            for i in lost:
                arrived[message_of(i).ordering_key].remove(i)
            waiting.clear()
            session = object()
    while running:
        turns.done(running.pop())
        take()
    while waiting:
        before = len(waiting)
        take()
        assert len(waiting) < before  # nothing is forgotten
        turns.done(running.pop())
    for key, items in begun.items():
        assert items == arrived[key]
    assert not turns._keys
    assert not turns._ids
    assert not turns._waiting_for_id
