"""A throw-away Pulsar standalone on 127.0.0.1: started, stopped, killed, frozen and restarted at will.

The distribution comes from Maven Central, through ``mvn`` and its own cache, and is unpacked once below
``FACTFLOW_LIVE_CACHE`` (``~/.cache/factflow-live`` unless set), never inside the repository. Everything else that is written
is below one folder. Only processes that it started are ended, by their id.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

VERSION = "4.0.4"
"""The release that the facts were seen on; it needs Java 17."""
START_SECONDS = 120.0
MEMORY = "-Xms64m -Xmx384m -XX:MaxDirectMemorySize=384m"
COLLECTOR = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:+PerfDisableSharedMem"
CONFIGURATION = {
    "bindAddress": "127.0.0.1",
    "advertisedAddress": "127.0.0.1",
    "numIOThreads": "2",
    "numOrderedExecutorThreads": "2",
    "numHttpServerThreads": "4",
    "numExecutorThreadPoolSize": "2",
    "numCacheExecutorThreadPoolSize": "2",
    "managedLedgerNumSchedulerThreads": "2",
    "managedLedgerCacheSizeMB": "32",
    "dbStorage_writeCacheMaxSizeMb": "32",
    "dbStorage_readAheadCacheMaxSizeMb": "16",
    "dbStorage_rocksDB_blockCacheSize": "16777216",
    "metadataStoreSessionTimeoutMillis": "600000",
}
"""Over ``standalone.conf``: small, and of one machine. What changes how messages are treated stays as it comes."""


class ServerError(RuntimeError):
    """The server did not do what was asked of it; the message ends with the tail of its log."""


def cache() -> Path:
    """Where unpacked distributions are kept."""
    return Path(os.environ.get("FACTFLOW_LIVE_CACHE") or Path.home() / ".cache" / "factflow-live")


def home() -> Path:
    return cache() / f"apache-pulsar-{VERSION}"


def missing() -> str | None:
    """Why no Pulsar can be started on this machine, or ``None``. Fetches the distribution where it is not there yet."""
    if shutil.which("java") is None:
        return "no Pulsar: java is not on the PATH (Debian: apt-get install openjdk-17-jre-headless)"
    if (home() / "bin" / "pulsar").exists():
        return None
    if shutil.which("mvn") is None:
        return f"no Pulsar: {home()} does not exist, and there is no mvn to fetch it (Debian: apt-get install maven)"
    try:
        _fetch()
    except (OSError, subprocess.SubprocessError, tarfile.TarError) as error:
        return f"no Pulsar: version {VERSION} could not be fetched from Maven Central: {error}"
    return None


def _fetch() -> None:
    cache().mkdir(parents=True, exist_ok=True)
    artifact = f"org.apache.pulsar:pulsar-server-distribution:{VERSION}:tar.gz:bin"
    with tempfile.TemporaryDirectory(dir=cache()) as folder:
        for goal in (
            ("dependency:get", f"-Dartifact={artifact}", "-Dtransitive=false"),
            ("dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={folder}"),
        ):
            subprocess.run(["mvn", "-q", "-B", *goal], check=True, capture_output=True, timeout=600, cwd=folder)
        with tarfile.open(next(Path(folder).glob("*.tar.gz"))) as archive:
            archive.extractall(folder, filter="data")
        # Whoever else fetches it at the same time may have been quicker.
        with contextlib.suppress(OSError):
            (Path(folder) / home().name).rename(home())


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on at the moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@dataclass
class Pulsar:
    """One broker, with its bookie and its metadata in one process. ``settings``: more of ``standalone.conf``."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    ports: list[int] = field(default_factory=lambda: free_ports(4))
    token: str | None = None
    """What the admin interface is asked with."""

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()
        self.port, self.web_port, self._bookie_port, self.tls_port = self.ports
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"pulsar://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and return once it serves topics."""
        self.folder.mkdir(parents=True, exist_ok=True)
        configuration = self.folder / "standalone.conf"
        configuration.write_text(self._configured((home() / "conf" / "standalone.conf").read_text()))
        command = [str(home() / "bin" / "pulsar"), "standalone", "--config", str(configuration)]
        command += ["-nfw", "-nss", "-a", "127.0.0.1", "--bookkeeper-port", str(self._bookie_port)]
        command += [
            "--metadata-dir",
            str(self.folder / "metadata"),
            "--bookkeeper-dir",
            str(self.folder / "bookkeeper"),
        ]
        with (self.folder / "out").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=self._environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None:
                raise ServerError(f"Pulsar ended with code {self._process.returncode}\n{self._log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServerError(f"Pulsar was not ready within {START_SECONDS} s\n{self._log_tail()}")
            time.sleep(0.2)

    def stop(self) -> None:
        """Stop in an orderly way."""
        if self._process is not None and self._process.poll() is None:
            self._signal(signal.SIGTERM)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()
        self._process = None

    def kill(self) -> None:
        """End at once, as ``kill -9`` does."""
        if self._process is not None and self._process.poll() is None:
            self._signal(signal.SIGKILL)
            self._process.wait(30)
        self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop answering while the sockets stay open: what a partition looks like. ``thaw`` undoes it."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def admin(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """A request to the broker's admin interface: ``admin("GET", "persistent/public/default/queue.x/stats")``."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.web_port}/admin/v2/{path}",
            data=body,
            method=method,
            headers={"Content-Type": "application/json"},
        )
        if self.token is not None:
            request.add_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    def stats(self, name: str) -> Any:
        """What the broker says of ``tenant/namespace/topic``, encoded as in the topic's full name."""
        return json.loads(self.admin("GET", f"persistent/{quote(name)}/stats"))

    def ensure_namespace(self, name: str) -> None:
        """``tenant/namespace``, of a tenant that exists."""
        with contextlib.suppress(urllib.error.HTTPError):  # it exists
            self.admin("PUT", f"namespaces/{name}")

    def _configured(self, text: str) -> str:
        own = {**CONFIGURATION, "brokerServicePort": str(self.port), "webServicePort": str(self.web_port)}
        own |= self.settings
        kept = [line for line in text.splitlines() if line.partition("=")[0] not in own]
        return "\n".join([*kept, *(f"{name}={value}" for name, value in own.items()), ""])

    @property
    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PULSAR_LOG_DIR": str(self.folder / "log"),
            "PULSAR_MEM": MEMORY,
            "PULSAR_GC": COLLECTOR,
            "PULSAR_GC_LOG": " ",
            "PULSAR_LOG_APPENDER": "Console",
        }

    def _signal(self, which: signal.Signals) -> None:
        # The start script and Java, which are a session of their own.
        assert self._process is not None
        os.killpg(self._process.pid, which)

    def _answers(self) -> bool:
        try:
            with contextlib.closing(socket.create_connection(("127.0.0.1", self.port), timeout=2)):
                return b"public/default" in self.admin("GET", "namespaces/public")
        except (OSError, urllib.error.URLError):
            return False

    def _log_tail(self) -> str:
        logs = [self.folder / "out", *sorted((self.folder / "log").glob("*.log"))]
        return "\n".join(f"{log}:\n{log.read_text(errors='replace')[-1500:]}" for log in logs if log.exists())
