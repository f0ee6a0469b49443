"""A failure as text: what was violated, the plan to paste, the timeline, how to replay. ASCII, at most 120 columns."""

from __future__ import annotations

import ast
from dataclasses import replace
from textwrap import wrap
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from factflow_infra_testing.report.timeline import Row, processes_of, rows
from factflow_infra_testing.search.faults import known_kinds
from factflow_infra_testing.search.surroundings import counts_steps, surroundings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from factflow_infra_testing.history.operations import Operation
    from factflow_infra_testing.search.decisions import Fault
    from factflow_infra_testing.search.search import Finding
    from factflow_infra_testing.search.surroundings import Place

WIDTH: Final = 120
_ROWS: Final = 40
_TIME: Final = 10
_MARGIN: Final = 4 + 3 + _TIME + 2
_MOST_COLUMNS: Final = 5


def decorator(
    plan: Sequence[Fault],
    seed: int,
    inputs: Mapping[str, str],
    *,
    tier: str | None = None,
    libraries: Sequence[str] = (),
) -> str:
    """The plan as source to paste above the test; inputs too, where their text is Python."""
    others = [f"seed={seed}"] if seed else []
    others += [f"tier={tier!r}"] if tier else []
    others += [f"found_with={surroundings(libraries)!r}"] if counts_steps(plan) else []
    lines = [f"@simulate({', '.join([f'plan={_list(plan)}', *others])})"]
    if len(lines[0]) > WIDTH - 4 and plan:
        inner = "".join(f"        {fault!r},\n" for fault in plan)
        rest = "".join(f"    {other},\n" for other in others)
        lines = [f"@simulate(\n    plan=[\n{inner}    ],\n{rest})"]
    if inputs:
        text = ", ".join(f"{name}={value}" for name, value in inputs.items())
        lines.append(f"@example({text})" if _is_python(f"f({text})") else f"# inputs: {text}")
    return "\n".join(lines)


def meanings(plan: Sequence[Fault], places: Mapping[Fault, Place] = MappingProxyType({})) -> list[str]:
    """A line for each fault of the plan: where it strikes, and what it means."""
    registry = known_kinds()
    lines: list[str] = []
    for fault in plan:
        kind = registry.get(fault.kind)
        named = kind.describe(fault.choice) if kind is not None else fault.kind
        place = f"on {fault.target}, number {fault.nth}" if fault.target else f"number {fault.nth}"
        place += f", in {places[fault]}" if fault in places else ""
        lines.append(f"{named} {place}" + (f": {kind.meaning}" if kind is not None else ""))
    return lines


def timeline(operations: Sequence[Operation], *, limit: int = _ROWS) -> str:
    """The history in columns, ``!!`` before a fault; what is left out is said where it was."""
    if not operations:
        return "(nothing was recorded)"
    names = processes_of(operations)
    shown = rows(operations, limit=limit)
    if len(names) > _MOST_COLUMNS:
        # Too many for columns of a readable width: the name goes before each cell.
        width = max(map(len, names))
        shown = [replace(row, process="", cell=f"{row.process.ljust(width)}  {row.cell}") for row in shown]
        names = [""]
    natural = {name: max([len(name), *(len(row.cell) for row in shown if row.process == name)]) for name in names}
    widths = _share(natural, WIDTH - _MARGIN - 2 * len(names))
    lines = [" " * 3 + "seconds".rjust(_TIME) + "  " + "  ".join(name.ljust(widths[name]) for name in names)]
    lines += [line for row in shown for line in _lines(row, names, widths)]
    return "\n".join(line.rstrip() for line in lines)


def failure_text(
    finding: Finding,
    *,
    inputs: Mapping[str, str],
    origin: str,
    replay: str,
    artifacts: str,
    given_plan: bool = False,
) -> str:
    """The whole report. ``origin`` tells how the failure was found; ``replay`` and ``artifacts`` may be empty."""
    failure = finding.failure
    message = str(failure).strip().splitlines() or ["(no message)"]
    parts = [f"Violated: {finding.signature}", *(f"    {line}" for line in message[:4])]
    history = finding.record.history
    if history is not None and history.noticed:
        parts += ["", "Noticed in this run:", ""]
        for text, times in history.noticed.items():
            line = text + (f", {times} times" if times > 1 else "")
            parts += wrap(line, WIDTH, initial_indent="    ", subsequent_indent="      ", break_on_hyphens=False)
    if origin:
        parts += [""]
        for line in origin.splitlines():
            indent = line[: len(line) - len(line.lstrip())] + "  "
            parts += wrap(line, WIDTH, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)
    count = len(finding.plan)
    size = "no fault is needed" if count == 0 else f"{count} fault{'s' if count != 1 else ''}"
    minimal = "Plan" if given_plan else ("Smallest plan found so far" if finding.exhausted else "Minimal plan")
    if finding.plan or not given_plan:
        parts += ["", f"{minimal} ({size}):", ""]
        parts += [
            f"    {line}"
            for line in decorator(
                finding.plan, finding.seed, inputs, tier=finding.record.tier, libraries=finding.record.libraries
            ).splitlines()
        ]
    if finding.plan:
        told = (
            wrap(line, WIDTH, initial_indent="    ", subsequent_indent="      ")
            for line in meanings(finding.plan, finding.record.places)
        )
        parts += ["", *(line for lines in told for line in lines)]
    operations = history.told() if history is not None else ()
    parts += ["", f"Timeline ({finding.record.virtual_seconds:.3f} virtual seconds; !! marks a fault):", ""]
    parts += [f" {line}" if line else line for line in timeline(operations).splitlines()]
    if replay:
        parts += ["", f"Replay:    {replay}"]
    if artifacts:
        parts += [*([] if replay else [""]), f"Artifacts: {artifacts}"]
    return "\n".join(parts)


def _list(plan: Sequence[Fault]) -> str:
    return f"[{', '.join(map(repr, plan))}]"


def _share(natural: Mapping[str, int], available: int) -> dict[str, int]:
    """Widths: what is narrow gets what it needs, the rest share what is left."""
    widths: dict[str, int] = {}
    for done, name in enumerate(sorted(natural, key=lambda each: natural[each])):
        fair = available // (len(natural) - done)
        widths[name] = min(natural[name], fair)
        available -= widths[name]
    return widths


def _lines(row: Row, names: Sequence[str], widths: Mapping[str, int]) -> list[str]:
    if row.skipped:
        return [" " * (_TIME + 5) + f"... {row.skipped} more ..."]
    before = sum(widths[name] + 2 for name in names[: names.index(row.process)])
    cells = wrap(row.cell, widths[row.process], subsequent_indent="  ", break_on_hyphens=False)
    first = ("!! " if row.marked else "   ") + f"{row.time:.3f}".rjust(_TIME) + "  " + " " * before
    return [first + cells[0], *(" " * len(first) + cell for cell in cells[1:])]


def _is_python(text: str) -> bool:
    try:
        ast.parse(text, mode="eval")
    except (SyntaxError, ValueError):
        return False
    return True
