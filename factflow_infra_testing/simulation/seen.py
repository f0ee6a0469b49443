"""What happened on the brokers of a run, or on one of them: what the checks of queues ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from factflow_infra_testing.broker.events import ACCEPTED, ACKED, DEAD_LETTERED, DROPPED, FAULT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from factflow_infra_testing.broker.events import BrokerEvent
    from factflow_infra_testing.broker.queues import Queue
    from factflow_infra_testing.broker.server import SimulatedBroker
    from factflow_infra_testing.history.operations import History


class Seen:
    """``history`` is what processes saw, ``events`` what ``brokers`` did."""

    def __init__(self, history: History, events: Sequence[BrokerEvent], brokers: Sequence[SimulatedBroker]) -> None:
        self.history = history
        self.events = events
        self._brokers = brokers

    @property
    def is_of_one(self) -> bool:
        """Whether there is but one broker."""
        return len(self._brokers) == 1

    def of(self, broker: SimulatedBroker) -> Seen:
        """The part of it that is about ``broker``."""
        if self._brokers == (broker,):
            return self
        events = [event for event in self.events if event.kind == FAULT or event.entry in broker.broker.entries]
        return Seen(self.history.on(broker.profile.name), events, (broker,))

    def where(self, target: str) -> list[SimulatedBroker]:
        """The brokers that have a queue or topic of this name, or were asked for one."""
        names = (target, target.partition("#")[0])
        asked = {op.broker for op in self.history.of("publish", "handle") if op.target in names}
        return [
            broker
            for broker in self._brokers
            if broker.profile.name in asked or any(queue.label == target for queue in broker.broker.queues.values())
        ]

    def dead_letters(self, source: str) -> dict[str, str]:
        """Ids of the messages that were dead-lettered from ``source``, with the dead-letter queue each is in.

        A topic: from all of its subscriptions; ``/topic/name#subscription``: from that one.
        """
        return {
            e.key: e.queue
            for e in self.events
            if e.kind == ACCEPTED and e.source and (e.source == source or e.source.startswith(f"{source}#"))
        }

    def dead_lettered_to(self, target: str) -> set[str]:
        """Ids of the messages that came to ``target`` from where they were dead-lettered."""
        return {e.key for e in self.events if e.kind == ACCEPTED and e.source and e.queue == target}

    def held(self, target: str) -> set[str]:
        """Ids of the messages that a queue holds: ready, delayed and unacked."""
        entries: dict[int, str] = {}
        for event in self.events:
            if event.queue != target:
                continue
            if event.kind == ACCEPTED:
                entries[event.entry] = event.key
            elif event.kind in (ACKED, DROPPED, DEAD_LETTERED):
                entries.pop(event.entry, None)
        delayed = {
            message.key
            for queues, scheduled in ((b.broker.queues, b.broker.scheduled) for b in self._brokers)
            for _, _, name, message in scheduled
            if name in queues and queues[name].label == target
        }
        return set(entries.values()) | delayed

    def has_consumer(self, target: str) -> bool:
        """Whether a live subscription takes from ``target``."""
        return any(queue.consumers for queue in self._queues(target))

    def flags_redelivery(self, target: str) -> bool:
        """Whether each message that comes again from ``target`` is flagged, on every broker that has a queue of that name."""
        return all(queue.type.honest for queue in self._queues(target))

    def _queues(self, target: str) -> Iterator[Queue]:
        for broker in self._brokers:
            yield from (queue for queue in broker.broker.queues.values() if queue.label == target)
