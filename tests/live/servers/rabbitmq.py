"""A throw-away RabbitMQ on 127.0.0.1, from Debian's ``rabbitmq-server``: started, stopped, killed and restarted at will.

Everything it writes is below one folder. Only processes that it started are ended, by their id.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
CONTROL = Path("/usr/lib/rabbitmq/bin/rabbitmqctl")
START_SECONDS = 90.0
USER = PASSWORD = "guest"


class ServerError(RuntimeError):
    """The server did not do what was asked of it; the message ends with the tail of its log."""


def missing() -> str | None:
    """Why no RabbitMQ can be started on this machine, or ``None``."""
    if not SERVER.exists():
        return f"no RabbitMQ: {SERVER} does not exist (Debian: apt-get install rabbitmq-server)"
    if shutil.which("erl") is None:
        return "no RabbitMQ: Erlang's erl is not on the PATH"
    return None


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on at the moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@dataclass
class RabbitMq:
    """One server. ``settings``: further lines for ``rabbitmq.conf``."""

    folder: Path
    settings: tuple[str, ...] = ()
    ports: list[int] = field(default_factory=lambda: free_ports(4))

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()
        self.port, self.stomp_port, self._distribution_port, self.tls_port = self.ports
        self._process: subprocess.Popen[bytes] | None = None
        self._vhosts: set[str] = set()
        self.configure(*self.settings)

    def configure(self, *settings: str, advanced: str = "") -> None:
        """Write the configuration, with further lines and Erlang terms; it counts from the next start."""
        for name in ("conf", "data", "log"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "conf" / "enabled_plugins").write_text("[rabbitmq_stomp].\n")
        lines = [
            f"listeners.tcp.1 = 127.0.0.1:{self.port}",
            f"stomp.listeners.tcp.1 = 127.0.0.1:{self.stomp_port}",
            "vm_memory_high_watermark.absolute = 2GB",
            "disk_free_limit.absolute = 50MB",
            *settings,
        ]
        (self.folder / "conf" / "advanced.config").write_text(advanced or "[].\n")
        (self.folder / "conf" / "rabbitmq.conf").write_text("\n".join(lines) + "\n")

    @property
    def uri(self) -> str:
        return f"amqp://{USER}:{PASSWORD}@127.0.0.1:{self.port}/"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "HOME": str(self.folder),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_NODENAME": f"factflow{self.port}@localhost",
            "RABBITMQ_CONFIG_FILE": str(self.folder / "conf" / "rabbitmq"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "conf" / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "conf" / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }

    def start(self) -> None:
        """Start, and return once a client could log in."""
        with (self.folder / "log" / "out").open("ab") as log:
            self._process = subprocess.Popen(
                [str(SERVER)], env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None:
                raise ServerError(f"RabbitMQ ended with code {self._process.returncode}\n{self._log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServerError(f"RabbitMQ was not ready within {START_SECONDS} s\n{self._log_tail()}")
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
        """End at once, as a power cut of the process would."""
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

    def control(self, *arguments: str) -> str:
        """What ``rabbitmqctl`` prints. Takes about a second."""
        done = subprocess.run(
            [str(CONTROL), "-q", *arguments], env=self.environment, capture_output=True, timeout=60, check=False
        )
        if done.returncode:
            raise ServerError(f"rabbitmqctl {arguments[0]}: {done.stderr.decode()[-1000:]}")
        return done.stdout.decode()

    def ensure_vhost(self, name: str) -> None:
        """Have a virtual host of that name, open to the default user."""
        if name not in self._vhosts:
            self.control("add_vhost", name)
            self.control("set_permissions", "-p", name, USER, ".*", ".*", ".*")
            self._vhosts.add(name)

    def _signal(self, which: signal.Signals) -> None:
        # The start script and Erlang's emulator, which are a session of their own.
        assert self._process is not None
        os.killpg(self._process.pid, which)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as probe:
                probe.sendall(b"AMQP\x00\x00\x09\x01")
                return probe.recv(1) == b"\x01"
        except OSError:
            return False

    def _log_tail(self) -> str:
        logs = sorted((self.folder / "log").glob("*"))
        return "\n".join(f"{log}:\n{log.read_text(errors='replace')[-1500:]}" for log in logs)
