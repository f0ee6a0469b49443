"""What is still to happen on a simulated broker, in lines for people: what is held, under way, or waits for its time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from factflow_infra_testing.broker.queues import Queue
    from factflow_infra_testing.broker.server import SimulatedBroker

_MOST_NAMED: Final = 3
"""Messages of a queue that are told by name."""


def under_way(server: SimulatedBroker) -> Iterator[str]:
    """A line for each connection with something on it, for a broker that is down, and for each queue with a live consumer that
    holds something. What waits for its delay is left to ``delayed``.
    """
    links = server.attached()
    for link in links:
        if line := link.pending:
            yield line
    if not any(server.host_is_up(host) for host in server.hosts):
        yield "the broker is down"
    for link in links:
        hosts = link.hosts if link.exposed else None
        if hosts is not None and hosts[1] in server.hosts and not server.links.passable(*hosts):
            yield f"{link.client}: cut off from {hosts[1]}"
    for queue in server.broker.queues.values():
        if queue.consumers and (len(queue) or queue.unacked):
            yield f"{queue.label}: {_held(queue)}, and there is a live consumer"


def delayed(server: SimulatedBroker) -> Iterator[str]:
    """A line for each queue in which messages wait for their delay, and will then have a consumer: which, and until when."""
    waiting: dict[str, list[tuple[float, str]]] = {}
    queues = server.broker.queues
    for queue in queues.values():
        if queue.consumers and queue.waiting:
            waiting[queue.label] = [(due, entry.message.key) for due, _, entry in sorted(queue.waiting, key=_when)]
    for due, exchange, key, message in server.broker.scheduled:
        if exchange or (key in queues and queues[key].consumers):
            waiting.setdefault(exchange or queues[key].label, []).append((due, message.key))
    for queue in server.broker.timed_queues:
        head = None if queue.consumers else queue.head()
        if head is not None and head.expires_at is not None and _somebody_waits_behind(server, queue):
            waiting.setdefault(queue.label, []).append((head.expires_at, head.message.key))
    for label, messages in waiting.items():
        told = [f"message {key!r} waits for its delay until {due:.3f} s" for due, key in messages[:_MOST_NAMED]]
        if len(messages) > _MOST_NAMED:
            told.append(f"{len(messages) - _MOST_NAMED} more wait")
        yield f"{label}: {', '.join(told)}"


def _held(queue: Queue) -> str:
    told: list[str] = []
    if queue.unacked:
        sessions = dict.fromkeys(consumer.session for consumer in queue.consumers)
        held = [one for session in sessions for one in session.unacked.values() if one.queue is queue]
        holders = ", ".join(dict.fromkeys(one.session.connection.client for one in held)) or "who is gone"
        names = ", ".join(repr(one.entry.message.key) for one in held[:_MOST_NAMED])
        more = ", ..." if len(held) > _MOST_NAMED else ""
        told.append(f"{_count(queue.unacked)} unacked by {holders}" + (f" ({names}{more})" if names else ""))
    if len(queue):
        told.append(f"{_count(len(queue))} ready")
    return ", ".join(told)


def _count(number: int) -> str:
    return f"{number} message{'' if number == 1 else 's'}"


def _when(item: tuple[float, int, object]) -> tuple[float, int]:
    return item[:2]


def _somebody_waits_behind(server: SimulatedBroker, queue: Queue) -> bool:
    # A queue that delays: what expires in it goes to where there is a consumer, or to a topic.
    exchange, key = queue.options.dead_letter_exchange, queue.options.dead_letter_key
    if exchange is None:
        return False
    target = server.broker.queues.get(key or "")
    return bool(exchange) or (target is not None and bool(target.consumers))
