"""Which releases of the libraries below it the project works with: ``python -m tests.compatibility``, from the root.

In an environment of its own it puts in the last releases of each library, one after the other, runs the share of the suite
that stands on that library, and writes what it saw into ``docs/compatibility.md``, with the date. Nothing in the table is
typed by hand. It takes some minutes, and package indexes; ``--only moto`` does one library and leaves the rest of the table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "compatibility.md"
RELEASES = 3
SHARES = {
    "stompman": ("tests/simulation/test_pins.py", "tests/wire/stomp", "tests/queue_artemis"),
    "aio-pika": ("tests/simulation/test_pins.py", "tests/wire/amqp", "tests/queue_rabbitmq"),
    "moto": (
        "tests/contracts/test_storage_contract_minio.py",
        "tests/storage/test_minio_conditions.py",
        "tests/storage/test_minio_faults.py",
        "tests/storage/test_minio_listing.py",
        "tests/storage/test_minio_objects.py",
        "tests/storage/test_minio_simulated.py",
        "tests/storage/test_minio_streams.py",
    ),
}
"""What of the suite stands on each library."""
_COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped)")
_HEAD = """\
# Compatibility

Made by `python -m tests.compatibility`, which installs each release beside the newest of everything else and runs the share of the
suite that stands on it. *Pins checked* tells whether `factflow_infra_testing/simulation/pins.py` names that release as one that its
replacements of library internals were tried with; the tests of the pins run in either case.

| library | release | beside it | tests | result | pins checked | seen |
|---|---|---|---|---|---|---|
"""
_NOT_VERSIONS = "not test_a_pin_was_checked_with_what_is_installed"
"""That test is the column *pins checked*."""
_BESIDE = {"aio-pika": "aiormq", "moto": "boto3"}
"""The library whose version says most about what else was there, if there is one."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment with the project in it."""

    python: Path

    def pip(self, *arguments: str) -> str:
        return self.run("-m", "pip", "--disable-pip-version-check", *arguments)

    def run(self, *arguments: str) -> str:
        done = subprocess.run([str(self.python), *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def version(self, library: str) -> str:
        return self.run("-c", f"import importlib.metadata as m; print(m.version({library!r}))").strip()

    def releases(self, library: str) -> list[str]:
        """The newest releases, newest first."""
        listed = re.search(r"^Available versions: (.*)$", self.pip("index", "versions", library), re.MULTILINE)
        if listed is None:
            raise SystemExit(f"the package index lists no versions of {library}")
        return listed[1].split(", ")[:RELEASES]

    def tests(self, share: tuple[str, ...]) -> tuple[int, str]:
        """How many tests of ``share`` passed, and what became of the rest."""
        command = [
            str(self.python),
            "-m",
            "pytest",
            "-q",
            "-n",
            "2",
            "--no-header",
            "--tb=no",
            "-k",
            _NOT_VERSIONS,
            *share,
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        counts = {word.rstrip("s"): int(number) for number, word in _COUNT.findall(done.stdout.splitlines()[-1])}
        passed = counts.pop("passed", 0)
        counts.pop("skipped", None)
        if done.returncode == 0:
            return passed, "green"
        failed = [line.split(" - ")[0] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        sys.stdout.write("\n".join(failed) + "\n")
        return passed, ", ".join(f"{number} {word}" for word, number in counts.items()) or "did not run"


def pins_checked(environment: Environment, library: str) -> str:
    """Whether every pin of ``library``, and of the one beside it, was checked with what is installed."""
    script = (
        "import json\n"
        "from factflow_infra_testing.simulation import pins\n"
        "print(json.dumps([[p.library, pins.installed(p) in p.checked] for p in pins.PINS]))"
    )
    known = {library, _BESIDE.get(library)}
    answers = [
        checked for name, checked in json.loads(environment.run("-c", script)) if name.replace("_", "-") in known
    ]
    if not answers:
        return "has none"
    return "yes" if all(answers) else "no"


def row(environment: Environment, library: str, release: str) -> str:
    environment.pip("install", "-q", f"{library}=={release}")
    passed, result = environment.tests(SHARES[library])
    other = _BESIDE.get(library)
    beside = "" if other is None else f"{other} {environment.version(other)}"
    today = datetime.now(UTC).date().isoformat()
    cells = (
        library,
        release,
        beside,
        passed,
        result,
        pins_checked(environment, library),
        f"{today}, Python {platform.python_version()}",
    )
    line = "| " + " | ".join(str(cell) for cell in cells) + " |"
    sys.stdout.write(line + "\n")
    return line


def kept(libraries: tuple[str, ...]) -> list[str]:
    """The rows of the page as it stands, of all libraries but these."""
    if not PAGE.exists():
        return []
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")][1:]
    return [line for line in rows if line.split("|")[1].strip() not in libraries]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(SHARES), help="one library")
    only = parser.parse_args().only
    libraries = tuple(SHARES) if only is None else (only,)
    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        environment = Environment(Path(folder) / "bin" / "python")
        environment.pip("install", "-q", "-e", ".[dev]")
        rows = kept(libraries)
        for library in libraries:
            releases = environment.releases(library)
            rows += [row(environment, library, release) for release in releases]
            environment.pip("install", "-q", f"{library}=={releases[0]}")
    PAGE.write_text(_HEAD + "\n".join(sorted(rows, key=lambda line: line.split("|")[1])) + "\n", "utf-8")


if __name__ == "__main__":
    main()
