"""What queues hold, as a whole: emptying and deleting them, ending their consumers, and telling of it all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from factflow_infra_testing.broker.events import DROPPED, BrokerEvent
from factflow_infra_testing.broker.topology import Topology

if TYPE_CHECKING:
    from collections.abc import Callable

    from factflow_infra_testing.broker.entries import Entry
    from factflow_infra_testing.broker.queue_types import Profile
    from factflow_infra_testing.broker.queues import Queue
    from factflow_infra_testing.broker.sessions import Consumer


class Holdings(Topology):
    """Queues with their messages and consumers. ``observer`` is told of everything that happens to entries."""

    def __init__(self, profile: Profile, observer: Callable[[BrokerEvent], None] | None) -> None:
        super().__init__(profile)
        self.observer = observer

    def purge(self, queue_name: str) -> int:
        """Drop what is ready in a queue, and say how much that was; what is unacked stays."""
        queue = self.queue(queue_name)
        gone = queue.retain(lambda _: False)
        for entry in gone:
            self.tell(DROPPED, queue, entry, reason="purged")
        return len(gone)

    def delete_queue(self, queue_name: str) -> int:
        """Delete a queue with what is in it, and end its consumers; says how many ready messages went with it."""
        queue = self.queues.get(queue_name)
        if queue is None:
            return 0
        gone = self.purge(queue_name)
        self.forget_queue(queue)
        self.end_consumers(queue)
        return gone

    def end_consumers(self, queue: Queue) -> None:
        """End all consumers of a queue, and tell them: where they have names, in the order of those (RMQ-54)."""
        for consumer in sorted(queue.consumers, key=lambda consumer: consumer.name):
            self.end_consumer(consumer)
            consumer.session.consumers.pop(consumer, None)
            if consumer.cancelled is not None:
                consumer.cancelled()

    def forget_counts(self, queue: Queue) -> None:
        """Nobody consumes any more: where the profile says so, how often messages came back is forgotten."""
        if queue.type.forgets_counts and not queue.consumers:
            for entry in queue:
                entry.returns = 0
                entry.redelivered = False

    def delete_if_unused(self, queue: Queue) -> None:
        """Delete an auto-delete queue whose last consumer has gone."""
        if queue.auto_delete and queue.had_consumers and not queue.consumers and queue.alive:
            self.delete_queue(queue.name)

    def tell(
        self,
        kind: str,
        queue: Queue,
        entry: Entry,
        *,
        client: str = "",
        count: int | None = None,
        source: str = "",
        reason: str = "",
    ) -> None:
        if self.observer is not None:
            redelivered = entry.redelivered
            for serial, key in enumerate(entry.message.keys, entry.serial):
                self.observer(
                    BrokerEvent(self.now, kind, queue.label, key, serial, client, redelivered, count, source, reason)
                )

    def end_consumer(self, consumer: Consumer) -> None:
        consumer.active = False
        queue = consumer.queue
        queue.consumers.pop(consumer, None)
        if consumer.waiting:
            consumer.waiting = False
            queue.rotation.remove(consumer)
            queue.begin_ring()
        if not queue.consumers:
            queue.idle_since = self.now
