"""The timeline as one self-contained page: time down, lanes per process, a box an operation, faults across.

Rows are the order of events, not the clock's scale: a virtual minute of waiting between two milliseconds of work would
leave nothing to see. The time stands beside each row, and a wait of a second or more is drawn as a line.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

from factflow_infra_testing.report.text import meanings
from factflow_infra_testing.report.timeline import Names, describe, is_marked, processes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from factflow_infra_testing.history.operations import Operation
    from factflow_infra_testing.search.decisions import Fault

CAP: Final = 1000
"""Operations on one page; the page says what it leaves out."""

_LONG_WAIT: Final = 1.0
_ENDS: Final = frozenset({"kill", "end"})
"""Kinds of operation at which a process is gone, with all that it was doing."""

_STYLE: Final = """
:root { color-scheme: light; }
body { font: 14px/1.45 system-ui, sans-serif; margin: 24px; color: #1c2330; background: #fff; }
h1 { font-size: 18px; margin: 0 0 4px; overflow-wrap: anywhere; }
.failure { color: #9c1c1c; white-space: pre-wrap; margin: 4px 0 12px; font-family: ui-monospace, monospace; font-size: 13px; }
.note { color: #5b6472; margin: 4px 0; }
ul.plan { margin: 4px 0 12px; padding-left: 20px; }
ul.plan code { background: #fbe9e7; padding: 1px 4px; border-radius: 3px; }
.key span { display: inline-block; padding: 1px 8px; margin: 0 6px 8px 0; border-radius: 3px; border-left-width: 4px;
  border-left-style: solid; }
.grid { display: grid; column-gap: 6px; grid-auto-rows: minmax(24px, auto); margin-top: 12px; }
.head { position: sticky; top: 0; background: #fff; font-weight: 600; border-bottom: 2px solid #1c2330; padding: 4px 6px; z-index: 2; }
.time { color: #5b6472; font: 12px/22px ui-monospace, monospace; text-align: right; padding-right: 8px; z-index: 1; }
.wait { border-top: 1px dashed #9aa3b2; color: #5b6472; font-size: 12px; padding: 2px 0 2px 90px; }
.band { background: #fdecea; }
.op { border-left: 4px solid; border-radius: 3px; padding: 1px 6px; margin: 1px 0; font-size: 12px; overflow: hidden;
  overflow-wrap: anywhere; min-width: 0; z-index: 1; }
.ok { background: #e6f4ea; border-color: #2e8b57; }
.fail { background: #fff3e0; border-color: #e07b00; }
.info { background: #e8eaf6; border-color: #4a5bb8; }
.open { background: #eceff1; border-color: #78838f; border-left-style: dashed; }
.fault { background: #c62828; border-color: #7f1010; color: #fff; font-weight: 600; }
"""


@dataclass(frozen=True, slots=True)
class _Box:
    """Where an operation stands: rows from ``first`` to before ``last``, in one lane of its process."""

    operation: Operation
    first: int
    last: int
    lane: int


def timeline_page(
    operations: Sequence[Operation], *, title: str, failure: str, plan: Sequence[Fault], virtual_seconds: float
) -> str:
    """The page as text. It loads nothing from anywhere."""
    shown = _capped(operations)
    names = Names(shown)
    columns = processes_of(shown)
    times, boxes = _place(shown)
    lanes = {name: 1 + max((box.lane for box in boxes if box.operation.process == name), default=0) for name in columns}
    starts: dict[str, int] = {}
    column = 2
    for name in columns:
        starts[name] = column
        column += lanes[name]
    rows, waits = _rows(times)
    body = [_head(name, starts[name], lanes[name]) for name in columns]
    body += waits
    body += [_time(time, rows[index]) for index, time in enumerate(times) if index == 0 or times[index - 1] != time]
    body += [
        f'<div class="band" style="grid-row:{rows[box.first]};grid-column:1/{column}"></div>'
        for box in boxes
        if is_marked(box.operation)
    ]
    body += [_box(box, rows, starts, names) for box in boxes]
    left_out = len(operations) - len(shown)
    cap = (
        f"{len(shown)} of {len(operations)} operations; the page shows at most {CAP}."
        if left_out
        else (f"All {len(operations)} operations.")
    )
    faults = "".join(
        f"<li><code>{escape(repr(fault))}</code> {escape(meaning)}</li>"
        for fault, meaning in zip(plan, meanings(plan), strict=True)
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style></head><body>
<h1>{escape(title)}</h1>
<div class="failure">{escape(failure)}</div>
<ul class="plan">{faults or "<li>No fault is needed.</li>"}</ul>
<p class="note">{cap} {virtual_seconds:.3f} virtual seconds, downwards in the order of events.</p>
<div class="key"><span class="ok">took effect</span><span class="fail">surely no effect</span>
<span class="info">effect unknown</span><span class="open">never ended</span><span class="fault">fault</span></div>
<div class="grid" style="grid-template-columns:82px repeat({column - 2}, minmax(112px, 1fr))">
{"".join(body)}
</div></body></html>
"""


def _capped(operations: Sequence[Operation]) -> Sequence[Operation]:
    if len(operations) <= CAP:
        return operations
    kept = set(range(CAP // 2)) | set(range(len(operations) - CAP // 2, len(operations)))
    return [operation for index, operation in enumerate(operations) if index in kept]


def _place(operations: Sequence[Operation]) -> tuple[list[float], list[_Box]]:
    """A row for each beginning and each end that lies later; a lane for each operation that overlaps another."""
    events: list[tuple[float, int, int, int]] = []
    for index, op in enumerate(operations):
        events.append((op.invoked, 0, op.index, index))
        if op.completed is not None and op.completed > op.invoked:
            events.append((op.completed, 1, op.index, index))
    events.sort()
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for row, (_, ends, _, index) in enumerate(events):
        (last if ends else first)[index] = row
    ends = [(first[index], op.process) for index, op in enumerate(operations) if op.kind in _ENDS]
    boxes: list[_Box] = []
    free: dict[str, list[int]] = {}  # by process, the row at which each lane is free again
    for index, op in sorted(enumerate(operations), key=lambda item: first[item[0]]):
        begin = first[index]
        end = begin if op.completed is not None or is_marked(op) else _cut(op, begin, ends, len(events) - 1)
        end = last.get(index, end) + 1
        lanes = free.setdefault(op.process, [])
        lane = next((number for number, until in enumerate(lanes) if until <= begin), len(lanes))
        if lane == len(lanes):
            lanes.append(end)
        else:
            lanes[lane] = end
        boxes.append(_Box(op, begin, min(end, len(events)), lane))
    return [event[0] for event in events], boxes


def _cut(operation: Operation, begin: int, ends: Sequence[tuple[int, str]], otherwise: int) -> int:
    """The row at which an operation that never ended was cut off: its process's next death, or the end of the run."""
    return next((row for row, process in ends if row > begin and process == operation.process), otherwise)


def _rows(times: Sequence[float]) -> tuple[list[int], list[str]]:
    """The grid row of each event, and the lines for long waits between them."""
    rows: list[int] = []
    waits: list[str] = []
    row = 2
    for index, time in enumerate(times):
        waited = time - times[index - 1] if index else 0.0
        if waited >= _LONG_WAIT:
            waits.append(f'<div class="wait" style="grid-row:{row};grid-column:1/-1">{waited:.3g} s later</div>')
            row += 1
        rows.append(row)
        row += 1
    return rows, waits


def _head(name: str, start: int, lanes: int) -> str:
    return f'<div class="head" style="grid-row:1;grid-column:{start}/span {lanes}">{escape(name) or "&nbsp;"}</div>'


def _time(time: float, row: int) -> str:
    return f'<div class="time" style="grid-row:{row};grid-column:1">{time:.3f}</div>'


def _box(box: _Box, rows: Sequence[int], starts: dict[str, int], names: Names) -> str:
    op = box.operation
    kind = "fault" if is_marked(op) else "open" if op.completed is None else op.outcome
    kind = kind if kind in {"fault", "open", "ok", "fail", "info"} else "ok"
    end = rows[box.last - 1] + 1
    span = f"{op.invoked:.6f} to {op.completed:.6f}" if op.completed is not None else f"{op.invoked:.6f}, never ended"
    title = f"{op.process}: {op.kind} {op.target} {op.key}\n{span}\n{op.outcome} {op.detail}".strip()
    return (
        f'<div class="op {kind}" title="{escape(title)}" style="grid-row:{rows[box.first]}/{end};'
        f'grid-column:{starts[op.process] + box.lane}">{escape(describe(op, names))}</div>'
    )
