"""A throw-away Pulsar standalone, from Maven Central."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from .distribution import Distribution
from .server import Server, free_ports

if TYPE_CHECKING:
    from pathlib import Path

VERSION = "4.0.4"
"""The release that the facts were seen on; it needs Java 17."""
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


DISTRIBUTION = Distribution(
    "Pulsar", "org.apache.pulsar:pulsar-server-distribution", VERSION, f"apache-pulsar-{VERSION}", "bin/pulsar"
)
missing = DISTRIBUTION.missing


@dataclass
class Pulsar(Server):
    """One broker, with its bookie and its metadata in one process. ``settings``: more of ``standalone.conf``."""

    settings: dict[str, str] = field(default_factory=dict)
    ports: list[int] = field(default_factory=lambda: free_ports(4))
    token: str | None = None
    """What the admin interface is asked with."""

    NAME: ClassVar[str] = "Pulsar"
    START_SECONDS: ClassVar[float] = 120.0
    STOP_SECONDS: ClassVar[float] = 60.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.port, self.web_port, self._bookie_port, self.tls_port = self.ports

    @property
    def uri(self) -> str:
        return f"pulsar://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        self._configuration.write_text(self._configured((DISTRIBUTION.home / "conf" / "standalone.conf").read_text()))

    @property
    def command(self) -> list[str]:
        command = [str(DISTRIBUTION.home / "bin" / "pulsar"), "standalone", "--config", str(self._configuration)]
        command += ["-nfw", "-nss", "-a", "127.0.0.1", "--bookkeeper-port", str(self._bookie_port)]
        command += ["--metadata-dir", str(self.folder / "metadata")]
        return [*command, "--bookkeeper-dir", str(self.folder / "bookkeeper")]

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
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PULSAR_LOG_DIR": str(self.folder / "log"),
            "PULSAR_MEM": MEMORY,
            "PULSAR_GC": COLLECTOR,
            "PULSAR_GC_LOG": " ",
            "PULSAR_LOG_APPENDER": "Console",
        }

    def answers(self) -> bool:
        try:
            with contextlib.closing(socket.create_connection(("127.0.0.1", self.port), timeout=2)):
                return b"public/default" in self.admin("GET", "namespaces/public")
        except (OSError, urllib.error.URLError):
            return False

    @property
    def logs(self) -> list[Path]:
        return sorted((self.folder / "log").glob("*.log"))

    @property
    def _configuration(self) -> Path:
        return self.folder / "standalone.conf"
