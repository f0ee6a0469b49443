"""What a failed search leaves: the text, and the artifacts under ``.factflow/<test>/``."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from factflow_infra_testing.report.html import timeline_page
from factflow_infra_testing.report.text import failure_text
from factflow_infra_testing.search.replay import (
    HISTORY_FILE,
    PLAN_FILE,
    TIMELINE_FILE,
    SavedPlan,
    artifacts_folder,
)
from factflow_infra_testing.search.surroundings import surroundings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from factflow_infra_testing.search.host import Host
    from factflow_infra_testing.search.search import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureReport:
    """All that is told about one failure. ``reproduced`` ("3 of 3") is set when a saved plan was replayed."""

    test: str
    finding: Finding
    inputs: Mapping[str, str]
    search_seed: int
    examples: int
    given_plan: bool
    reproduced: str
    blob: str
    hypothesis_version: str
    from_saved: bool = False
    """Whether it was found by running the plan of the test's last failure first."""
    unmatched: str = ""
    """What there is to say of entries of a given plan that took no effect."""

    @property
    def headline(self) -> str:
        """One line, for where the whole text would be in the way."""
        if self.given_plan:
            return "The report is below."
        faults = ", ".join(map(repr, self.finding.plan)) or "no fault"
        return f"Needed for this failure: {faults}. The report is below."

    @property
    def origin(self) -> str:
        if self.reproduced:
            return "\n".join([f"Replayed: reproduced {self.reproduced} times.", self.unmatched]).strip()
        if self.given_plan:
            return self.unmatched
        if self.from_saved:
            return "The plan that the last failure of this test left in the artifacts was run first, and fails."
        finding = self.finding
        reduced = (
            f"; {finding.recorded} deviation{'s' if finding.recorded != 1 else ''} reduced to {len(finding.plan)}"
            f" in {finding.runs} runs"
        )
        return (
            f"Found in run {self.examples} of the search with --factflow-seed={self.search_seed}"
            + (reduced if finding.recorded else "")
            + "."
        )


def publish(report: FailureReport, host: Host) -> str:
    """Write the artifacts where ``host`` wants them, and return the text of the report."""
    replay = artifacts = ""
    if host.artifacts is not None:
        folder = artifacts_folder(host.artifacts, report.test)
        _write(report, folder)
        shown = _shown(folder)
        replay = f"pytest {shlex.quote(report.test)} -p factflow_infra_testing --factflow-replay {shlex.quote(f'{shown}/{PLAN_FILE}')}"
        artifacts = f"{shown}/ ({PLAN_FILE}, {HISTORY_FILE}, {TIMELINE_FILE})"
    return failure_text(
        report.finding,
        inputs=report.inputs,
        origin=report.origin,
        replay=replay,
        artifacts=artifacts,
        given_plan=report.given_plan,
    )


def _write(report: FailureReport, folder: Path) -> None:
    finding = report.finding
    places = finding.record.places
    failure = f"{type(finding.failure).__name__}: {finding.failure}"
    saved = SavedPlan(
        tier=report.finding.record.tier,
        found_with=surroundings(finding.record.libraries),
        places=tuple(places[fault].code if fault in places else "" for fault in finding.plan),
        test=report.test,
        plan=finding.plan,
        seed=finding.seed,
        inputs=report.inputs,
        failure=failure,
        blob=report.blob,
        hypothesis_version=report.hypothesis_version,
    )
    operations = finding.record.history.told() if finding.record.history is not None else ()
    folder.mkdir(parents=True, exist_ok=True)
    ignore = folder.parent / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", "utf-8")  # artifacts of one machine's run; a plan worth keeping goes into the test
    (folder / PLAN_FILE).write_text(saved.to_json(), "utf-8")
    lines = (json.dumps(asdict(operation), ensure_ascii=False) + "\n" for operation in operations)
    (folder / HISTORY_FILE).write_text("".join(lines), "utf-8")
    page = timeline_page(
        operations,
        title=report.test,
        failure=failure,
        plan=finding.plan,
        virtual_seconds=finding.record.virtual_seconds,
    )
    (folder / TIMELINE_FILE).write_text(page, "utf-8")


def _shown(folder: Path) -> str:
    from pathlib import Path

    try:
        return str(folder.relative_to(Path.cwd()))
    except ValueError:
        return str(folder)
