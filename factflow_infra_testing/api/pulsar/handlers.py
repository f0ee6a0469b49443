"""What producers and consumers share: a state, a connection that is made again with backoff, a start that may time out."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

from factflow_infra_testing.api.pulsar.results import DISCONNECTED, OK, TIMEOUT, is_retryable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from factflow_infra_testing.api.pulsar.client import ApiClient
    from factflow_infra_testing.api.pulsar.connection import ClientConnection

PENDING: Final = "pending"
READY: Final = "ready"
CLOSING: Final = "closing"
CLOSED: Final = "closed"
FAILED: Final = "failed"

FIRST_BACKOFF: Final = 0.1
LONGEST_BACKOFF: Final = 60.0


class Backoff:
    """Doubles from 100 ms, less up to 9 %; ``stop``: once, the sum of the waits ends there (``Backoff``)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, longest: float = LONGEST_BACKOFF, stop: float = 0.0) -> None:
        self._loop = loop
        self._longest = longest
        self._stop = stop
        self._first_at = 0.0
        self.reset()

    def reset(self) -> None:
        self._next = FIRST_BACKOFF
        self._stopped = False

    def next(self) -> float:
        """How long to wait now, in seconds."""
        current = self._next
        self._next = min(2 * current, self._longest)
        if not self._stopped:
            now = self._loop.time()
            elapsed = 0.0
            if current == FIRST_BACKOFF:
                self._first_at = now
            else:
                elapsed = now - self._first_at
            if elapsed + current > self._stop:
                current = max(FIRST_BACKOFF, self._stop - elapsed)
                self._stopped = True
        current -= current * random.randrange(10) / 100  # noqa: S311 - the run's own randomness
        return max(FIRST_BACKOFF, current)


class Handler:
    """``HandlerBase``. ``created`` is called once: with ``Ok`` when it is there, else with why not."""

    def __init__(
        self, client: ApiClient, topic: str, created: Callable[[str, str], None], *, backoff_stop: float = 0.0
    ) -> None:
        self.client = client
        self.loop = client.loop
        self.topic_name = topic
        self.state = PENDING
        self.connection: ClientConnection | None = None
        self._created: Callable[[str, str], None] | None = created
        self._begun = self.loop.time()
        self._backoff = Backoff(self.loop, stop=backoff_stop)
        self._reconnecting = False
        self._retry: asyncio.TimerHandle | None = None
        self._limit = self.loop.call_later(client.operation_timeout, self._start_overdue)
        self._grab()

    # --- for subclasses ---------------------------------------------------------------------------------------------

    def open_on(self, connection: ClientConnection, done: Callable[[str, str], None]) -> None:
        """Make it known to the broker; ``done`` with the outcome, ``Ok`` or not, and the broker's words."""
        raise NotImplementedError

    def take(self, name: str, fields: Mapping[str, Any], content: Any) -> None:
        """A command of the broker's is for it."""
        raise NotImplementedError

    def opened(self) -> None:
        """It is there, for the first time or again."""
        self.state = READY
        self._backoff.reset()
        self.finish_creation(OK)

    def finish_creation(self, result: str, text: str = "") -> bool:
        """Tell who asked for it, once; whether nobody had been told."""
        created, self._created = self._created, None
        self._limit.cancel()
        if created is None:
            return False
        created(result, text)
        return True

    @property
    def is_created(self) -> bool:
        return self._created is None

    # --- connecting -------------------------------------------------------------------------------------------------

    def is_connected(self) -> bool:
        return self.connection is not None and self.state == READY

    def _start_overdue(self) -> None:
        if self._created is not None:
            self.state = FAILED
            self._cancel_retry()
            self.finish_creation(TIMEOUT)

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _grab(self) -> None:
        if self._reconnecting or self.connection is not None:
            return
        self._reconnecting = True
        self.client.connection_for(self.topic_name, self._grabbed)

    def _grabbed(self, result: str, connection: ClientConnection | None) -> None:
        if self.state not in (PENDING, READY):
            self._reconnecting = False
            return
        if result != OK or connection is None:
            self._reconnecting = False
            if not is_retryable(result) and self._created is not None:
                self.state = FAILED
                self.finish_creation(result)
                return
            self._reconnect_later()
            return
        self.open_on(connection, self._open_done)

    def _open_done(self, result: str, text: str) -> None:
        self._reconnecting = False
        if result == OK:
            return
        if self._created is None:
            self.connection = None
            self._reconnect_later()
            return
        if is_retryable(result) and self.loop.time() - self._begun >= self.client.operation_timeout:
            result = TIMEOUT
        if is_retryable(result):
            self.connection = None
            self._reconnect_later()
        else:
            self.state = FAILED
            self.finish_creation(result, text)

    def disconnected(self, connection: ClientConnection) -> None:
        """Its connection is lost: it comes back by itself, but not at once."""
        if self.connection is None or self.connection is connection:
            self.drop_connection()

    def drop_connection(self) -> None:
        """Have it connected anew, after a while."""
        self.connection = None
        self._reconnect_later()

    def _reconnect_later(self) -> None:
        if self.state in (PENDING, READY):
            self._cancel_retry()
            self._retry = self.loop.call_later(self._backoff.next(), self._grab)

    def end(self) -> None:
        """It is closed, whatever comes."""
        self.state = CLOSED
        self.connection = None
        self._cancel_retry()
        self.finish_creation("AlreadyClosed")

    def close_with(self, request: str, fields: Mapping[str, Any], done: Callable[[str], None]) -> None:
        """Say goodbye; ``done`` with how that went. Without a connection there is nobody to say it to."""
        connection = self.connection
        if connection is None:
            done(OK)
            return
        connection.request(self.client.new_request(), request, fields, lambda result, _: done(result))


__all__ = ["CLOSED", "CLOSING", "DISCONNECTED", "FAILED", "PENDING", "READY", "Backoff", "Handler"]
