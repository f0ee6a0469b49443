"""A throw-away RabbitMQ, from Debian's ``rabbitmq-server``: AMQP, and STOMP by its plugin."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from .server import Server, ServerError, free_ports

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
CONTROL = Path("/usr/lib/rabbitmq/bin/rabbitmqctl")
USER = PASSWORD = "guest"


def missing() -> str | None:
    """Why no RabbitMQ can be started on this machine, or ``None``."""
    if not SERVER.exists():
        return f"no RabbitMQ: {SERVER} does not exist (Debian: apt-get install rabbitmq-server)"
    if shutil.which("erl") is None:
        return "no RabbitMQ: Erlang's erl is not on the PATH"
    return None


@dataclass
class RabbitMq(Server):
    """One server. ``settings``: further lines for ``rabbitmq.conf``."""

    settings: tuple[str, ...] = ()
    ports: list[int] = field(default_factory=lambda: free_ports(4))

    NAME: ClassVar[str] = "RabbitMQ"
    user: ClassVar[str] = USER
    password: ClassVar[str] = PASSWORD

    def __post_init__(self) -> None:
        super().__post_init__()
        self.port, self.stomp_port, self._distribution_port, self.tls_port = self.ports
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
        return self.uri_at(self.port)

    def uri_at(self, port: int) -> str:
        """For something else that listens in place of it."""
        return f"amqp://{USER}:{PASSWORD}@127.0.0.1:{port}/"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **super().environment,
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

    @property
    def command(self) -> list[str]:
        return [str(SERVER)]

    def answers(self) -> bool:
        return self.says(self.port, b"AMQP\x00\x00\x09\x01", b"\x01")

    @property
    def logs(self) -> list[Path]:
        return sorted((self.folder / "log").glob("*"))

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

    def limit(self, vhost: str, queue: str, length: int) -> None:
        """By a policy: ``queue`` refuses what would make it longer. A classic queue that is longer drops its head."""
        full = f'{{"max-length": {length}, "overflow": "reject-publish"}}'
        self.control("set_policy", "-p", vhost, f"limit-{queue}", f"^{queue}$", full, "--apply-to", "queues")
        self._wait_for_queues(vhost)

    def unlimit(self, vhost: str, queue: str) -> None:
        self.control("clear_policy", "-p", vhost, f"limit-{queue}")
        self._wait_for_queues(vhost)

    def _wait_for_queues(self, vhost: str) -> None:
        # They have heard of a policy by the time that they answer something else.
        self.control("list_queues", "-p", vhost, "name", "messages")
