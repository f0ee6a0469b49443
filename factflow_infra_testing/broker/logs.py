"""A topic's log: what it was given, in order, for queues that are bound later or go back in time.

It is cut into segments, as a managed ledger is into ledgers. A segment goes as a whole, once it is closed and no queue
holds anything from it or from an older one; until then even what everybody has settled can be read again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from factflow_infra_testing.broker.entries import NOWHERE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from factflow_infra_testing.broker.entries import Message, Position

SEGMENT: Final = 50_000
"""Messages in a segment, before it is closed."""


class Log:
    """``new_segment`` gives the next segment's number."""

    __slots__ = ("_new_segment", "_segments")

    def __init__(self, new_segment: Callable[[], int]) -> None:
        self._new_segment = new_segment
        self._segments: list[tuple[int, list[Message]]] = [(new_segment(), [])]

    @property
    def is_full(self) -> bool:
        """Whether a new segment should begin."""
        return len(self._segments[-1][1]) >= SEGMENT

    @property
    def last(self) -> Position:
        """The position of the newest message; of none, in an empty segment, index -1."""
        for number, messages in reversed(self._segments):
            if messages:
                return number, len(messages) - 1
        return self._segments[-1][0], -1

    def append(self, message: Message) -> None:
        """Keep ``message``, and give it its position."""
        number, messages = self._segments[-1]
        message.position = (number, len(messages))
        messages.append(message)

    def after(self, position: Position = NOWHERE) -> Iterator[Message]:
        """What stands behind ``position``, in order."""
        for _, messages in list(self._segments):
            yield from [message for message in messages if message.position > position]

    def roll(self, needed: Position | None) -> None:
        """Begin a new segment, and drop those before the one that holds ``needed``, the oldest that somebody holds."""
        if self._segments[-1][1]:
            self._segments.append((self._new_segment(), []))
        kept = self._segments[-1][0] if needed is None else needed[0]
        self._segments = [segment for segment in self._segments if segment[0] >= kept]
