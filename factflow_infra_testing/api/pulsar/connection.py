"""The client's connection: requests and who waits for their answers, and whom to tell when it is lost (``ClientConnection``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from factflow_infra_testing.api.pulsar.line import ApiLine
from factflow_infra_testing.api.pulsar.results import DISCONNECTED, OK, TIMEOUT, of_server
from factflow_infra_testing.wire.pulsar.values import PROTOCOL_VERSION

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from factflow_infra_testing.wire.pulsar.frames import Content
    from factflow_infra_testing.wire.pulsar.frontend import PulsarFrontEnd

_ANSWERS: Final = frozenset(
    {
        "success",
        "producer_success",
        "lookup_response",
        "partitioned_metadata_response",
        "get_last_message_id_response",
        "error",
    }
)


def ignored(result: str, answer: Mapping[str, Any]) -> None:
    """For requests whose answer changes nothing."""
    del result, answer


class Handler(Protocol):
    """A producer or consumer on a connection."""

    def take(self, name: str, fields: Mapping[str, Any], content: Content | None) -> None:
        """A command for it came."""
        ...

    def disconnected(self, connection: ClientConnection) -> None:
        """Its connection is lost."""
        ...


class ClientConnection:
    """One connection. ``on_ready`` is called once: with ``Ok`` when the broker has greeted, else with why not."""

    def __init__(
        self,
        front_end: PulsarFrontEnd,
        owner: str,
        *,
        exposed: bool,
        hosts: tuple[str, str],
        operation_timeout: float,
        on_ready: Callable[[str, ClientConnection], None],
        on_closed: Callable[[ClientConnection], None],
    ) -> None:
        self._loop = front_end.server.loop
        self._timeout = operation_timeout
        self._on_ready: Callable[[str, ClientConnection], None] | None = on_ready
        self._on_closed = on_closed
        self._requests: dict[int, tuple[Callable[[str, Mapping[str, Any]], None], asyncio.TimerHandle]] = {}
        self.producers: dict[int, Handler] = {}
        self.consumers: dict[int, Handler] = {}
        self.open = True
        self._line = ApiLine(front_end, owner, exposed=exposed, hosts=hosts, on_command=self._take, on_lost=self._lost)
        self._line.command("connect", {"client_version": "stand-in", "protocol_version": PROTOCOL_VERSION})

    def request(
        self, number: int, name: str, fields: Mapping[str, Any], answered: Callable[[str, Mapping[str, Any]], None]
    ) -> None:
        """Send a request; ``answered`` gets ``Ok`` and the answer, or why there is none."""
        if not self.open:
            answered(DISCONNECTED, {})
            return
        timer = self._loop.call_later(self._timeout, self._overdue, number)
        self._requests[number] = (answered, timer)
        self._line.command(name, {**fields, "request_id": number})

    def _overdue(self, number: int) -> None:
        self._answer(number, TIMEOUT, {})

    def _answer(self, number: int, result: str, fields: Mapping[str, Any]) -> None:
        waiting = self._requests.pop(number, None)
        if waiting is not None:
            answered, timer = waiting
            timer.cancel()
            answered(result, fields)

    def command(self, name: str, fields: Mapping[str, Any], content: Content | None = None) -> None:
        """Send what nobody waits for."""
        if self.open:
            self._line.command(name, fields, content)

    def _take(self, name: str, fields: Mapping[str, Any], content: Content | None) -> None:
        if not self.open:
            return
        if self._on_ready is not None:
            ready, self._on_ready = self._on_ready, None
            if name != "connected":
                self.close()
                ready(DISCONNECTED, self)
                return
            ready(OK, self)
        elif name in _ANSWERS:
            failed = "error" in fields and bool(fields["error"])
            self._answer(fields["request_id"], of_server(fields["error"]) if failed else OK, fields)
        elif "producer_id" in fields:
            handler = self.producers.get(fields["producer_id"])
            if handler is not None:
                handler.take(name, fields, content)
        elif "consumer_id" in fields:
            handler = self.consumers.get(fields["consumer_id"])
            if handler is not None:
                handler.take(name, fields, content)

    def _lost(self, error: Exception | None) -> None:
        del error
        self._end()

    def close(self) -> None:
        """Close the socket, without a word to the broker."""
        if self.open:
            self._line.hang_up_client()
            self._end()

    def _end(self) -> None:
        if not self.open:
            return
        self.open = False
        self._on_closed(self)
        ready, self._on_ready = self._on_ready, None
        if ready is not None:
            ready(DISCONNECTED, self)
        handlers = [*self.producers.values(), *self.consumers.values()]
        self.producers.clear()
        self.consumers.clear()
        for handler in handlers:
            handler.disconnected(self)
        for number in list(self._requests):
            self._answer(number, DISCONNECTED, {})
