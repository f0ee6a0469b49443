"""Keeping one connection: on first use, one attempt shared by all who wait, and back again when it is lost."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from factflow_infra.errors import InfraError, QueueConnectionError, QueueStoppedError
from factflow_infra.queue.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from factflow_infra.queue.options import EngineOptions
    from factflow_infra.queue.tasks import Tasks
    from factflow_infra.queue.transport import Transport

_log = logging.getLogger("factflow_infra.queue")


class ConnectionKeeper:
    """Connects ``transport``; calls ``on_up`` for each connection, and ``on_down`` when it is lost."""

    def __init__(
        self,
        transport: Transport,
        options: EngineOptions,
        tasks: Tasks,
        *,
        on_up: Callable[[], None],
        on_down: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._options = options
        self._tasks = tasks
        self._on_up = on_up
        self._on_down = on_down
        self._backoff = Backoff(options.reconnect_base, options.reconnect_cap)
        self._attempt: asyncio.Task[InfraError | None] | None = None
        self._loop_task: asyncio.Task[None] | None = None
        self._generation = 0
        self._stopped = False
        self.connected = False
        self.attempts = 0
        """Attempts since the connection was lost; 0 while connected."""

    @property
    def reconnecting(self) -> bool:
        return self._loop_task is not None and not self._loop_task.done()

    async def ensure(self) -> None:
        """Return once connected. One attempt is shared by all who wait; its failure is raised to each.

        Raises ``QueueConnectionError``, ``QueueAuthenticationError``, ``QueueStoppedError``, and ``SettingsError`` where a file
        that the settings name cannot be used.
        """
        while not self.connected:
            if self._stopped:
                raise QueueStoppedError("the provider was stopped before it was connected")
            error = await self._try()
            if error is not None:
                # A fresh exception for each waiter: one instance raised in many tasks grows one common traceback.
                raise type(error)(str(error), retryable=error.retryable) from (error.__cause__ or error)

    async def _try(self) -> InfraError | None:
        if self._attempt is None or self._attempt.done():
            self._attempt = self._tasks.start(self._connect(), "factflow-queue-connect")
        attempt = self._attempt
        try:
            return await asyncio.shield(attempt)
        except asyncio.CancelledError:
            if attempt.cancelled() and self._stopped:
                return QueueStoppedError("the provider was stopped while it was connecting")
            raise

    async def _connect(self) -> InfraError | None:
        self._generation += 1
        generation = self._generation
        lost: list[Exception | None] = []

        def on_lost(error: Exception | None) -> None:
            lost.append(error)
            if generation == self._generation and self.connected:
                self._lost(error)

        self.attempts += 1
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                await self._transport.connect(on_lost)
        except TimeoutError as error:
            return _chained(f"no connection within {self._options.connect_timeout} s", error)
        except InfraError as error:
            return error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return _chained("the connection attempt was cancelled from within the client library", error)
        if lost:
            return _chained(f"the connection was lost at once: {lost[0]}", lost[0])
        self.connected = True
        self.attempts = 0
        self._backoff.succeeded(self._tasks.loop.time())
        self._on_up()
        return None

    def _lost(self, error: Exception | None) -> None:
        self.connected = False
        self._backoff.failed(self._tasks.loop.time())
        _log.warning("connection lost, reconnecting: %s", error)
        self._on_down()
        if not self.reconnecting and not self._stopped:
            self._loop_task = self._tasks.start(self._reconnect(), "factflow-queue-reconnect")

    async def _reconnect(self) -> None:
        while not self.connected:
            await asyncio.sleep(self._backoff.next())
            if self.connected:
                return  # who publishes meanwhile has connected already
            error: Exception | None
            try:
                error = await self._try()
            except Exception as unexpected:  # noqa: BLE001  # told to the loop, by the attempt's task; it must not be the last
                error = unexpected
            if error is not None:
                # Wrong credentials and settings too: those of a running service are more often put right than given up.
                _log.warning("attempt %d to reconnect failed: %s", self.attempts, error)

    def stop_reconnecting(self) -> None:
        """Start no more attempts by ourselves; ``ensure`` still works."""
        if self._loop_task is not None:
            self._loop_task.cancel()

    def give_up(self) -> None:
        """Who waits for a connection waits no longer: ``QueueStoppedError``."""
        self._stopped = True
        self.stop_reconnecting()
        if self._attempt is not None:
            self._attempt.cancel()

    async def close(self) -> None:
        """Close for good."""
        self.give_up()
        if self._attempt is not None:
            await asyncio.wait([self._attempt], timeout=self._options.cancel_grace)
        self._generation += 1
        self.connected = False
        closing = self._tasks.start(self._transport.close(), "factflow-queue-close")
        # The transport promises to be quick; if it is not, it is left behind rather than waited for.
        await asyncio.wait([closing], timeout=self._options.connect_timeout)
        self._on_down()


def _chained(message: str, cause: BaseException | None) -> QueueConnectionError:
    error = QueueConnectionError(message)
    error.__cause__ = cause
    return error
