"""A throw-away ActiveMQ Classic, from Debian's ``activemq``, with a STOMP connector."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from .distribution import java_missing
from .server import Server, free_ports

HOME = Path("/usr/share/activemq")
PROGRAM = HOME / "bin" / "activemq.jar"
USER = "activemq"
PASSWORD = "open:sesame"
JAVA_ARGS = ("-Xms64M", "-Xmx256M", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
CONFIGURATION = """\
<beans xmlns="http://www.springframework.org/schema/beans" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:schemaLocation="http://www.springframework.org/schema/beans http://www.springframework.org/schema/beans/spring-beans-2.0.xsd
  http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
  <broker xmlns="http://activemq.apache.org/schema/core" brokerName="localhost" useJmx="false" useShutdownHook="true"
    schedulerSupport="true" dataDirectory="{folder}/data">
    <persistenceAdapter>
      <kahaDB directory="{folder}/data/kahadb" journalDiskSyncStrategy="{sync}" journalMaxFileLength="4mb"/>
    </persistenceAdapter>
    <plugins>
      <simpleAuthenticationPlugin><users>
        <authenticationUser username="{user}" password="{password}" groups="users,admins"/>
      </users></simpleAuthenticationPlugin>
{plugins}    </plugins>
    <systemUsage><systemUsage>
      <storeUsage><storeUsage limit="64 mb"/></storeUsage><tempUsage><tempUsage limit="64 mb"/></tempUsage>
    </systemUsage></systemUsage>
    <transportConnectors>
      <transportConnector name="stomp" uri="stomp://127.0.0.1:{port}{options}"/>
    </transportConnectors>
  </broker>
</beans>
"""
"""What changes how messages are treated stays as it comes: no policies of destinations. The scheduler is one of the settings
that most installations have on.
"""


def missing() -> str | None:
    """Why no ActiveMQ Classic can be started on this machine, or ``None``."""
    if not PROGRAM.exists():
        return f"no ActiveMQ Classic: {PROGRAM} does not exist (Debian: apt-get install activemq)"
    return java_missing("ActiveMQ Classic")


@dataclass
class ActiveMq(Server):
    """One broker. ``options``: parameters of the STOMP connector, ``?name=value``; ``plugins``: more elements of ``plugins``.
    ``sync``: KahaDB's ``journalDiskSyncStrategy``; a killed process loses nothing without it, and slow disks count less.
    """

    options: str = ""
    plugins: str = ""
    sync: str = "never"
    port: int = field(default_factory=lambda: free_ports(1)[0])

    NAME: ClassVar[str] = "ActiveMQ Classic"
    user: ClassVar[str] = USER
    password: ClassVar[str] = PASSWORD

    def prepare(self) -> None:
        (self.folder / "conf").mkdir(exist_ok=True)
        text = CONFIGURATION.format(
            folder=self.folder,
            sync=self.sync,
            user=USER,
            password=PASSWORD,
            plugins=self.plugins,
            port=self.port,
            options=self.options,
        )
        (self.folder / "conf" / "activemq.xml").write_text(text)
        (self.folder / "conf" / "log4j.properties").write_text(
            "log4j.rootLogger=WARN, console\n"
            "log4j.appender.console=org.apache.log4j.ConsoleAppender\n"
            "log4j.appender.console.layout=org.apache.log4j.PatternLayout\n"
            "log4j.appender.console.layout.ConversionPattern=%d %p %c{{1}} - %m%n\n"
        )

    @property
    def command(self) -> list[str]:
        places = {"home": HOME, "base": self.folder, "conf": self.folder / "conf", "data": self.folder / "data"}
        return [
            *("java", *JAVA_ARGS, *(f"-Dactivemq.{name}={place}" for name, place in places.items())),
            *(f"-Dactivemq.classpath={self.folder / 'conf'}", f"-Djava.io.tmpdir={self.folder}"),
            *("-jar", str(PROGRAM), "start", f"xbean:file:{self.folder / 'conf' / 'activemq.xml'}"),
        ]

    def answers(self) -> bool:
        login = f"CONNECT\naccept-version:1.2\nhost:localhost\nlogin:{USER}\npasscode:{PASSWORD}\n\n\0"
        return self.says(self.port, login.encode(), b"CONNECTED")
