"""A found plan as a file: written beside the other artifacts of a failure, read back by ``--factflow-replay``."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from factflow_infra_testing.errors import KitUsageError
from factflow_infra_testing.search.decisions import Fault, text_seed
from factflow_infra_testing.search.run import TIERS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PLAN_FORMAT: Final = 1
PLAN_FILE: Final = "plan.json"
HISTORY_FILE: Final = "history.jsonl"
TIMELINE_FILE: Final = "timeline.html"
_LONGEST_NAME: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedPlan:
    """A plan, the test that it belongs to and the inputs that it was found with.

    ``inputs`` are for the reader; ``blob`` is Hypothesis' own encoding of them for ``hypothesis_version``.
    """

    test: str
    plan: tuple[Fault, ...]
    seed: int = 0
    inputs: Mapping[str, str] = field(default_factory=dict[str, str])
    failure: str = ""
    blob: str = ""
    hypothesis_version: str = ""
    tier: str | None = None
    found_with: str = ""
    places: tuple[str, ...] = ()
    """For each fault of the plan the code that it struck, or empty."""

    def to_json(self) -> str:
        """The text of ``plan.json``."""
        faults = [{"kind": f.kind, "target": f.target, "nth": f.nth, "choice": f.choice} for f in self.plan]
        document: dict[str, Any] = {
            "format": PLAN_FORMAT,
            "test": self.test,
            "plan": faults,
            "seed": self.seed,
            "inputs": dict(self.inputs),
            "failure": self.failure,
        }
        if self.found_with:
            document["found_with"] = self.found_with
        if any(self.places):
            document["places"] = list(self.places)
        if self.tier is not None:
            document["tier"] = self.tier
        if self.blob:
            document["hypothesis"] = {"version": self.hypothesis_version, "blob": self.blob}
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def read_plan(path: Path) -> SavedPlan:
    """The plan in the file at ``path``; ``KitUsageError`` says what is wrong with the file."""
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise KitUsageError(f"Cannot read the plan {str(path)!r}: {error.strerror or error}.") from error
    except ValueError as error:
        raise KitUsageError(f"{str(path)!r} is not a saved plan: not JSON ({error}).") from error
    if not isinstance(document, dict):
        raise KitUsageError(f"{str(path)!r} is not a saved plan: not a JSON object.")
    fields = cast("dict[str, Any]", document)
    if fields.get("format") != PLAN_FORMAT:
        raise KitUsageError(
            f"{str(path)!r} has plan format {fields.get('format')!r}; this version reads format {PLAN_FORMAT}."
        )
    try:
        hypothesis: dict[str, str] = fields.get("hypothesis") or {}
        return SavedPlan(
            test=str(fields["test"]),
            plan=tuple(Fault(**fault) for fault in fields["plan"]),
            seed=int(fields.get("seed", 0)),
            inputs=dict(fields.get("inputs", {})),
            failure=str(fields.get("failure", "")),
            blob=hypothesis.get("blob", ""),
            hypothesis_version=hypothesis.get("version", ""),
            tier=fields["tier"] if fields.get("tier") in TIERS else None,
            found_with=str(fields.get("found_with", "")),
            places=tuple(map(str, fields.get("places", ()))),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise KitUsageError(f"{str(path)!r} is not a saved plan: {type(error).__name__}: {error}.") from error


def artifacts_folder(root: Path, test: str) -> Path:
    """Where the artifacts of ``test`` belong: a name that is safe everywhere and differs for tests that differ."""
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "_", test.rsplit("/", 1)[-1]).strip("._") or "test"
    return root / f"{safe[:_LONGEST_NAME]}-{text_seed(test):08x}"


def forget_artifacts(root: Path, test: str) -> None:
    """Remove what an earlier failure of ``test`` left."""
    folder = artifacts_folder(root, test)
    if not folder.is_dir():
        return
    for name in (PLAN_FILE, HISTORY_FILE, TIMELINE_FILE):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # something else is in it
        folder.rmdir()
