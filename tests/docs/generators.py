"""What the documentation takes from the code: tables of faults and settings, and the report of a failing example."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factflow_infra.queue.factory import QueueProviderFactory
from factflow_infra.queue.settings import DEFAULT_PORTS, Endpoint, QueueSettings
from factflow_infra.storage.factory import StorageProviderFactory
from factflow_infra.storage.settings import StorageSettings
from factflow_infra_testing.search.faults import known_kinds
from factflow_infra_testing.simulation.draining import CONVERGENCE_SECONDS, FAULTY_SECONDS, QUIET_SECONDS
from factflow_infra_testing.simulation.processes import (
    JUMP_SECONDS,
    MAX_CRASHES,
    PAUSE_SECONDS,
    RESTART_SECONDS,
    TERMINATION_SECONDS,
)
from factflow_infra_testing.simulation.runner import VIRTUAL_BUDGET

from . import settings_notes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def faults() -> str:
    """Every kind of fault, mildest first, as the registry has it."""
    lines = [_row("kind", "choices", "what happens", "usual rate"), "|---|---|---|---|"]
    for kind in known_kinds().values():
        choices = "; ".join(f"{n}: {name}" for n, name in enumerate(kind.choices, 1)) or "1"
        lines.append(_row(f"`{kind.kind}`", choices, kind.meaning, f"{kind.rate:g}"))
    return "\n".join(lines)


def process_times() -> str:
    """The fixed times of processes."""
    first, longest = RESTART_SECONDS
    jumps = ", ".join(f"{seconds:+g}" for seconds in JUMP_SECONDS)
    return _times(
        (
            "a supervisor's pause before the first restart, doubled at each further one",
            f"{first:g} s, at most {longest:g} s",
        ),
        ("what a process that is told to terminate has, until it is killed", f"{TERMINATION_SECONDS:g} s"),
        ("a pause", f"{PAUSE_SECONDS:g} s"),
        ("a jump of the wall clock", f"{jumps} s"),
        ("after so many crashes of one process in a run the test fails", f"{MAX_CRASHES} crashes"),
    )


def drain_times() -> str:
    """The fixed times of a drain."""
    return _times(
        ("under faults, `drain(under_faults=)`", f"at most {FAULTY_SECONDS:g} s"),
        ("quiet that counts as rest, `drain(quiet=)`", f"{QUIET_SECONDS:g} s"),
        ("time to converge after the last fault, `drain(within=)`", f"{CONVERGENCE_SECONDS:g} s"),
        ("a whole run, `@simulate(virtual_budget=)`", f"{VIRTUAL_BUDGET:g} s"),
    )


def _times(*rows: tuple[object, ...]) -> str:
    return "\n".join(["| | virtual time |", "|---|---|", *(_row(*row) for row in rows)])


def _type_of(schema: Mapping[str, Any]) -> str:
    branches = [branch for branch in schema.get("anyOf", [schema]) if branch.get("type") != "null"]
    (branch,) = branches
    if "enum" in branch:
        return " or ".join(f"`{value}`" for value in branch["enum"])
    if branch.get("format") == "password":
        return "secret text"
    word = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true` or `false`"}[
        branch["type"]
    ]
    bounds = [
        f"{text} {_number(branch[key])}"
        for key, text in (
            ("minimum", "from"),
            ("exclusiveMinimum", "above"),
            ("maximum", "to"),
            ("exclusiveMaximum", "below"),
        )
        if key in branch
    ]
    return ", ".join([word, " ".join(bounds)]) if bounds else word


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) or value != int(value) else f"{int(value):,}"


def _settings(model: Any, prefix: str, notes: Mapping[str, tuple[str, str]]) -> str:
    fields: dict[str, Any] = model.model_fields
    if missing := fields.keys() ^ notes.keys():
        raise ValueError(f"settings_notes does not say what these are, or has too many: {sorted(missing)}")
    properties = model.model_json_schema()["properties"]
    lines = [_row("setting", "environment", "type", "default", "what it is"), "|---|---|---|---|---|"]
    for name, field in fields.items():
        unit, note = notes[name]
        default = "required" if field.is_required() else "not set" if field.default in (None, "") else field.default
        shown = default if isinstance(default, str) and default in ("required", "not set") else f"`{_plain(default)}`"
        kind = _type_of(properties[name]) + (f"; {unit}" if unit else "")
        lines.append(_row(f"`{name}`", f"`{prefix}{name.upper()}`", kind, shown, note))
    return "\n".join(lines)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value == int(value):
        return str(int(value))
    return str(value)


def queue_settings() -> str:
    return _settings(QueueSettings, "FACTFLOW_QUEUE_", settings_notes.QUEUE)


def storage_settings() -> str:
    return _settings(StorageSettings, "FACTFLOW_STORAGE_", settings_notes.STORAGE)


def queue_schemes() -> str:
    factory = QueueProviderFactory()
    lines = [_row("scheme", "port where none is given", "TLS", "served by"), "|---|---|---|---|"]
    for scheme in factory.schemes:
        tls = "yes" if Endpoint(scheme, "host", 1, "").tls else "no"
        served = f"`{type(factory.create(f'{scheme}://host')).__name__}`"
        lines.append(_row(f"`{scheme}://`", DEFAULT_PORTS[scheme], tls, served))
    return "\n".join(lines)


def storage_schemes() -> str:
    lines = [_row("URI", "provider", "query parameters"), "|---|---|---|"]
    for scheme in StorageProviderFactory().schemes:
        form, provider, parameters = settings_notes.STORAGE_SCHEMES[scheme]
        lines.append(_row(f"`{form}`", provider, ", ".join(f"`{name}`" for name in parameters)))
    return "\n".join(lines)


@cache
def report() -> str:
    """What the failing example of the guide prints, run as a user runs it, with the paths of nobody's machine."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in (
            HERE / "examples" / "invoices.py",
            HERE / "examples" / "hasty_invoices.py",
            HERE / "failing" / "test_hasty_invoices.py",
        ):
            shutil.copy(file, folder)
        command = [
            "-m",
            "pytest",
            "-p",
            "factflow_infra_testing",
            "-p",
            "no:randomly",
            "test_hasty_invoices.py",
            "--factflow-seed",
            "7",
        ]
        # What a test runner around this one, or a CI, has set would change what is printed.
        environment = {
            k: v for k, v in os.environ.items() if k not in ("CI", "BUILD_NUMBER", "COLUMNS") and "PYTEST" not in k
        }
        done = subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            env={**environment, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        found = re.search(
            r"^-+ Captured factflow report call -+\n(.*?)\n=+ short test summary", done.stdout, re.DOTALL | re.MULTILINE
        )
        if done.returncode != 1 or found is None:
            raise ValueError(f"the failing example did not fail as it should:\n{done.stdout}\n{done.stderr}")
        text = found[1].replace(f"{folder.resolve()}/", "").replace(f"{folder}/", "")
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return f"```text\n{lines}\n```"


_GENERATORS: Mapping[str, Callable[[], str]] = {
    "faults": faults,
    "drain-times": drain_times,
    "process-times": process_times,
    "queue-schemes": queue_schemes,
    "queue-settings": queue_settings,
    "report": report,
    "storage-schemes": storage_schemes,
    "storage-settings": storage_settings,
}


def make(name: str) -> str:
    """The text that ``name`` stands for."""
    if name not in _GENERATORS:
        raise ValueError(f"nothing makes {name!r}; known: {', '.join(_GENERATORS)}")
    return _GENERATORS[name]()
