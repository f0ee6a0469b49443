"""Server distributions from Maven Central, through ``mvn`` and its own cache.

Each is unpacked once below ``FACTFLOW_LIVE_CACHE`` (``~/.cache/factflow-live`` unless set), never inside the repository.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path


def cache() -> Path:
    """Where unpacked distributions are kept."""
    return Path(os.environ.get("FACTFLOW_LIVE_CACHE") or Path.home() / ".cache" / "factflow-live")


def java_missing(name: str) -> str | None:
    """Why ``name`` cannot run on this machine for want of Java, or ``None``."""
    if shutil.which("java") is None:
        return f"no {name}: java is not on the PATH (Debian: apt-get install openjdk-17-jre-headless)"
    return None


@dataclass(frozen=True)
class Distribution:
    """``artifact``: its Maven coordinates without the version; ``folder``: what it unpacks to; ``program``: a file in it."""

    name: str
    artifact: str
    version: str
    folder: str
    program: str
    fetch_seconds: float = 600.0

    @property
    def home(self) -> Path:
        return cache() / self.folder

    def missing(self) -> str | None:
        """Why none can be started on this machine, or ``None``. Fetches the distribution where it is not there yet."""
        if (missing := java_missing(self.name)) is not None:
            return missing
        if (self.home / self.program).exists():
            return None
        if shutil.which("mvn") is None:
            return (
                f"no {self.name}: {self.home} does not exist, and there is no mvn to fetch it "
                "(Debian: apt-get install maven)"
            )
        try:
            self._fetch()
        except (OSError, subprocess.SubprocessError, tarfile.TarError) as error:
            return f"no {self.name}: version {self.version} could not be fetched from Maven Central: {error}"
        return None

    def _fetch(self) -> None:
        cache().mkdir(parents=True, exist_ok=True)
        artifact = f"{self.artifact}:{self.version}:tar.gz:bin"
        with tempfile.TemporaryDirectory(dir=cache()) as folder:
            for goal in (
                ("dependency:get", f"-Dartifact={artifact}", "-Dtransitive=false"),
                ("dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={folder}"),
            ):
                subprocess.run(
                    ["mvn", "-q", "-B", *goal], check=True, capture_output=True, timeout=self.fetch_seconds, cwd=folder
                )
            with tarfile.open(next(Path(folder).glob("*.tar.gz"))) as archive:
                archive.extractall(folder, filter="data")
            # Whoever else fetches it at the same time may have been quicker.
            with contextlib.suppress(OSError):
                (Path(folder) / self.folder).rename(self.home)
