"""One queue: what is ready in it, in order, and whose turn it is."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

from factflow_infra_testing.broker.queue_types import Place, Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from factflow_infra_testing.broker.entries import Entry
    from factflow_infra_testing.broker.queue_types import QueueType
    from factflow_infra_testing.broker.sessions import Connection, Consumer


_NEVER: Final = float("inf")


class Overflow(StrEnum):
    """What a full queue does: gives up its oldest message, or refuses the new one."""

    DROP_HEAD = "drop-head"
    REJECT_PUBLISH = "reject-publish"


class Dispatch(StrEnum):
    """Which of a queue's consumers gets the next message."""

    IN_TURN = "in turn"
    SINGLE = "single"
    """The one that was there first; the others stand by."""
    STICKY = "sticky"
    """All messages of a group go to one consumer, in order, and to another only once that one holds none of them."""
    STANDING = "standing"
    """The first in line who has room; see ``Turns.STAND``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOptions:
    """A queue's own settings; times in seconds. ``expires``: a queue without consumers is deleted after so long.

    ``dead_letter_exchange`` is where rejected, expired and surplus messages go (``None``: they are dropped), under
    ``dead_letter_key`` or the key they came with; expired ones go to the queue ``expiry_queue`` where there is one.
    ``max_length`` counts ready messages.
    """

    message_ttl: float | None = None
    expires: float | None = None
    dead_letter_exchange: str | None = None
    dead_letter_key: str | None = None
    expiry_queue: str | None = None
    delivery_limit: int | None = None
    max_length: int | None = None
    overflow: Overflow = Overflow.DROP_HEAD


class Queue:
    """A queue's state. ``label`` is its name as faults and events show it, the way the user wrote it.

    ``ready`` holds what stands where it was published; ``returned`` is a heap of what came back ahead of those, keyed
    by its place. ``rotation`` holds the consumers whose turn comes, the next one first. ``waiting`` is a heap of what is
    not due yet. ``holders`` says for each group of a sticky queue who holds how many of it. ``stranded``: what lost
    connections held, locked until the broker restarts. ``dying`` holds what expired while messages are handed out, where that is
    buried after what was too much. ``owing`` are the consumers who settle by themselves what they were just given.
    ``apart``: how many at the end are being put back one by one. ``passed_by``: something waits though its single consumer has room, and what is published now overtakes it.
    """

    __slots__ = (
        "alive",
        "apart",
        "auto_delete",
        "consumers",
        "dispatch",
        "durable",
        "dying",
        "front",
        "had_consumers",
        "holders",
        "idle_since",
        "label",
        "name",
        "options",
        "owing",
        "owner",
        "passed_by",
        "ready",
        "returned",
        "returns",
        "rotation",
        "soonest",
        "stranded",
        "timed",
        "type",
        "unacked",
        "waiting",
    )

    def __init__(
        self,
        name: str,
        queue_type: QueueType,
        options: QueueOptions,
        *,
        label: str,
        durable: bool,
        auto_delete: bool,
        owner: Connection | None,
        now: float,
    ) -> None:
        self.name = name
        self.label = label
        self.type = queue_type
        self.options = options
        self.durable = durable
        self.auto_delete = auto_delete
        self.owner = owner
        self.ready: deque[Entry] = deque()
        self.returned: list[tuple[int, Entry]] = []
        self.returns = 0
        self.rotation: deque[Consumer] = deque()
        self.waiting: list[tuple[float, int, Entry]] = []
        self.dispatch = Dispatch.STANDING if queue_type.turns is Turns.STAND else Dispatch.IN_TURN
        self.holders: dict[str | bytes | None, tuple[Consumer, int]] = {}
        self.consumers: dict[Consumer, None] = {}
        self.had_consumers = False
        self.unacked = 0
        self.apart = 0
        self.stranded: list[Entry] = []
        self.dying: list[Entry] | None = None
        self.owing: dict[Consumer, None] = {}
        self.passed_by = False
        self.soonest = _NEVER
        self.front = 0  # the places at the head are below it
        self.timed = options.message_ttl is not None
        self.idle_since = now
        self.alive = True

    def __len__(self) -> int:
        """How many messages are ready."""
        return len(self.ready) + len(self.returned)

    def __iter__(self) -> Iterator[Entry]:
        """What is ready, in the order in which it will be delivered."""
        for _, entry in sorted(self.returned, key=_first):
            yield entry
        yield from self.ready

    def begin_ring(self) -> None:
        """A consumer came or went: a ring begins anew."""
        if self.type.turns is Turns.RING:
            self.rotation.clear()
            self.rotation.extend(consumer for consumer in self.consumers if consumer.waiting)

    def head(self) -> Entry | None:
        if self.returned:
            return self.returned[0][1]
        return self.ready[0] if self.ready else None

    def take(self) -> Entry:
        """Remove and return the head; there must be one."""
        return heappop(self.returned)[1] if self.returned else self.ready.popleft()

    def put_back(self, entry: Entry, place: Place) -> None:
        """Make ``entry`` ready again. What came back was once the head, so it precedes all that was never taken."""
        self.note_expiry(entry)
        if place is Place.TAIL:
            self.ready.append(entry)
            return
        self.returns += 1
        if entry.place < 0 and place is Place.ORIGINAL:
            self._put_back_at_head(entry)
            return
        heappush(self.returned, (entry.place if place is Place.ORIGINAL else self.returns, entry))

    def _put_back_at_head(self, entry: Entry) -> None:
        """Have ``entry``, which stood at the head, come back there: in front of those at the head that were sent after it."""
        others = [one for _, one in sorted(self.returned, key=_first) if one.place < 0]
        at = next((at for at, one in enumerate(others) if one.serial > entry.serial), len(others))
        others.insert(at, entry)
        self.front -= len(others)
        for index, one in enumerate(others):
            one.place = self.front + index
        self.returned = [(one.place, one) for one in others] + [item for item in self.returned if item[1].place >= 0]
        heapify(self.returned)

    def begin_anew(self) -> None:
        """What is ready stands where it was published, as if it had never been delivered."""
        self.returned = [(entry.serial, entry) for _, entry in self.returned]
        heapify(self.returned)
        for entry in self:
            entry.redelivered, entry.returns = False, 0

    def remove(self, entry: Entry) -> None:
        """Take out a ready entry from wherever it stands."""
        if entry is self.head():
            self.take()
        else:
            self.retain(lambda other: other is not entry)

    def insert(self, entry: Entry) -> None:
        """Make ``entry``, whose time has come, ready in its place: where it was sent, or at the head."""
        if self.type.due is Place.HEAD:
            self.front -= 1
            entry.place = self.front
        while self.ready and self.ready[0].serial < entry.place:
            heappush(self.returned, (self.ready[0].serial, self.ready.popleft()))
        heappush(self.returned, (entry.place, entry))

    def note_expiry(self, entry: Entry) -> None:
        """``entry`` is ready, and may expire."""
        if entry.expires_at is not None:
            self.soonest = min(self.soonest, entry.expires_at)

    def next_expiry(self) -> float:
        """When something is to be expired next, in seconds, or a little before; infinity where nothing is."""
        if self.type.expires_anywhere:
            return self.soonest
        head = self.head()
        return _NEVER if head is None or head.expires_at is None else head.expires_at

    def take_expired(self, now: float) -> list[Entry]:
        """Take out what has expired by ``now``: at the head, or anywhere."""
        if self.type.expires_anywhere:
            if self.soonest > now:
                return []
            gone = self.retain(lambda entry: entry.expires_at is None or entry.expires_at > now)
            self.soonest = min((one.expires_at for one in self if one.expires_at is not None), default=_NEVER)
            return gone
        # Only the head is looked at, as the real broker does: a message that expires behind one that does not waits.
        gone: list[Entry] = []
        while (head := self.head()) is not None and head.expires_at is not None and head.expires_at <= now:
            gone.append(self.take())
        return gone

    def retain(self, keep: Callable[[Entry], bool]) -> list[Entry]:
        """Take out, and return in order, what ``keep`` says no to; the places of the rest stay. What waits is included."""
        late = sorted(item for item in self.waiting if not keep(item[2]))
        gone = [entry for entry in self if not keep(entry)] + [entry for _, _, entry in late]
        if gone:
            self.returned = [item for item in self.returned if keep(item[1])]
            heapify(self.returned)
            self.ready = deque(entry for entry in self.ready if keep(entry))
            self.waiting = [item for item in self.waiting if keep(item[2])]
            heapify(self.waiting)
        return gone

    def set_aside(self, entry: Entry, due: float) -> None:
        """Keep ``entry`` from being delivered until ``due``."""
        heappush(self.waiting, (due, entry.serial, entry))

    def recall(self, now: float) -> bool:
        """Have what is due by ``now`` delivered, from its place; says whether there was any."""
        found = False
        while self.waiting and self.waiting[0][0] <= now:
            entry = heappop(self.waiting)[2]
            self.note_expiry(entry)
            self.insert(entry)
            found = True
        return found

    @property
    def nack_place(self) -> Place:
        return self.type.nack if self.options.delivery_limit is None else self.type.nack_limited


def _first(item: tuple[int, Entry]) -> int:
    return item[0]
