"""A connection without bytes: commands go both ways as they are, through the lines of the model tier and their faults."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from factflow_infra_testing.broker.link import Link
from factflow_infra_testing.wire.pulsar.session import ProtocolViolationError, PulsarSession

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from factflow_infra_testing.broker.entries import Delivery
    from factflow_infra_testing.wire.pulsar.frames import Content
    from factflow_infra_testing.wire.pulsar.frontend import PulsarFrontEnd

Command = tuple[str, "Mapping[str, Any]", "Content | None"]


_OPERATIONS: Final = MappingProxyType(
    {
        "send": "publish",
        "ack": "ack",
        "redeliver_unacknowledged_messages": "nack",
        "subscribe": "subscribe",
        "close_consumer": "unsubscribe",
    }
)
"""What commands are called in plans: as the same frames of the other tiers."""


class ApiLine(Link):
    """A client's connection to ``front_end``. ``on_command`` is called at the client's end, ``on_lost`` once."""

    def __init__(
        self,
        front_end: PulsarFrontEnd,
        client: str,
        *,
        exposed: bool,
        hosts: tuple[str, str],
        on_command: Callable[[str, Mapping[str, Any], Content | None], None],
        on_lost: Callable[[Exception | None], None],
    ) -> None:
        super().__init__(front_end.server, client, exposed=exposed, on_lost=on_lost, hosts=hosts)
        self.url = f"pulsar://{hosts[1]}"
        self._on_command = on_command
        self._session = PulsarSession(front_end, self)
        front_end.server.attach(self)

    # --- the client's end -------------------------------------------------------------------------------------------

    def command(self, name: str, fields: Mapping[str, Any], content: Content | None = None) -> None:
        """Send a command to the broker; into a line that is cut it vanishes."""
        if self.client_open:
            self._send_up(self._arrive_command, (name, fields, content))

    def _receive_command(self, command: Command) -> None:
        if self.client_open:
            self._on_command(*command)

    def hang_up_client(self) -> None:
        """The client closes its socket: what it had sent still arrives, and nobody answers."""
        self.kill(silent=False)

    # --- the broker's end -------------------------------------------------------------------------------------------

    def _frame_at_risk(self, arrive: Callable[[Any], None], item: Any) -> tuple[str, str] | None:
        if arrive != self._arrive_command:
            return super()._frame_at_risk(arrive, item)
        operation = _OPERATIONS.get(item[0])
        label = self._session.label_of(item[0], item[1]) if operation else None
        return None if operation is None or label is None else (operation, label)

    def _arrive_command(self, command: Command) -> None:
        if not self.server_open:
            return
        try:
            self._session.take(*command)
        except ProtocolViolationError as error:
            self.reset(str(error))

    def send(self, name: str, fields: Mapping[str, Any], content: Content | None = None) -> None:
        """The broker sends a command."""
        self.send_down(self._receive_command, (name, fields, content))

    def hang_up(self) -> None:
        """The broker closes the connection, after what it has sent."""
        self.reset("the broker closed the connection")

    def deliver(self, consumer: Any, delivery: Delivery) -> None:
        self._session.consumers.deliver(consumer, delivery)

    def close_server(self, _: None = None, *, goodbye: bool = False) -> None:
        if self.server_open:
            self._session.end()
        super().close_server(goodbye=goodbye)

    @property
    def pending(self) -> str:
        told = super().pending
        waiting = self._session.unconfirmed if self.server_open else 0
        return told or (f"{self.client}: {waiting} publishes without an answer" if waiting else "")
