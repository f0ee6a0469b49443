"""How many messages a consumer holds, on a broker whose windows are in bytes.

Artemis delivers to a subscription while what is unacked is less than its ``consumer-window-size``, counted in bytes of whole
MESSAGE frames (ART-8). A window of ``n`` times the least size that such a frame can have never lets more than ``n`` messages
out. Real frames are larger, so fewer are held: the first subscription's window is for small messages, and where large ones
fill it before every handler has something to do, *slots* are added: subscriptions on the same connection, which keeps the
order, each with a window of one message. What they may hold is kept free from the start.

A subscription's id stands in each of its frames. Where few messages may be held, a long one brings the least size close to the
usual, and so the number held close to what was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from stompman import MessageFrame

_LEAST_FRAME: Final = len(
    b"MESSAGE\nsubscription:\nmessage-id:1,1\ndestination:\nexpires:0\nredelivered:true\npriority:4\npersistent:true\n"
    b"timestamp:1000000000000\nack:1,1\n\n\0\n"
)
_PADDING: Final = 600
"""Bytes, shared by the messages that may be held."""
_MOST_SLOTS: Final = 31
_UNSEEN_BYTES: Final = 64
"""Of a frame, that the parsed headers do not show: escapes, and headers that Artemis writes twice."""


@dataclass(frozen=True, slots=True)
class Window:
    """The plan for one consumer. ``bytes_``: of its first subscription, called ``name``. ``slots``: how many may be added."""

    name: str
    bytes_: int
    slots: int

    def is_full(self, held: int) -> bool:
        """Whether the broker may deliver nothing more to the first subscription with ``held`` bytes unacked."""
        return held >= self.bytes_


def window_for(prefetch: int, concurrency: int, destination: str) -> Window:
    """For a consumer that holds at most ``prefetch`` messages, and at least ``concurrency`` whatever their size."""
    slots = min(concurrency, prefetch, _MOST_SLOTS + 1) - 1
    name = "s" * (1 + _PADDING // prefetch) if 1 < prefetch <= _PADDING else "s"
    least = _LEAST_FRAME + len(name) + len(destination.encode())
    return Window(name, (prefetch - slots) * least if prefetch > 1 else 1, slots)


def size_of(frame: MessageFrame) -> int:
    """About the bytes that the broker counts for it, rather too many."""
    headers = frame.headers.items()
    return _UNSEEN_BYTES + len(frame.body) + sum(len(name) + len(str(value)) + 2 for name, value in headers)
