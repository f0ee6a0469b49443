"""Checkers of storage: pure functions from a history to a verdict, for either storage.

``linearizable`` is the strongest: every answer about a key must fit one order of all that was done with it. The others say
more plainly which promise of the contract is broken: S1 whole objects, S2 durable writes, S5 listings, S7 conditions.
All rest on what went through recorded providers: of a key that somebody else may have written nothing is said.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from factflow_infra.storage.keys import is_reserved
from factflow_infra_testing.history.checkers import Judgement, Verdict
from factflow_infra_testing.history.linearizability import (
    MAX_CONFIGURATIONS,
    Step,
    deletes,
    power_loss,
    reads,
    refuses,
    search_order,
    sees,
    writes,
    writes_again,
)
from factflow_infra_testing.history.operations import FAIL, OK
from factflow_infra_testing.history.storage_calls import StorageCall, Value, disk_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from factflow_infra_testing.history.linearizability import Effect
    from factflow_infra_testing.history.operations import History, Operation

_KINDS = ("write", "read", "stat", "list", "copy", "delete")
_REFUSED = "PreconditionFailedError"
_MISSING = "ObjectNotFoundError"
_CORRUPT = "CorruptObjectError"


def calls(history: History, store: str) -> list[tuple[Operation, StorageCall]]:
    """The operations on ``store``, with what was asked and told."""
    return [(op, op.call) for op in history.of(*_KINDS) if op.call is not None and op.call.store == store]


def _verdict(checker: str, store: str, wrong: dict[str, str], judged: int) -> Verdict:
    if wrong:
        told = "; ".join(f"{key!r}: {what}" for key, what in sorted(wrong.items())[:3])
        more = f"; and {len(wrong) - 3} more keys" if len(wrong) > 3 else ""
        return Verdict(checker, Judgement.FAIL, f"{store}: {told}{more}", tuple(sorted(wrong)))
    if not judged:
        return Verdict(checker, Judgement.UNKNOWN, f"{store}: there was nothing to judge")
    return Verdict(checker, Judgement.PASS)


def linearizable(history: History, store: str, *, limit: int = MAX_CONFIGURATIONS) -> Verdict:
    """For each key there is an order of the calls on it, each at a moment between its begin and its end, in which every
    answer is right. A write, copy or delete of unknown outcome may have taken effect at any moment since, or never. For each
    answer to its own requests that was lost on the way, a write or copy may have taken effect once more, where the key had
    been deleted in between: nobody can tell one that never arrived from one that was deleted since, so it is made again.
    Where the store's machine lost its power, what had not ended by then may be undone, even if it was seen: S2 begins with the answer.

    UNKNOWN where the search meets ``limit`` for some key, and none is found to be wrong.
    """
    wrong: dict[str, str] = {}
    open_keys: list[str] = []
    judged = 0
    lost = [op for op in history.of("fault") if op.detail.startswith("s3-answer-lost")]
    losses = [power_loss(op.index) for op in history.of("power-loss") if store == disk_of(op.process)]
    for key, steps in _steps_by_key(calls(history, store), lost).items():
        outcome = search_order([*steps, *losses], limit=limit)
        if outcome.exhausted:
            open_keys.append(key)
        elif outcome.stuck is not None:
            wrong[key] = f"no order of the calls explains: {outcome.stuck.label}"
        judged += any(step.end is not None for step in steps)
    if not wrong and open_keys:
        return Verdict(
            "linearizable",
            Judgement.UNKNOWN,
            f"{store}: too many orders to look at for {', '.join(map(repr, sorted(open_keys)[:5]))}",
            tuple(sorted(open_keys)),
        )
    return _verdict("linearizable", store, wrong, judged)


def _steps_by_key(found: list[tuple[Operation, StorageCall]], lost: list[Operation]) -> dict[str, list[Step]]:
    """The keys that recorded calls may have written, with the steps of each. ``lost``: the faults that lost an answer."""
    steps: dict[str, list[Step]] = defaultdict(list)
    written: dict[str, None] = {}
    for op, _ in found:
        if op.kind in ("write", "copy"):
            written[_target(op)] = None
    for op, call in found:
        if op.kind == "list":
            for key in written:
                present = _listed(op, call, key)
                if present is not None:
                    what = "listed" if present else "not listed"
                    steps[key].append(_step(op, sees(present=present), f"{what} by {op.process} {_when(op)}"))
            continue
        if op.kind == "copy":
            _add_copy(op, call, steps)
        else:
            effect = _effect(op, call)
            if effect is not None:
                changes = op.kind in ("write", "delete") and op.outcome != FAIL
                steps[op.key].append(_step(op, effect, _label(op, call), changes=changes))
        if op.kind in ("write", "copy") and op.outcome != FAIL and call.match is None:
            to_it = steps[_target(op)]
            to_it += [_again(call, to_it[-1]) for fault in lost if _may_repeat(op, fault)]
    return {key: steps[key] for key in written}


def _again(call: StorageCall, first: Step) -> Step:
    effect = writes_again(call.value or Value(None, None), call.etag)
    return Step(first.begin, first.end, effect, f"{first.label}, again", changes=True, after=first)


def _may_repeat(op: Operation, fault: Operation) -> bool:
    """Whether ``fault`` lost the answer to a request that may have put the object of ``op``; an upload is completed once."""
    request, _, put = fault.target.partition(" ")
    its_own = fault.process == op.process and op.index < fault.index and (op.ended is None or fault.index < op.ended)
    return its_own and request in ("PutObject", "CopyObject") and f"/{put}".endswith(f"/{_target(op)}")


def _step(op: Operation, effect: Effect, label: str, *, changes: bool = False) -> Step:
    known = op.outcome == OK or (op.outcome == FAIL and op.kind != "list")
    return Step(op.index, op.ended if known else None, effect, label, changes)


def _effect(op: Operation, call: StorageCall) -> Effect | None:
    """``None``: nothing follows from it, as from a read that failed, or a write that surely changed nothing."""
    if op.kind in ("write", "delete"):
        if op.outcome == FAIL:
            conditional = call.absent or call.match is not None
            refused = conditional and op.detail == _REFUSED
            return refuses(absent=call.absent, match=call.match) if refused else None
        if op.kind == "delete":
            return deletes(call.match)
        return writes(call.value or Value(None, None), call.etag, absent=call.absent, match=call.match)
    if op.outcome == FAIL:
        return sees(present=False) if op.detail == _MISSING else None
    if op.outcome != OK:
        return None
    if call.found is not None:
        return sees(present=call.found)
    return sees(present=True) if call.value is None else reads(call.value, call.etag)


def _add_copy(op: Operation, call: StorageCall, steps: dict[str, list[Step]]) -> None:
    """A copy reads its source at one moment and writes its target at another."""
    target = _target(op)
    if op.outcome == OK and call.value is not None:
        steps[call.source].append(_step(op, reads(call.value), _label(op, call)))
        steps[target].append(_step(op, writes(call.value, call.etag), _label(op, call), changes=True))
    elif op.outcome == FAIL:
        if op.detail == _MISSING:
            steps[call.source].append(_step(op, sees(present=False), _label(op, call)))
    else:
        steps[target].append(_step(op, writes(Value(None, None)), _label(op, call), changes=True))


def _target(op: Operation) -> str:
    return op.key.partition(" -> ")[2] if op.kind == "copy" else op.key


def _listed(op: Operation, call: StorageCall, key: str) -> bool | None:
    """Whether the listing shows ``key``; ``None`` where it does not tell."""
    if op.outcome != OK or call.names is None or not key.startswith(op.key):
        return None
    if key in call.names:
        return True
    position = key.encode()
    if position <= call.after.encode():
        return None
    within = call.whole or (bool(call.names) and position <= call.names[-1].encode())
    return False if within else None


def _when(op: Operation) -> str:
    return f"at {op.invoked:.3f} s"


def _label(op: Operation, call: StorageCall) -> str:
    condition = " if_absent" if call.absent else "" if call.match is None else f" if_match={call.match!r}"
    value = "" if call.value is None else f" {call.value}"
    answer = f" -> {op.detail}" if op.outcome != OK and op.detail else ""
    if call.found is not None:
        answer = f" -> {'there' if call.found else 'missing'}"
    return f"{op.kind}{condition} by {op.process} {_when(op)}{value}{answer}"


def whole_objects(history: History, store: str) -> Verdict:
    """S1: what is read of a key is what one write or copy has put there, content and metadata together, and no damage is
    met that no fault has done.
    """
    found = calls(history, store)
    written = _written(found)
    damaged = any(op.kind == "fault" and "corrupt" in op.detail for op in history.operations)
    wrong: dict[str, str] = {}
    judged = 0
    for op, call in found:
        if op.kind not in ("read", "stat") or op.key not in written:
            continue
        if op.detail == _CORRUPT and op.outcome == FAIL and not damaged:
            wrong[op.key] = f"{op.kind} by {op.process} {_when(op)} met a damaged object"
        if op.outcome != OK or call.value is None:
            continue
        judged += 1
        if not any(value.agrees(call.value) for value in written[op.key]):
            wrong[op.key] = f"{_label(op, call)} is what no write has put there"
    return _verdict("whole objects", store, wrong, judged)


def _written(found: list[tuple[Operation, StorageCall]]) -> dict[str, list[Value]]:
    """What may have been put at each key."""
    written: dict[str, list[Value]] = defaultdict(list)
    for op, call in found:
        if op.kind in ("write", "copy") and op.outcome != FAIL:
            written[_target(op)].append(call.value or Value(None, None))
    return written


def durable_writes(history: History, store: str) -> Verdict:
    """S2: an object whose write has returned, and that nobody may have deleted, is found by every look that began since."""
    found = calls(history, store)
    deleted = {op.key for op, _ in found if op.kind == "delete" and op.outcome != FAIL}
    since: dict[str, int] = {}
    for op, _ in found:
        if op.kind in ("write", "copy") and op.outcome == OK and op.ended is not None and _target(op) not in deleted:
            key = _target(op)
            since[key] = min(since.get(key, op.ended), op.ended)
    wrong: dict[str, str] = {}
    judged = 0
    for op, call in found:
        for key in [op.key] if op.kind in ("read", "stat") else since if op.kind == "list" else ():
            if key not in since or op.index < since[key]:
                continue
            there = _listed(op, call, key) if op.kind == "list" else _there(op, call)
            judged += there is not None
            if there is False:
                wrong[key] = f"its write had returned, and {op.kind} by {op.process} {_when(op)} does not find it"
    return _verdict("durable writes", store, wrong, judged)


def _there(op: Operation, call: StorageCall) -> bool | None:
    if op.outcome == FAIL:
        return False if op.detail == _MISSING else None
    if op.outcome != OK:
        return None
    return True if call.found is None else call.found


def honest_listings(history: History, store: str) -> Verdict:
    """S5: names in the order of their UTF-8 bytes, none twice, all with the prefix, none hidden; every object is there
    whose write had returned before, and that nobody may have deleted; none that was gone before and not written since.
    """
    found = calls(history, store)
    written = list(_written(found))
    wrong: dict[str, str] = {}
    judged = 0
    for op, call in found:
        if op.kind != "list" or call.names is None:
            continue
        judged += 1
        for name, complaint in _misplaced(op.key, call.names):
            wrong[name] = f"{complaint}, listed by {op.process} {_when(op)}"
        for key in written:
            shown = _listed(op, call, key)
            surely = _surely(found, key, op)
            if shown is not None and surely is not None and shown != surely:
                what = "is missing" if surely else "shows although it is gone"
                wrong[key] = f"{what} in the listing of {op.key!r} by {op.process} {_when(op)}"
    return _verdict("honest listings", store, wrong, judged)


def _misplaced(prefix: str, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    last: str | None = None
    for name in names:
        if last is not None and name.encode() <= last.encode():
            yield name, f"comes after {last!r}"
        if not name.startswith(prefix):
            yield name, f"does not begin with {prefix!r}"
        if any(is_reserved(segment) for segment in name.split("/")):
            yield name, "is a hidden name"
        last = name


def _surely(found: list[tuple[Operation, StorageCall]], key: str, look: Operation) -> bool | None:
    """Whether ``key`` surely was there, or surely was not, as long as ``look`` lasted."""
    state: bool | None = False
    changed = -1
    for op, _ in found:
        changes = op.kind in ("write", "copy", "delete") and op.outcome != FAIL and _target(op) == key
        if not changes or (look.ended is not None and op.index >= look.ended):
            continue
        if op.outcome != OK or op.ended is None or op.ended > look.index or op.index < changed:
            return None  # it may have happened meanwhile, or before or after another one
        state, changed = op.kind != "delete", op.ended
    return state


def honoured_conditions(history: History, store: str) -> Verdict:
    """S7: of the creates of a key one succeeds, until it may have been deleted; of the writes that name an etag one succeeds,
    until that etag may be there again; and none is refused of a key that nobody can have written.
    """
    by_key: dict[str, list[tuple[Operation, StorageCall]]] = defaultdict(list)
    for op, call in calls(history, store):
        if op.kind in ("write", "copy", "delete"):
            by_key[_target(op)].append((op, call))
    wrong: dict[str, str] = {}
    judged = 0
    for key, changes in by_key.items():
        conditional = [(op, call) for op, call in changes if call.absent or call.match is not None]
        judged += bool(conditional)
        for complaint in _broken_conditions(changes, conditional):
            wrong[key] = complaint
    return _verdict("honoured conditions", store, wrong, judged)


def _broken_conditions(
    changes: list[tuple[Operation, StorageCall]], conditional: list[tuple[Operation, StorageCall]]
) -> Iterator[str]:
    winners = [(op, call) for op, call in conditional if op.outcome == OK]
    for number, (later, its) in enumerate(winners):
        for earlier, other in winners[:number]:
            if (its.absent, its.match) != (other.absent, other.match):
                continue
            # What a write leaves may have the very etag that it named: equal content may have an equal one.
            overlap = earlier.ended is None or earlier.ended > later.index
            if _frees(earlier, other, its) or (overlap and _frees(later, its, its)):
                continue
            if not any(_frees(op, call, its) and _may_lie_between(op, earlier, later) for op, call in changes):
                yield f"two succeeded: {_label(earlier, other)}, and {_label(later, its)}"
    for op, call in conditional:
        if op.outcome == FAIL and op.detail == _REFUSED and call.absent:
            ended = op.ended if op.ended is not None else op.index
            if not any(
                other.kind in ("write", "copy") and other.outcome != FAIL and other.index < ended
                for other, _ in changes
            ):
                yield f"{_label(op, call)}, and nobody had written it"


def _frees(op: Operation, call: StorageCall, condition: StorageCall) -> bool:
    """Whether ``op`` may have made the condition hold again."""
    if op.outcome == FAIL:
        return False
    if condition.absent:
        return op.kind == "delete"
    return op.kind in ("write", "copy") and (not call.etag or call.etag == condition.match)


def _may_lie_between(op: Operation, one: Operation, two: Operation) -> bool:
    """Whether ``op`` may have happened after one of the two and before the other."""
    if op is one or op is two:
        return False
    starts = min(one.index, two.index)
    ends = max(step.ended if step.ended is not None else step.index for step in (one, two))
    return op.index < ends and (op.outcome != OK or op.ended is None or op.ended > starts)


STORAGE_CHECKERS = (linearizable, whole_objects, durable_writes, honest_listings, honoured_conditions)
