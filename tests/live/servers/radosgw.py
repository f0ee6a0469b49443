"""A throw-away Ceph radosgw on 127.0.0.1 with everything in memory, from Debian's packages.

One monitor, one OSD on memstore, one gateway. Everything it writes is below one folder. Only processes that it started are
ended, by their id.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "ceph-authtool", "monmaptool", "radosgw", "radosgw-admin")
PACKAGES = "ceph-mon ceph-osd ceph-mgr ceph-common radosgw"
START_SECONDS = 90.0
ACCESS_KEY, SECRET_KEY = "factflow-access", "factflow-secret"

_CONFIGURATION = """\
[global]
fsid = {fsid}
mon initial members = a
mon host = v1:127.0.0.1:{monitor}
ms bind msgr2 = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
# Below the ports that the system gives out, or the OSD may take the gateway's.
ms bind port min = 21000
ms bind port max = 29000
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 1
run dir = {folder}/run
admin socket = {folder}/run/$name.asok
pid file = {folder}/run/$name.pid
log file = {folder}/log/$name.log
keyring = {folder}/keyring
[mon.a]
mon data = {folder}/monitor
host = localhost
[osd]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 8589934592
# The default limits assume a file system's names, or need a manager to set the class of the device.
osd max object name len = 2048
osd class update on start = false
osd crush update on start = false
osd class load list = *
osd class default list = *
[client.rgw]
# Without it, an answer's body waits 40 ms for the client's delayed acknowledgement of its head.
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw enable apis = s3
rgw gc obj min wait = 1
rgw gc processor period = 2
rgw gc processor max time = 2
rgw enable usage log = false
"""


class ServerError(RuntimeError):
    """The server did not do what was asked of it; the message ends with the tail of its log."""


def missing() -> str | None:
    """Why no radosgw can be started on this machine, or ``None``."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"no radosgw: {', '.join(absent)} not found (Debian: apt-get install {PACKAGES})" if absent else None


@dataclass
class Radosgw:
    """``with Radosgw(folder) as server:`` an endpoint, and one user with the keys above."""

    folder: Path
    port: int = 0
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and return once the gateway answers: about 15 s."""
        self.folder = self.folder.resolve()
        for name in ("run", "log", "monitor", "osd"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        monitor, self.port = _free_ports(2)
        fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
        (self.folder / "ceph.conf").write_text(
            _CONFIGURATION.format(fsid=fsid, monitor=monitor, port=self.port, folder=self.folder)
        )
        keyring, names = str(self.folder / "keyring"), str(self.folder / "monmap")
        self._run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        allow = [part for name in ("mon", "osd", "mgr") for part in ("--cap", name, "allow *")]
        self._run("ceph-authtool", keyring, "--gen-key", "-n", "client.admin", *allow)
        address = f"[v1:127.0.0.1:{monitor}]"
        self._run("monmaptool", "--create", "--clobber", "--addv", "a", address, "--fsid", fsid, names)
        self._ceph("ceph-mon", "-i", "a", "--mkfs", "--monmap", names, "--keyring", keyring)
        self._serve("ceph-mon", "-i", "a", "-f")
        self._until("the monitor", lambda: self._ceph("ceph", "-s", check=False) is not None)
        # Just after its start, on a loaded machine, the monitor may say that it lacks the permission to tell its commands.
        self._until("the OSD's id", lambda: self._ceph("ceph", "osd", "new", osd, check=False) is not None)
        self._ceph("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._serve("ceph-osd", "-i", "0", "-f")
        self._until("the OSD", lambda: "1 up" in (self._ceph("ceph", "osd", "stat", check=False) or ""))
        self._ceph("ceph", "osd", "crush", "add-bucket", "localhost", "host", check=False)
        self._ceph("ceph", "osd", "crush", "move", "localhost", "root=default", check=False)
        self._ceph("ceph", "osd", "crush", "add", "osd.0", "1.0", "host=localhost", check=False)
        self._serve("radosgw", "-n", "client.rgw", "-f")
        self._until("the gateway", self._answers)
        keys = (f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}")
        self._ceph("radosgw-admin", "user", "create", "--uid=factflow", "--display-name=factflow", *keys)

    def stop(self) -> None:
        for process in reversed(self._processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(10)
        self._processes.clear()

    def _serve(self, program: str, *arguments: str) -> None:
        with (self.folder / "log" / f"{program}.out").open("ab") as log:
            command = [program, "-c", str(self.folder / "ceph.conf"), *arguments]
            self._processes.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))

    def _ceph(self, program: str, *arguments: str, check: bool = True) -> str | None:
        return self._run(program, "-c", str(self.folder / "ceph.conf"), *arguments, check=check)

    def _run(self, *command: str, check: bool = True) -> str | None:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        except subprocess.TimeoutExpired as error:
            if check:
                raise ServerError(f"{command[0]} took too long") from error
            return None
        if done.returncode == 0:
            return done.stdout
        if check:
            raise ServerError(f"{' '.join(command[:4])}: {done.stderr[-1000:]}")
        return None

    def _until(self, what: str, ready) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            ended = [process.args for process in self._processes if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                raise ServerError(f"{what} was not ready within {START_SECONDS} s, ended: {ended}\n{self._log_tail()}")
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as probe:
                probe.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return probe.recv(5) == b"HTTP/"
        except OSError:
            return False

    def _log_tail(self) -> str:
        logs = sorted((self.folder / "log").glob("*.out"))
        return "\n".join(f"{log}:\n{log.read_text(errors='replace')[-1000:]}" for log in logs)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
