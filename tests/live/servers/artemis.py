"""A throw-away Apache Artemis on 127.0.0.1: started, stopped, killed, frozen and restarted at will.

The distribution comes from Maven Central, through ``mvn`` and its own cache, and is unpacked once below
``FACTFLOW_LIVE_CACHE`` (``~/.cache/factflow-live`` unless set), never inside the repository. Everything else that is written
is below one folder. Only processes that it started are ended, by their id.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

VERSION = "2.44.0"
"""The release that the facts were seen on; it needs Java 17."""
START_SECONDS = 90.0
USER = "artemis"
PASSWORD = "sesame: open\\"
"""With what STOMP would have to escape in any frame but CONNECT."""
JAVA_ARGS = "-Xms64M -Xmx512M -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dlog4j2.disableJmx=true"
CONFIGURATION = """\
<configuration xmlns="urn:activemq"><core xmlns="urn:activemq:core">
  <name>factflow</name>
  <persistence-enabled>true</persistence-enabled>
  <journal-type>NIO</journal-type>
  <journal-datasync>{datasync}</journal-datasync>
  <journal-min-files>2</journal-min-files>
  <journal-file-size>1M</journal-file-size>
  <paging-directory>data/paging</paging-directory>
  <bindings-directory>data/bindings</bindings-directory>
  <journal-directory>data/journal</journal-directory>
  <large-messages-directory>data/large-messages</large-messages-directory>
  <critical-analyzer>false</critical-analyzer>
  <max-disk-usage>100</max-disk-usage>
  <message-expiry-scan-period>200</message-expiry-scan-period>
  <connection-ttl-check-interval>200</connection-ttl-check-interval>
  <acceptors>
    <acceptor name="stomp">tcp://127.0.0.1:{port}?protocols=STOMP;useEpoll=false{options}</acceptor>
{acceptors}  </acceptors>
  <security-settings><security-setting match="#">
{permissions}
  </security-setting></security-settings>
  <address-settings>
{addresses}
    <address-setting match="#">
      <dead-letter-address>DLQ</dead-letter-address>
      <expiry-address>ExpiryQueue</expiry-address>
    </address-setting>
  </address-settings>
  <addresses>
    <address name="DLQ"><anycast><queue name="DLQ"/></anycast></address>
    <address name="ExpiryQueue"><anycast><queue name="ExpiryQueue"/></anycast></address>
  </addresses>
</core></configuration>
"""
_PERMISSIONS = (
    *("createNonDurableQueue", "deleteNonDurableQueue", "createDurableQueue", "deleteDurableQueue"),
    *("createAddress", "deleteAddress", "consume", "browse", "send", "manage"),
)


class ServerError(RuntimeError):
    """The server did not do what was asked of it; the message ends with the tail of its log."""


def cache() -> Path:
    """Where unpacked distributions are kept."""
    return Path(os.environ.get("FACTFLOW_LIVE_CACHE") or Path.home() / ".cache" / "factflow-live")


def home() -> Path:
    return cache() / f"apache-artemis-{VERSION}"


def missing() -> str | None:
    """Why no Artemis can be started on this machine, or ``None``. Fetches the distribution where it is not there yet."""
    if shutil.which("java") is None:
        return "no Artemis: java is not on the PATH (Debian: apt-get install openjdk-17-jre-headless)"
    if (home() / "bin" / "artemis").exists():
        return None
    if shutil.which("mvn") is None:
        return f"no Artemis: {home()} does not exist, and there is no mvn to fetch it (Debian: apt-get install maven)"
    try:
        _fetch()
    except (OSError, subprocess.SubprocessError, tarfile.TarError) as error:
        return f"no Artemis: version {VERSION} could not be fetched from Maven Central: {error}"
    return None


def _fetch() -> None:
    cache().mkdir(parents=True, exist_ok=True)
    artifact = f"org.apache.activemq:apache-artemis:{VERSION}:tar.gz:bin"
    with tempfile.TemporaryDirectory(dir=cache()) as folder:
        for goal in (
            ("dependency:get", f"-Dartifact={artifact}", "-Dtransitive=false"),
            ("dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={folder}"),
        ):
            subprocess.run(["mvn", "-q", "-B", *goal], check=True, capture_output=True, timeout=300, cwd=folder)
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
class Artemis:
    """One broker. ``options``: more parameters of the STOMP acceptor, ``;name=value``; ``addresses``: more
    ``address-setting`` elements; ``acceptors``: more ``acceptor`` elements. ``datasync``: whether each write is synced to the
    disk before it is confirmed, as it is by default; a killed process loses nothing without it, and slow disks count less.
    """

    folder: Path
    options: str = ""
    addresses: str = ""
    acceptors: str = ""
    datasync: bool = False
    port: int = field(default_factory=lambda: free_ports(1)[0])

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()
        self._process: subprocess.Popen[bytes] | None = None

    user = USER
    password = PASSWORD

    @property
    def quoted_password(self) -> str:
        return quote(PASSWORD, safe="")

    @property
    def uri(self) -> str:
        return f"stomp://{USER}:{self.quoted_password}@127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def configure(self) -> None:
        """Write the configuration; it counts from the next start."""
        instance = self.folder / "instance"
        if not instance.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            command = [
                str(home() / "bin" / "artemis"),
                "create",
                str(instance),
                "--silent",
                "--no-web",
                "--no-autotune",
            ]
            command += ["--nio", "--require-login", "--host", "127.0.0.1", "--user", USER, "--password", PASSWORD]
            done = subprocess.run(
                command, capture_output=True, timeout=START_SECONDS, check=False, env=self._environment
            )
            if done.returncode:
                raise ServerError(f"artemis create: {(done.stdout + done.stderr).decode()[-1500:]}")
        (instance / "etc" / "broker.xml").write_text(
            CONFIGURATION.format(
                port=self.port,
                options=self.options,
                acceptors=self.acceptors,
                addresses=self.addresses,
                datasync=str(self.datasync).lower(),
                permissions="\n".join(f'    <permission type="{name}" roles="amq"/>' for name in _PERMISSIONS),
            )
        )

    def start(self) -> None:
        """Start, and return once it speaks STOMP."""
        self.configure()
        with (self.folder / "out").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self.folder / "instance" / "bin" / "artemis"), "run"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None:
                raise ServerError(f"Artemis ended with code {self._process.returncode}\n{self._log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServerError(f"Artemis was not ready within {START_SECONDS} s\n{self._log_tail()}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop in an orderly way."""
        if self._process is not None and self._process.poll() is None:
            self._signal(signal.SIGTERM)
            try:
                self._process.wait(30)
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

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "HOME": str(self.folder), "JAVA_ARGS": JAVA_ARGS}

    def _signal(self, which: signal.Signals) -> None:
        # The start script and Java, which are a session of their own.
        assert self._process is not None
        os.killpg(self._process.pid, which)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as probe:
                probe.sendall(
                    f"CONNECT\naccept-version:1.2\nhost:localhost\nlogin:{USER}\npasscode:{PASSWORD}\n\n\0".encode()
                )
                return probe.recv(9) == b"CONNECTED"
        except OSError:
            return False

    def _log_tail(self) -> str:
        logs = [self.folder / "out", *sorted((self.folder / "instance" / "log").glob("*.log"))]
        return "\n".join(f"{log}:\n{log.read_text(errors='replace')[-1500:]}" for log in logs if log.exists())
