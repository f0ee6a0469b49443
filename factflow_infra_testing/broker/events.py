"""What the broker truly did, entry by entry: the ground truth that checkers and reports compare with what was seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ACCEPTED: Final = "accepted"
DELIVERED: Final = "delivered"
ACKED: Final = "acked"
REQUEUED: Final = "requeued"
DROPPED: Final = "dropped"
DEAD_LETTERED: Final = "dead-lettered"
FAULT: Final = "fault"


@dataclass(slots=True, eq=False)
class BrokerEvent:
    """One thing that the broker did.

    ``kind``: ``accepted`` (an entry was made in a queue), ``delivered``, ``acked``, ``requeued``, ``dropped``,
    ``dead-lettered`` (both with ``reason``), or ``fault`` (``reason`` is its
    kind; ``entry`` 0 where it is not about one). ``time`` in seconds;
    ``queue`` is the queue's label; ``key`` the message id; ``entry`` the serial number of this copy in this queue;
    ``client`` who holds, settled or published it; ``count`` the delivery count as the broker reports it, ``None`` where
    it reports none; ``source`` the destination that a dead-lettered copy came from, else empty.
    """

    time: float
    kind: str
    queue: str
    key: str
    entry: int
    client: str = ""
    redelivered: bool = False
    count: int | None = None
    source: str = ""
    reason: str = ""
