"""A failure as text: what was violated, the plan to paste, the timeline, how to replay. ASCII, at most 120 columns."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from factflow_infra_testing.report.timeline import Row, processes_of, rows
from factflow_infra_testing.search.faults import known_kinds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from factflow_infra_testing.history.operations import Operation
    from factflow_infra_testing.search.decisions import Fault
    from factflow_infra_testing.search.search import Finding

WIDTH: Final = 120
_ROWS: Final = 40
_TIME: Final = 10
_NARROWEST: Final = 24


def decorator(plan: Sequence[Fault], seed: int, inputs: Mapping[str, str]) -> str:
    """The plan as source to paste above the test; inputs too, where their text is Python."""
    arguments = f"plan={_list(plan)}" + (f", seed={seed}" if seed else "")
    lines = [f"@simulate({arguments})"]
    if len(lines[0]) > WIDTH - 4 and plan:
        inner = "".join(f"        {fault!r},\n" for fault in plan)
        lines = [f"@simulate(\n    plan=[\n{inner}    ],{f' seed={seed},' if seed else ''}\n)"]
    if inputs:
        text = ", ".join(f"{name}={value}" for name, value in inputs.items())
        lines.append(f"@example({text})" if _is_python(f"f({text})") else f"# inputs: {text}")
    return "\n".join(lines)


def meanings(plan: Sequence[Fault]) -> list[str]:
    """A line for each fault of the plan: where it strikes, and what it means."""
    registry = known_kinds()
    lines: list[str] = []
    for fault in plan:
        kind = registry.get(fault.kind)
        named = kind.describe(fault.choice) if kind is not None else fault.kind
        place = f"on {fault.target}, number {fault.nth}" if fault.target else f"number {fault.nth}"
        lines.append(f"{named} {place}" + (f": {kind.meaning}" if kind is not None else ""))
    return lines


def timeline(operations: Sequence[Operation], *, limit: int = _ROWS) -> str:
    """The history in columns, ``!!`` before a fault; what is left out is said where it was."""
    if not operations:
        return "(nothing was recorded)"
    columns = processes_of(operations)
    shown = rows(operations, limit=limit)
    longest = {name: max([len(name), *(len(row.cell) for row in shown if row.process == name)]) for name in columns}
    share = max(_NARROWEST, (WIDTH - 4 - _TIME - 3) // len(columns) - 2)
    widths = {name: min(longest[name], share) for name in columns}
    lines = ["   " + "seconds".rjust(_TIME) + "  " + "  ".join(name.ljust(widths[name]) for name in columns)]
    lines += [_line(row, columns, widths) for row in shown]
    return "\n".join(line.rstrip() for line in lines)


def failure_text(
    finding: Finding,
    *,
    inputs: Mapping[str, str],
    origin: str,
    replay: str,
    artifacts: str,
    given_plan: bool,
) -> str:
    """The whole report. ``origin`` tells how the failure was found; ``replay`` and ``artifacts`` may be empty."""
    failure = finding.failure
    message = str(failure).strip().splitlines() or ["(no message)"]
    parts = [f"Violated: {finding.signature}", *(f"    {line}" for line in message[:12])]
    if origin:
        parts += ["", origin]
    count = len(finding.plan)
    size = "no fault is needed" if count == 0 else f"{count} fault{'s' if count != 1 else ''}"
    minimal = "Plan" if given_plan else ("Smallest plan found so far" if finding.exhausted else "Minimal plan")
    parts += ["", f"{minimal} ({size}):", ""]
    parts += [f"    {line}" for line in decorator(finding.plan, finding.seed, inputs).splitlines()]
    if finding.plan:
        parts += ["", *(f"    {line}" for line in meanings(finding.plan))]
    history = finding.record.history
    operations = history.operations if history is not None else ()
    parts += ["", f"Timeline ({finding.record.virtual_seconds:.3f} virtual seconds; !! marks a fault):", ""]
    parts += [f" {line}" if line else line for line in timeline(operations).splitlines()]
    if replay:
        parts += ["", f"Replay:    {replay}"]
    if artifacts:
        parts += [*([] if replay else [""]), f"Artifacts: {artifacts}"]
    return "\n".join(parts)


def _list(plan: Sequence[Fault]) -> str:
    return f"[{', '.join(map(repr, plan))}]"


def _line(row: Row, columns: Sequence[str], widths: Mapping[str, int]) -> str:
    if row.skipped:
        return " " * (_TIME + 5) + f"... {row.skipped} more ..."
    before = "".join(" " * (widths[name] + 2) for name in columns[: columns.index(row.process)])
    cell = row.cell if len(row.cell) <= widths[row.process] else row.cell[: widths[row.process] - 2] + ".."
    return ("!! " if row.marked else "   ") + f"{row.time:.3f}".rjust(_TIME) + "  " + before + cell


def _is_python(text: str) -> bool:
    try:
        ast.parse(text, mode="eval")
    except (SyntaxError, ValueError):
        return False
    return True
