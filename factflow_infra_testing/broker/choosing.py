"""Which consumer gets which message, where that is not simply whose turn it is."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from zlib import crc32

from factflow_infra_testing.broker.queues import Dispatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from factflow_infra_testing.broker.entries import Entry
    from factflow_infra_testing.broker.queues import Queue
    from factflow_infra_testing.broker.sessions import Consumer

Group = str | bytes | None


def chosen(queue: Queue) -> Iterator[tuple[Entry, Consumer]]:
    """The entries that may be delivered now, in order, each with its consumer; the caller takes and delivers each at once."""
    return _CHOICES[queue.dispatch](queue)


def _single(queue: Queue) -> Iterator[tuple[Entry, Consumer]]:
    consumer = next(iter(queue.consumers), None)
    while consumer is not None and consumer.has_credit() and (entry := queue.head()) is not None:
        yield entry, consumer


def _sticky(queue: Queue) -> Iterator[tuple[Entry, Consumer]]:
    owners: dict[Group, Consumer | None] = {}
    for entry in list(queue):
        if not any(consumer.has_credit() for consumer in queue.consumers):
            return
        group = entry.message.group
        if group not in owners:
            owners[group] = owner_of(group, queue.consumers)
        owner = owners[group]
        holder = queue.holders.get(group)
        if owner is None or not owner.has_credit() or (holder is not None and holder[0] is not owner):
            owners[group] = None  # what stands behind it must not overtake it
        else:
            yield entry, owner


def _standing(queue: Queue) -> Iterator[tuple[Entry, Consumer]]:
    rotation = queue.rotation
    while (entry := queue.head()) is not None:
        consumer = next((one for one in rotation if one.has_credit()), None)
        if consumer is None:
            return
        rotation.remove(consumer)
        rotation.append(consumer)
        yield entry, consumer


_CHOICES: Final[Mapping[Dispatch, Callable[[Queue], Iterator[tuple[Entry, Consumer]]]]] = MappingProxyType(
    {Dispatch.SINGLE: _single, Dispatch.STICKY: _sticky, Dispatch.STANDING: _standing}
)


def owner_of(group: Group, consumers: Iterable[Consumer]) -> Consumer | None:
    """Whose ``group`` is. A consumer that comes takes some groups over, one that leaves gives up its own; no others move."""
    return max(consumers, key=lambda consumer: crc32(f"{consumer.serial}:{group!r}".encode()), default=None)
