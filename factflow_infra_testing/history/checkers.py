"""Checkers: pure functions from a history to a verdict.

Each is sound only after a full drain, and says ``UNKNOWN`` where it cannot tell: a checker that cannot tell never passes.
An operation of unknown outcome (``INFO``, or cut short by a kill) may or may not have happened: both are accepted.

The names are those of ``docs/testing.md``: no loss, no phantom, no duplicate after ack, redelivery honesty, FIFO per key,
bounded redelivery, in-flight cap, exactly-once effect.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

from factflow_infra_testing.history.operations import FAIL, OK, REDELIVERED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from factflow_infra_testing.broker.events import BrokerEvent
    from factflow_infra_testing.history.operations import History, Operation


class Judgement(StrEnum):
    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a checker found. ``explanation`` names the messages; ``keys`` are theirs, for the timeline."""

    checker: str
    judgement: Judgement
    explanation: str = ""
    keys: tuple[str, ...] = ()


def _passed(checker: str) -> Verdict:
    return Verdict(checker, Judgement.PASS)


def _failed(checker: str, explanation: str, keys: Iterable[str]) -> Verdict:
    return Verdict(checker, Judgement.FAIL, explanation, tuple(keys))


def _unknown(checker: str, explanation: str) -> Verdict:
    return Verdict(checker, Judgement.UNKNOWN, explanation)


def _listed(keys: Collection[str], limit: int = 5) -> str:
    shown = ", ".join(repr(key) for key in sorted(keys)[:limit])
    return shown if len(keys) <= limit else f"{shown} and {len(keys) - limit} more"


def _publishes(history: History, destination: str) -> list[Operation]:
    return [operation for operation in history.of("publish") if operation.target == destination]


def _handlings(history: History, target: str) -> list[Operation]:
    return [operation for operation in history.of("handle") if operation.target == target]


def no_loss(
    history: History,
    target: str,
    *,
    dead_lettered: Collection[str],
    held: Collection[str] = (),
    live: bool = True,
    recorded: bool = True,
) -> Verdict:
    """Every confirmed publish is handled (verdict ack) or dead-lettered.

    ``dead_lettered``: ids that reached a dead-letter queue from ``target``. ``held``: ids that the broker still holds
    there: not lost, but not handled either, which fails while a live subscription could take them. ``recorded``: whether
    all handlings are in the history; where some may not be, nothing can be called lost.
    """
    confirmed = {op.key for op in _publishes(history, target.partition("#")[0]) if op.outcome == OK}
    if not confirmed:
        return _unknown("no loss", f"nothing was confirmed as published to {target}")
    handled = {op.key for op in _handlings(history, target) if op.outcome == OK}
    missing = confirmed - handled - set(dead_lettered)
    if not missing:
        return _passed("no loss")
    lost = missing - set(held)
    if lost and not recorded:
        return _unknown("no loss", f"{target}: a client that is not in the history may have handled {_listed(lost)}")
    if lost:
        return _failed(
            "no loss",
            f"{target}: {len(lost)} of {len(confirmed)} confirmed messages were neither handled nor dead-lettered, "
            f"and the broker holds them no more: {_listed(lost)}",
            sorted(lost),
        )
    if not live:
        return _unknown("no loss", f"{target} has no live subscription and still holds {_listed(missing)}")
    return _failed("no loss", f"{target} still holds {_listed(missing)} after the drain", sorted(missing))


def no_phantom(history: History, target: str, *, dead_letters: Collection[str] = (), recorded: bool = True) -> Verdict:
    """Nothing is handled that was not sent before.

    ``dead_letters``: ids of the messages that were dead-lettered to ``target``. ``recorded``: whether all publishes are in the
    history; where some may not be, nothing can be called a phantom.
    """
    sent: dict[str, float] = dict.fromkeys(dead_letters, 0.0)
    for op in _publishes(history, target.partition("#")[0]):
        sent.setdefault(op.key, op.invoked)
    handlings = _handlings(history, target)
    if not handlings:
        return _unknown("no phantom", f"nothing was handled on {target}")
    phantoms = {op.key for op in handlings if op.key not in sent or sent[op.key] > op.invoked}
    if phantoms and not recorded:
        return _unknown(
            "no phantom", f"{target}: a client that is not in the history may have sent {_listed(phantoms)}"
        )
    if phantoms:
        return _failed("no phantom", f"{target}: handled but never sent: {_listed(phantoms)}", sorted(phantoms))
    return _passed("no phantom")


def no_duplicate_after_ack(events: Iterable[BrokerEvent], target: str) -> Verdict:
    """No delivery of an entry starts after its ack has arrived at the broker."""
    acked: dict[int, float] = {}
    late: set[str] = set()
    seen = False
    for event in events:
        if event.queue != target:
            continue
        if event.kind == "acked":
            seen = True
            acked[event.entry] = event.time
        elif event.kind == "delivered" and event.entry in acked:
            late.add(event.key)
    if late:
        return _failed("no duplicate after ack", f"{target}: delivered after its ack: {_listed(late)}", sorted(late))
    return _passed("no duplicate after ack") if seen else _unknown("no duplicate after ack", f"no ack on {target}")


def redelivery_honesty(
    events: Iterable[BrokerEvent], target: str, *, crashed: bool = False, flags: bool = True
) -> Verdict:
    """An entry's first delivery is unflagged with count 1, each later one is flagged, and its count never shrinks.

    ``crashed``: the broker went down in this run; one that crashes may flag everything that it kept (docs/facts.md, RMQ-11).
    ``flags``: whether this broker flags all that comes again, and goes on counting; Artemis does not (ART-2, ART-3), and
    Pulsar forgets its counts (PUL-42).
    """
    deliveries: dict[int, list[BrokerEvent]] = defaultdict(list)
    for event in events:
        if event.queue == target and event.kind == "delivered":
            deliveries[event.entry].append(event)
    if not deliveries:
        return _unknown("redelivery honesty", f"nothing was delivered from {target}")
    wrong: dict[str, str] = {}
    for entries in deliveries.values():
        first = entries[0]
        if first.redelivered and not crashed:
            wrong[first.key] = "flagged as redelivered the first time"
        if first.count is not None and first.count != 1:
            wrong[first.key] = f"count {first.count} the first time"
        for before, after in pairwise(entries):
            if flags and not after.redelivered:
                wrong[after.key] = "delivered again without the flag"
            if flags and before.count is not None and after.count is not None and after.count < before.count:
                wrong[after.key] = f"count fell from {before.count} to {after.count}"
    if wrong:
        told = "; ".join(f"{key!r} {what}" for key, what in sorted(wrong.items())[:5])
        return _failed("redelivery honesty", f"{target}: {told}", sorted(wrong))
    return _passed("redelivery honesty")


def fifo_per_key(history: History, target: str) -> Verdict:
    """First handlings follow the order in which one process published, key by key (no key is a key of its own).

    Only messages whose first handling was no redelivery are compared: what came back to the queue stands where the
    broker puts it. Publishes that overlapped in time have no order.
    """
    first: dict[str, Operation] = {}
    for op in _handlings(history, target):
        first.setdefault(op.key, op)
    lines: dict[tuple[str, str], list[Operation]] = defaultdict(list)
    for op in _publishes(history, target.partition("#")[0]):
        if op.outcome == OK and op.key in first and not first[op.key].detail.startswith(REDELIVERED):
            lines[op.process, op.detail].append(op)
    compared = 0
    for (process, key), sent in lines.items():
        for index, later in enumerate(sent):
            for earlier in sent[max(0, index - 50) : index]:
                if earlier.completed is None or earlier.completed > later.invoked or earlier.key == later.key:
                    continue
                compared += 1
                if first[later.key].index < first[earlier.key].index:
                    group = f" with ordering key {key!r}" if key else ""
                    return _failed(
                        "FIFO per key",
                        f"{target}: {process} sent {earlier.key!r} before {later.key!r}{group}, "
                        f"but {later.key!r} was handled first",
                        (earlier.key, later.key),
                    )
    if compared == 0:
        return _unknown("FIFO per key", f"no two ordered messages were first handled on {target}")
    return _passed("FIFO per key")


def bounded_redelivery(
    history: History,
    events: Iterable[BrokerEvent],
    target: str,
    *,
    max_retries: int,
    dead_lettered: Collection[str],
) -> Verdict:
    """At most ``max_retries + 1`` failed handlings of a message, then the dead-letter queue.

    A message that came back to its queue (a lost connection, a killed consumer) may have left a copy behind, and so may a
    fault that hid the confirm of a copy; each copy has a count of its own. So the bound holds for each publish, each
    return and each fault of the broker.
    """
    lines = Counter(op.key for op in _publishes(history, target.partition("#")[0]) if op.outcome != FAIL)
    failed = Counter(op.key for op in _handlings(history, target) if op.outcome == FAIL)
    if not failed:
        return _unknown("bounded redelivery", f"no handling failed on {target}")
    faults = 0
    for event in events:
        if event.kind == "fault":
            faults += 1
        elif event.kind == "requeued" and event.queue == target:
            lines[event.key] += 1
    bound = {key: (max_retries + 1) * (max(1, lines[key]) + faults) for key in failed}
    over = {key for key, count in failed.items() if count > bound[key]}
    if over:
        worst = max(over, key=lambda key: (failed[key], key))
        return _failed(
            "bounded redelivery",
            f"{target}: {worst!r} failed {failed[worst]} times, the bound is {bound[worst]}",
            sorted(over),
        )
    handled = {op.key for op in _handlings(history, target) if op.outcome == OK}
    stuck = {key for key, count in failed.items() if count > max_retries and key not in handled} - set(dead_lettered)
    if stuck:
        return _failed(
            "bounded redelivery", f"{target}: out of retries, yet not dead-lettered: {_listed(stuck)}", sorted(stuck)
        )
    return _passed("bounded redelivery")


def in_flight_cap(history: History, target: str, *, cap: int, process: str | None = None) -> Verdict:
    """Never more than ``cap`` handlings at once in any one incarnation of a process.

    A handling that its process did not survive ended with it. Of two in one instant, the first may have ended before the
    second began.
    """
    ended: dict[str, list[float]] = defaultdict(list)
    for op in history.of("kill", "end"):
        ended[op.target].append(op.invoked)
    edges: dict[str, list[tuple[float, bool, int, bool, str]]] = defaultdict(list)
    for op in _handlings(history, target):
        if process is not None and op.process != process:
            continue
        end = op.completed
        if end is None:
            end = next((time for time in ended[op.process] if time >= op.invoked), float("inf"))
        # Within an instant: what began earlier ends, then each that begins here, with its end if that is here too.
        edges[op.process].append((op.invoked, True, op.index, False, op.key))
        edges[op.process].append((end, end == op.invoked, op.index, True, op.key))
    if not edges:
        return _unknown("in-flight cap", f"nothing was handled on {target}")
    for name, points in edges.items():
        running: set[str] = set()
        for time, _, index, ends, key in sorted(points):
            if ends:
                running.discard(f"{key}/{index}")
                continue
            running.add(f"{key}/{index}")
            if len(running) > cap:
                keys = sorted(item.rpartition("/")[0] for item in running)
                return _failed(
                    "in-flight cap",
                    f"{target}: {name} ran {len(running)} handlers at once at {time:.3f} s, the cap is {cap}: {keys}",
                    keys,
                )
    return _passed("in-flight cap")


def exactly_once_effect(effects: Iterable[str], *, expected: Iterable[str] | None = None) -> Verdict:
    """Each id at most once in the effect store; with ``expected``, exactly those."""
    counts = Counter(iter(effects))  # of a mapping: its keys
    twice = {key for key, count in counts.items() if count > 1}
    if twice:
        told = ", ".join(f"{key!r} {counts[key]} times" for key in sorted(twice)[:5])
        return _failed("exactly-once effect", f"more than one effect: {told}", sorted(twice))
    if expected is not None:
        wanted = set(expected)
        missing, extra = wanted - counts.keys(), counts.keys() - wanted
        if missing or extra:
            told = "; ".join(
                f"{what} {_listed(keys)}" for what, keys in (("no effect of", missing), ("unexpected", extra)) if keys
            )
            return _failed("exactly-once effect", told, sorted(missing | extra))
    return _passed("exactly-once effect")
