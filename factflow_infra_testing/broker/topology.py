"""Queues, exchanges and bindings: what is declared on the broker, and who may use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from factflow_infra_testing.broker.errors import RefusalCode, RefusedError
from factflow_infra_testing.broker.exchanges import Exchange, ExchangeKind
from factflow_infra_testing.broker.logs import Log
from factflow_infra_testing.broker.queues import Queue, QueueOptions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from factflow_infra_testing.broker.entries import Message
    from factflow_infra_testing.broker.queue_types import Profile
    from factflow_infra_testing.broker.sessions import Connection


def _default_options(profile: Profile) -> QueueOptions:
    """What a queue gets that does not say."""
    attempts, dead_letters = profile.delivery_attempts, profile.dead_letter_queue
    return QueueOptions(
        delivery_limit=None if attempts is None else attempts - 1,
        dead_letter_exchange=None if dead_letters is None else "",
        dead_letter_key=dead_letters,
        expiry_queue=profile.expiry_queue,
    )


MOST_LABELS: Final = 10_000
"""A broker that is served for days may see any number of queues."""


class Topology:
    """What is declared. Declaring the same again changes nothing; declaring it otherwise is refused."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.now = 0.0
        self.queues: dict[str, Queue] = {}
        self.labels: dict[str, None] = {}
        """Of all queues that there have been, as far as ``MOST_LABELS`` reach."""
        self.exchanges: dict[str, Exchange] = {}
        self.timed_queues: dict[Queue, None] = {}
        self._segments = 0
        self.default_options = _default_options(profile)
        for name in (profile.dead_letter_queue, profile.expiry_queue):
            if name is not None:
                self.declare_queue(name, options=QueueOptions())

    def declare_queue(
        self,
        name: str,
        *,
        label: str | None = None,
        queue_type: str | None = None,
        durable: bool = True,
        owner: Connection | None = None,
        auto_delete: bool = False,
        options: QueueOptions | None = None,
    ) -> Queue:
        """The queue called ``name``, made if it is not there. ``owner``: the connection that it is exclusive to.

        ``label`` is what faults and events call it; ``options`` are the profile's own unless given. Raises ``RefusedError``: it exists otherwise, belongs to another
        connection, or its type cannot be so.
        """
        if options is None:
            options = self.default_options
        queue = self.queues.get(name)
        if queue is not None:
            self._check_access(queue, owner)
            same_type = queue_type is None or queue.type.name == queue_type
            if same_type and (queue.durable, queue.auto_delete, queue.options) == (durable, auto_delete, options):
                return queue
            raise RefusedError(
                RefusalCode.PRECONDITION_FAILED, f"queue '{name}' exists already with other properties than asked for"
            )
        known = self.profile.queue_types
        if queue_type is not None and queue_type not in known:
            raise RefusedError(
                RefusalCode.PRECONDITION_FAILED, f"no queue type '{queue_type}'; there are: {', '.join(sorted(known))}"
            )
        kind = self.profile.queue_type(queue_type, exclusive=owner is not None or not durable or auto_delete)
        for wanted, able, what in (
            (auto_delete, kind.auto_delete, "auto-delete"),
            (owner is not None, kind.exclusive, "exclusive-owner"),
            (not durable, kind.transient, "non-durable"),
        ):
            if wanted and not able:
                raise RefusedError(RefusalCode.PRECONDITION_FAILED, f"invalid property '{what}' for queue '{name}'")
        if options.delivery_limit is not None and not kind.limits:
            raise RefusedError(
                RefusalCode.PRECONDITION_FAILED,
                f"invalid arg 'x-delivery-limit' for queue '{name}' of queue type {kind.name}",
            )
        queue = Queue(
            name,
            kind,
            options,
            label=name if label is None else label,
            durable=durable,
            auto_delete=auto_delete,
            owner=owner,
            now=self.now,
        )
        self.queues[name] = queue
        if len(self.labels) < MOST_LABELS:
            self.labels[queue.label] = None
        if owner is not None:
            owner.exclusive[name] = queue
        if queue.timed or options.expires is not None:
            self.timed_queues[queue] = None
        return queue

    def queue(self, name: str, connection: Connection | None = None) -> Queue:
        """The queue called ``name``. Raises ``RefusedError``: there is none, or it is exclusive to another connection."""
        queue = self.queues.get(name)
        if queue is None:
            raise RefusedError(RefusalCode.NOT_FOUND, f"no queue '{name}'")
        if connection is not None:
            self._check_access(queue, connection)
        return queue

    @staticmethod
    def _check_access(queue: Queue, connection: Connection | None) -> None:
        if queue.owner is not None and queue.owner is not connection:
            raise RefusedError(
                RefusalCode.RESOURCE_LOCKED, f"cannot obtain exclusive access to locked queue '{queue.name}'"
            )

    def forget_queue(self, queue: Queue) -> None:
        """Take a queue and its bindings out; its consumers and messages are the caller's concern."""
        queue.alive = False
        del self.queues[queue.name]
        self.timed_queues.pop(queue, None)
        if queue.owner is not None:
            queue.owner.exclusive.pop(queue.name, None)
        for exchange in list(self.exchanges.values()):
            had = exchange.used
            exchange.forget(queue)
            if exchange.auto_delete and had and not exchange.used:
                self.delete_exchange(exchange.name)

    def note_timed(self, queue: Queue) -> None:
        """From now on some message of ``queue`` may expire."""
        queue.timed = True
        self.timed_queues[queue] = None

    def declare_exchange(
        self,
        name: str,
        kind: ExchangeKind = ExchangeKind.FANOUT,
        *,
        label: str | None = None,
        durable: bool = True,
        auto_delete: bool = False,
        logged: bool = False,
    ) -> Exchange:
        """The exchange called ``name``, made if it is not there. Raises ``RefusedError``: it exists otherwise.

        ``logged``: it keeps what it is given, so that queues which are bound later can have that as well.
        """
        if not name:
            raise RefusedError(RefusalCode.ACCESS_REFUSED, "the default exchange cannot be declared")
        exchange = self.exchanges.get(name)
        if exchange is None:
            exchange = self.exchanges[name] = Exchange(
                name, kind, label=name if label is None else label, durable=durable, auto_delete=auto_delete
            )
            if logged:
                exchange.log = Log(self._new_segment)
        elif (exchange.kind, exchange.durable, exchange.auto_delete) != (kind, durable, auto_delete):
            raise RefusedError(
                RefusalCode.PRECONDITION_FAILED,
                f"exchange '{name}' exists already with other properties than asked for",
            )
        return exchange

    def _new_segment(self) -> int:
        self._segments += 1
        return self._segments

    def exchange(self, name: str) -> Exchange:
        """The exchange called ``name``. Raises ``RefusedError``: there is none."""
        exchange = self.exchanges.get(name)
        if exchange is None:
            raise RefusedError(RefusalCode.NOT_FOUND, f"no exchange '{name}'")
        return exchange

    def delete_exchange(self, name: str) -> None:
        """Delete an exchange with all its bindings, if it is there; auto-delete ones that it leaves unused go with it."""
        gone = self.exchanges.pop(name, None)
        if gone is None:
            return
        for exchange in list(self.exchanges.values()):
            had = len(exchange.forwards)
            exchange.forwards = [one for one in exchange.forwards if one.exchange is not gone]
            if exchange.auto_delete and had and not exchange.used:
                self.delete_exchange(exchange.name)

    def bind(
        self,
        queue_name: str,
        exchange_name: str,
        key: str = "",
        arguments: Mapping[str, Any] | None = None,
        *,
        connection: Connection | None = None,
    ) -> None:
        """Bind a queue to an exchange. Raises ``RefusedError``: one of them is not there, or is another's."""
        queue = self.queue(queue_name, connection)
        self.exchange(exchange_name).bind(queue, key, arguments or {})

    # --- for tests and reports --------------------------------------------------------------------------------------

    def depth(self, queue_name: str) -> int:
        """How many messages a queue holds, ready, unacked and stranded; 0 where there is no such queue."""
        queue = self.queues.get(queue_name)
        if queue is None:
            return 0
        return len(queue) + len(queue.waiting) + queue.unacked + len(queue.stranded)

    def ready(self, queue_name: str) -> list[Message]:
        """What is ready in a queue, in delivery order; nothing where there is no such queue."""
        queue = self.queues.get(queue_name)
        return [] if queue is None else [entry.message for entry in queue]

    def unacked(self, queue_name: str) -> int:
        """How many messages of a queue are delivered and not settled."""
        queue = self.queues.get(queue_name)
        return 0 if queue is None else queue.unacked
