"""Windows in bytes that never let more than ``prefetch`` messages out, against a model of how Artemis counts (ART-8)."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from stompman import MessageFrame, dump_frame

from factflow_infra.queue.artemis.windows import size_of, window_for

DESTINATION = "/queue/orders"


def frame(name: str, body: int, **more: str) -> MessageFrame:
    headers: Any = {
        "subscription": name,
        "message-id": "1,1",
        "destination": DESTINATION,
        "expires": "0",
        "redelivered": "true",
        "priority": "4",
        "persistent": "true",
        "timestamp": "1795713485449",
        "ack": "1,1",
        **more,
    }
    return MessageFrame(headers=headers, body=bytes(body))


def let_out(window: int, sizes: list[int]) -> int:
    """How many messages of ``sizes`` are out at once: one more goes while fewer bytes than the window are."""
    out = count = 0
    for size in sizes:
        if out >= window:
            break
        out, count = out + size, count + 1
    return count


@given(st.integers(1, 2000), st.integers(1, 50), st.lists(st.integers(0, 3000), min_size=1, max_size=3000))
def test_never_more_than_prefetch_of_the_smallest_frames(prefetch: int, concurrency: int, bodies: list[int]) -> None:
    window = window_for(prefetch, concurrency, DESTINATION)
    sizes = [len(dump_frame(frame(window.name, body))) + 1 for body in bodies]
    assert let_out(window.bytes_, sizes) + window.slots <= prefetch
    assert window.slots + 1 >= min(concurrency, prefetch, 32)


def test_of_usual_messages_small_prefetches_are_filled() -> None:
    """A message of this provider has some 250 bytes of headers more than the smallest."""
    for prefetch, held in ((1, 1), (2, 2), (3, 2), (5, 3), (10, 5), (100, 34)):
        window = window_for(prefetch, 1, DESTINATION)
        usual = len(dump_frame(frame(window.name, 20, more="x" * 250)))
        assert let_out(window.bytes_, [usual] * prefetch) >= held, prefetch


def test_the_size_of_a_frame_is_not_guessed_too_low() -> None:
    one = frame("s", 100, text="a:b\\c")
    assert size_of(one) >= len(dump_frame(one)) + len("content-length:100\n")
