"""Heart-beats: what is agreed on, sent in time, and missed."""

from __future__ import annotations

import asyncio

import pytest

from factflow_infra.queue.artemis.heartbeats import Agreed, Heartbeats, agree
from factflow_infra_testing.simulation.runner import run


@pytest.mark.parametrize(
    ("ours", "answer", "agreed"),
    [
        (30_000, "30000,30000", Agreed(30, 30)),
        (1000, "500,2000", Agreed(2, 1)),
        # None wanted: none sent. Taken for an interval it would be sent without a pause.
        (1000, "0,0", Agreed(0, 0)),
        (1000, None, Agreed(0, 0)),
        (1000, "500,0", Agreed(0, 1)),
        # Switched off here: none are expected, but a broker that asks for them gets them.
        (0, "0,30000", Agreed(30, 0)),
        (1000, "soon", Agreed(0, 0)),
        (1000, "-1,-5", Agreed(0, 0)),
        (1000, "9999999999999,1", Agreed(0, 0)),
    ],
)
def test_what_is_agreed_on(ours, answer, agreed):
    assert agree(ours, answer) == agreed


def test_silence_is_noticed_after_two_whole_intervals_and_a_byte_is_enough():
    async def scenario():
        loop = asyncio.get_running_loop()
        read, sent, silences = [0.0], [], []
        heartbeats = Heartbeats(
            Agreed(10, 10),
            loop,
            beat=lambda: sent.append(loop.time()),
            last_read=lambda: read[0],
            on_silence=lambda seconds: silences.append((loop.time(), seconds)),
        )
        for _ in range(5):
            await asyncio.sleep(8)
            read[0] += 1
        last = loop.time()
        await asyncio.sleep(40)
        heartbeats.stop()
        await asyncio.sleep(40)
        first, seconds = silences[0]
        assert 20 <= first - last <= 30
        assert seconds == 20
        assert sent == [10.0 * n for n in range(1, 9)]

    run(scenario).result()
