"""Whose turn it is: arrival order, one at a time for each ordering key, and never two of one message id at once."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from factflow_infra.queue.intake import Item, Session


class Turns:
    """The messages that wait, and the keys and ids that are busy."""

    def __init__(self) -> None:
        self.ready: deque[Item] = deque()
        self._ids: set[str] = set()
        # A key is here while one of its messages is being handled, or has its turn; with those that wait for it.
        self._keys: dict[str, deque[Item]] = {}
        self._waiting_for_id: dict[str, deque[Item]] = {}

    def add(self, item: Item) -> None:
        self.ready.append(item)

    def take(self) -> Item | None:
        """The next message that may be handled now; ``done`` must follow."""
        ready = self.ready
        while ready:
            item = ready.popleft()
            message = item.delivery.envelope.message
            key = message.ordering_key
            if key is not None and not item.has_turn:
                waiting = self._keys.get(key)
                if waiting is not None:
                    waiting.append(item)
                    continue
                self._keys[key] = deque()
                item.has_turn = True
            message_id = message.message_id
            if message_id in self._ids:
                # Redelivered while its earlier handling still runs, or a second copy.
                self._waiting_for_id.setdefault(message_id, deque()).append(item)
                continue
            self._ids.add(message_id)
            return item
        return None

    def done(self, item: Item) -> None:
        """What ``take`` gave is finished with."""
        message = item.delivery.envelope.message
        self._ids.discard(message.message_id)
        if item.has_turn:
            self._pass_on(item)
        if self._waiting_for_id and (waiting := self._waiting_for_id.get(message.message_id)):
            self.ready.appendleft(waiting.popleft())
            if not waiting:
                del self._waiting_for_id[message.message_id]

    def _pass_on(self, item: Item) -> None:
        key = item.delivery.envelope.message.ordering_key
        assert key is not None
        item.has_turn = False
        waiting = self._keys[key]
        if waiting:
            following = waiting.popleft()
            following.has_turn = True
            self.ready.appendleft(following)
        else:
            del self._keys[key]

    def withdraw(self, session: Session) -> list[Item]:
        """Take out what ``session`` delivered and is not begun, in order of arrival as far as that is still known."""
        taken: list[Item] = []

        def split(items: deque[Item]) -> deque[Item]:
            kept: deque[Item] = deque()
            for item in items:
                (taken if item.session is session else kept).append(item)
            return kept

        # Those that have their turn came before those that wait for it.
        for message_id, items in list(self._waiting_for_id.items()):
            kept = split(items)
            if kept:
                self._waiting_for_id[message_id] = kept
            else:
                del self._waiting_for_id[message_id]
        for key, items in self._keys.items():
            self._keys[key] = split(items)
        self.ready = split(self.ready)
        for item in taken:
            if item.has_turn:
                self._pass_on(item)
        return taken
