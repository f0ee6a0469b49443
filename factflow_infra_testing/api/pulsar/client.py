"""The client: lookups, one connection for all that it makes, and closing (``ClientImpl``, ``ConnectionPool``)."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from factflow_infra_testing.api.pulsar.connection import ClientConnection
from factflow_infra_testing.api.pulsar.consumer import Consumer
from factflow_infra_testing.api.pulsar.handlers import Backoff
from factflow_infra_testing.api.pulsar.producer import Producer
from factflow_infra_testing.api.pulsar.reader import Reader
from factflow_infra_testing.api.pulsar.results import (
    ALREADY_CLOSED,
    OK,
    RETRYABLE,
    TIMEOUT,
    ClientError,
    is_retryable,
    result_value,
)
from factflow_infra_testing.broker.lanes import LATENCY
from factflow_infra_testing.search.network_faults import CONNECT_CUT, CONNECT_REFUSED, MUTE, UNANSWERED
from factflow_infra_testing.simulation.owners import current_owner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from factflow_infra_testing.wire.pulsar.frontend import PulsarFrontEnd

    Connected = Callable[[str, "ClientConnection | None"], None]

OPEN: Final = "open"
CLOSING: Final = "closing"
CLOSED: Final = "closed"
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_TOPIC: Final = re.compile(r"(?:non-)?persistent://[^/]+/[^/]+/.+")
LABORATORY: Final = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """What listens at an address. ``exposed``: the test's own clients meet the faults too; ``client``: what they are called."""

    front_end: PulsarFrontEnd
    exposed: bool = False
    client: str = ""


class ApiClient:
    """As ``_pulsar.Client``. ``addresses``: hosts and ports, which it tries in turn; ``services``: what listens where.

    It belongs to the process in which it was made.
    """

    def __init__(
        self,
        loop: Any,
        configuration: Any,
        addresses: Sequence[tuple[str, int]],
        services: Mapping[tuple[str, int], Listening],
    ) -> None:
        self.loop = loop
        self.operation_timeout = float(configuration.operation_timeout_seconds())
        self._connection_timeout = configuration.connection_timeout() / 1000
        self._addresses = addresses
        self._services = services
        self._attempts = 0
        self._owner = current_owner()
        self._state = OPEN
        self._connection: ClientConnection | None = None
        self._connecting: list[Connected] = []
        self._handlers: dict[Producer | Consumer, None] = {}
        self._numbers = {"producer": 0, "consumer": 0, "request": 0}

    # --- what the library calls -------------------------------------------------------------------------------------

    def create_producer_async_v2(self, topic: str, configuration: Any, callback: Callable[[Any], None]) -> None:
        """``callback`` gets the producer, or the error."""
        self._create(topic, callback, lambda created: Producer(self, topic, configuration, created))

    def subscribe_async_v2(
        self, topic: str, subscription: str, configuration: Any, callback: Callable[[Any], None]
    ) -> None:
        """``callback`` gets the consumer, or the error."""
        self._create(topic, callback, lambda created: Consumer(self, topic, subscription, configuration, created))

    def create_reader_async_v2(
        self, topic: str, start: Any, configuration: Any, callback: Callable[[Any], None]
    ) -> None:
        """``callback`` gets the reader, or the error."""
        self._create(topic, callback, lambda created: Reader(self, topic, start, configuration, created))

    def get_topic_partitions_async(self, topic: str, callback: Callable[[Any, list[str]], None]) -> None:
        """``callback`` gets the result and the names: of a topic without partitions, its own."""
        if self._state != OPEN:
            callback(result_value(ALREADY_CLOSED), [])
            return
        self._ask(
            "partitioned_metadata", topic, lambda result, _: callback(result_value(result), [topic][: result == OK])
        )

    def close_async(self, callback: Callable[[Any], None] | None) -> None:
        """Close all that it made, each with the broker's answer or after the operation timeout; then itself."""
        if self._state != OPEN:
            if callback is not None:
                callback(result_value(ALREADY_CLOSED))
            return
        self._state = CLOSING
        handlers, self._handlers = self._handlers, {}
        left, worst = len(handlers), OK

        def closed(result: str) -> None:
            nonlocal left, worst
            if worst == OK:
                worst = result
            left -= 1
            if left <= 0 and self._state != CLOSED:
                self.shutdown()
                if callback is not None:
                    callback(result_value(worst))

        for handler in handlers:
            handler.close(closed)
        if not handlers:
            closed(OK)

    def shutdown(self) -> None:
        """End at once: connections are closed, and who still waits is told."""
        self._state = CLOSED
        handlers, self._handlers = self._handlers, {}
        for handler in handlers:
            handler.end()
        if self._connection is not None:
            self._connection.close()
        waiting, self._connecting = self._connecting, []
        for connected in waiting:
            connected(ALREADY_CLOSED, None)

    # --- for what it made -------------------------------------------------------------------------------------------

    def new_producer(self) -> int:
        return self._next("producer")

    def new_consumer(self) -> int:
        return self._next("consumer")

    def new_request(self) -> int:
        return self._next("request")

    def _next(self, kind: str) -> int:
        number = self._numbers[kind]
        self._numbers[kind] = number + 1
        return number

    @staticmethod
    def random_name(length: int) -> str:
        return "".join(random.choice(_LETTERS) for _ in range(length))  # noqa: S311 - a name, not a secret

    def forget(self, handler: Producer | Consumer) -> None:
        """It is closed."""
        self._handlers.pop(handler, None)

    def connection_for(self, topic: str, connected: Connected) -> None:
        """Look the topic up, and give the connection to where it is."""

        def looked_up(result: str, connection: ClientConnection | None) -> None:
            if result == OK and connection is not None and connection.open:
                connected(OK, connection)
            else:
                connected(result if result != OK else RETRYABLE, None)

        self._ask("lookup", topic, looked_up)

    # --- asking -----------------------------------------------------------------------------------------------------

    def _create(
        self,
        topic: str,
        callback: Callable[[Any], None],
        make: Callable[[Callable[[str, str], None]], Producer | Consumer | Reader],
    ) -> None:
        if self._state != OPEN:
            callback(ClientError(ALREADY_CLOSED))
            return
        if _TOPIC.fullmatch(topic) is None:
            callback(ClientError("InvalidTopicName"))
            return

        def known(result: str, connection: ClientConnection | None) -> None:
            del connection
            if result != OK:
                callback(ClientError(result))
                return
            if self._state != OPEN:
                callback(ClientError(ALREADY_CLOSED))
                return
            made: list[Producer | Consumer | Reader] = []

            def created(outcome: str, text: str) -> None:
                handler = made[0]
                if outcome == OK:
                    callback(handler)
                else:
                    self.forget(handler.consumer if isinstance(handler, Reader) else handler)
                    callback(ClientError(outcome, text))

            made.append(make(created))
            handler = made[0]
            self._handlers[handler.consumer if isinstance(handler, Reader) else handler] = None

        self._ask("partitioned_metadata", topic, known)

    def _ask(self, request: str, topic: str, done: Connected) -> None:
        """Ask about a topic, again and again until the operation timeout (``RetryableOperation``)."""
        backoff = Backoff(self.loop, longest=2 * self.operation_timeout)

        def attempt(remaining: float) -> None:
            def answered(result: str, connection: ClientConnection | None) -> None:
                if self._state == CLOSED:
                    done(ALREADY_CLOSED, None)
                elif result == OK or not is_retryable(result):
                    done(result, connection)
                elif remaining <= 0:
                    done(TIMEOUT, None)
                else:
                    delay = min(backoff.next(), remaining)
                    self.loop.call_later(delay, attempt, remaining - delay)

            def connected(result: str, connection: ClientConnection | None) -> None:
                if result != OK or connection is None:
                    answered(result, None)
                    return
                fields = {"topic": topic}
                connection.request(
                    self.new_request(), request, fields, lambda outcome, _: answered(outcome, connection)
                )

            self._connect(connected)

        attempt(self.operation_timeout)

    def _connect(self, connected: Connected) -> None:
        if self._state == CLOSED:
            connected(ALREADY_CLOSED, None)
        elif self._connection is not None:
            connected(OK, self._connection)
        else:
            self._connecting.append(connected)
            if len(self._connecting) == 1:
                self.loop.call_later(2 * LATENCY, self._reach)

    def _reach(self) -> None:
        address = self._addresses[self._attempts % len(self._addresses)]
        self._attempts += 1
        listening = self._services.get(address)
        if listening is None:
            self._tell(RETRYABLE, None)
            return
        owner, server = self._owner, listening.front_end.server
        name = listening.client or (LABORATORY if owner is None else owner.name)
        exposed = listening.exposed or owner is not None
        there = address[0] if address[0] in server.hosts else server.hosts[0]
        if self._state == CLOSED:
            self._tell(ALREADY_CLOSED, None)
        elif exposed and not server.host_is_up(there):
            self._tell(RETRYABLE, None)
        elif listening.front_end.down:
            # The test's own does not meet a restart: it waits for the end of it.
            self.loop.call_at(server.up_at, self._reach)
        elif exposed and (fault := server.meet_connect(name, there))[0]:
            # Tried again in any case (PUL-13); at once, or when nothing has been heard for the time to connect.
            silent = fault in ((CONNECT_REFUSED, UNANSWERED), (CONNECT_CUT, MUTE))
            self.loop.call_later(self._connection_timeout if silent else LATENCY, self._tell, RETRYABLE, None)
        else:
            ClientConnection(
                listening.front_end,
                name,
                exposed=exposed,
                hosts=("localhost" if owner is None else owner.host, there),
                operation_timeout=self.operation_timeout,
                on_ready=self._greeted,
                on_closed=self._lost,
            )

    def _greeted(self, result: str, connection: ClientConnection) -> None:
        if result == OK and self._state != CLOSED:
            self._connection = connection
            self._tell(OK, connection)
        else:
            self._tell(RETRYABLE, None)

    def _lost(self, connection: ClientConnection) -> None:
        if self._connection is connection:
            self._connection = None

    def _tell(self, result: str, connection: ClientConnection | None) -> None:
        waiting, self._connecting = self._connecting, []
        for connected in waiting:
            connected(result, connection)
