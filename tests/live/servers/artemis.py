"""A throw-away Apache Artemis, from Maven Central."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote

from .distribution import Distribution
from .server import Server, ServerError, free_ports

if TYPE_CHECKING:
    from pathlib import Path

VERSION = "2.44.0"
"""The release that the facts were seen on; it needs Java 17."""
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


DISTRIBUTION = Distribution(
    "Artemis",
    "org.apache.activemq:apache-artemis",
    VERSION,
    f"apache-artemis-{VERSION}",
    "bin/artemis",
    fetch_seconds=300,
)
missing = DISTRIBUTION.missing


@dataclass
class Artemis(Server):
    """One broker. ``options``: more parameters of the STOMP acceptor, ``;name=value``; ``addresses``: more
    ``address-setting`` elements; ``acceptors``: more ``acceptor`` elements. ``datasync``: whether each write is synced to the
    disk before it is confirmed, as it is by default; a killed process loses nothing without it, and slow disks count less.
    """

    options: str = ""
    addresses: str = ""
    acceptors: str = ""
    datasync: bool = False
    port: int = field(default_factory=lambda: free_ports(1)[0])

    NAME: ClassVar[str] = "Artemis"
    user: ClassVar[str] = USER
    password: ClassVar[str] = PASSWORD

    @property
    def quoted_password(self) -> str:
        return quote(PASSWORD, safe="")

    @property
    def uri(self) -> str:
        return self.uri_at(self.port)

    def uri_at(self, port: int) -> str:
        """For something else that listens in place of it."""
        return f"stomp://{USER}:{self.quoted_password}@127.0.0.1:{port}"

    def prepare(self) -> None:
        instance = self.folder / "instance"
        if not instance.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            command = [
                str(DISTRIBUTION.home / "bin" / "artemis"),
                "create",
                str(instance),
                "--silent",
                "--no-web",
                "--no-autotune",
            ]
            command += ["--nio", "--require-login", "--host", "127.0.0.1", "--user", USER, "--password", PASSWORD]
            done = subprocess.run(
                command, capture_output=True, timeout=self.START_SECONDS, check=False, env=self.environment
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

    @property
    def command(self) -> list[str]:
        return [str(self.folder / "instance" / "bin" / "artemis"), "run"]

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "JAVA_ARGS": JAVA_ARGS}

    def answers(self) -> bool:
        login = f"CONNECT\naccept-version:1.2\nhost:localhost\nlogin:{USER}\npasscode:{PASSWORD}\n\n\0"
        return self.says(self.port, login.encode(), b"CONNECTED")

    @property
    def logs(self) -> list[Path]:
        return sorted((self.folder / "instance" / "log").glob("*.log"))
