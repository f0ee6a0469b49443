"""One connection to RabbitMQ, from login to loss: opening it, its channels, noticing its end, closing it in time."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from aio_pika import Connection
from aiormq.exceptions import AMQPConnectionError
from yarl import URL

from factflow_infra.errors import QueueAuthenticationError, QueueConnectionError, QueueError
from factflow_infra.queue.causes import cause_text
from factflow_infra.queue.rabbitmq.failures import (
    cancellations,
    connect_error,
    is_foreign,
    topology_error,
)
from factflow_infra.queue.rabbitmq.handshake import CarefulTransport
from factflow_infra.queue.tasks import mark_seen

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    from aiormq import Channel
    from aiormq.abc import AbstractConnection

    T = TypeVar("T")

CLOSE_TIMEOUT_SECONDS: Final = 5.0
_FRAME_BUFFER: Final = 128
"""Frames a channel buffers before the connection's reader waits for it. The client's default of 10 costs a task switch
every third message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RabbitMqOptions:
    """What the transport needs to know. ``hosts``: (host, port), tried in order. Times are in seconds.

    ``queue_type``: ``quorum`` or ``classic``. ``heartbeat`` 0 switches heartbeats off. ``request_timeout`` bounds every
    request but publishing, whose bound is the caller's.
    """

    hosts: tuple[tuple[str, int], ...]
    user: str = "guest"
    password: str = field(default="guest", repr=False)
    vhost: str = "/"
    tls: bool = False
    ssl_context: Callable[[], ssl.SSLContext] | None = None
    heartbeat: int = 30
    connection_name: str | None = None
    connect_timeout: float = 10.0
    request_timeout: float = 30.0
    queue_type: str = "quorum"


class Session:
    """A live connection. Made by ``open_session``; everything declared, published and consumed belongs to one."""

    def __init__(self, connection: Connection, wire: CarefulTransport, options: RabbitMqOptions, endpoint: str) -> None:
        transport = connection.transport
        assert transport is not None
        self._connection = connection
        self._amqp: AbstractConnection = transport.connection
        self._wire = wire
        self._options = options
        self._ended = False
        self._on_lost: Callable[[Exception | None], None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.endpoint = endpoint
        self.unreadable = False
        """Whether it was lost over a frame that the client could not decode."""

    @property
    def lost(self) -> bool:
        return self._ended or self._amqp.is_closed

    @property
    def frame_max(self) -> int:
        return self._amqp.connection_tune.frame_max or 131_072

    @property
    def server_version(self) -> tuple[int, ...]:
        text = str((self._amqp.server_properties or {}).get("version", ""))
        return tuple(int(part) for part in text.split("-", maxsplit=1)[0].split(".") if part.isdigit())

    def watch(self, on_lost: Callable[[Exception | None], None]) -> None:
        """Have ``on_lost`` called once when the connection ends other than by ``close``."""
        self._on_lost = on_lost
        cast("Any", self._amqp).closing.add_done_callback(self._closed)

    async def channel(self, *, confirms: bool) -> Channel:
        """A new channel. Raises ``QueueConnectionError``."""
        channel = await self.request(
            lambda: self._amqp.channel(
                publisher_confirms=confirms, on_return_raises=confirms, frame_buffer_size=_FRAME_BUFFER
            ),
            "a channel",
        )
        return cast("Channel", channel)

    async def request(self, call: Callable[[], Awaitable[T]], what: str) -> T:
        """The result of ``call()``, a request to the broker about ``what``; its failures as our errors, and in time.

        It runs in a task of its own, which is left behind when it has to end: cancelled while the broker reads nothing, the
        client waits for room in its write queue, and would hold up whoever waits for it.
        """
        if self.lost:
            raise QueueConnectionError(f"not connected to RabbitMQ at {self.endpoint}")
        task = asyncio.ensure_future(call())
        task.add_done_callback(mark_seen)
        try:
            await asyncio.wait([task], timeout=self._options.request_timeout)
        finally:
            if not task.done():
                task.cancel()
        if not task.done():
            raise QueueConnectionError(
                f"{what}: RabbitMQ at {self.endpoint} did not answer in {self._options.request_timeout} s"
            )
        try:
            return task.result()
        except (Exception, asyncio.CancelledError) as error:
            # Of a channel that is asked of a closed connection the client says ``RuntimeError``.
            if not (is_foreign(error, cancellations()) or (isinstance(error, RuntimeError) and self.lost)):
                raise
            raise topology_error(error, what) from error

    def spawn(self, job: Awaitable[None]) -> None:
        """Run ``job`` in the background; ``close`` waits for it."""
        task = asyncio.ensure_future(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self, *farewell: Callable[[], Awaitable[None]]) -> None:
        """Close in bounded time, ``farewell`` first; never raises. Where the broker does not answer, cut the socket."""
        self._on_lost = None
        leaving = asyncio.ensure_future(self._leave(farewell))
        leaving.add_done_callback(mark_seen)
        try:
            await asyncio.wait([leaving], timeout=CLOSE_TIMEOUT_SECONDS)
        finally:
            self._ended = True
            self._wire.abort()
            self._release_writers()
            for task in (leaving, *self._tasks):
                task.cancel()
        await asyncio.wait([leaving], timeout=CLOSE_TIMEOUT_SECONDS)

    async def _leave(self, farewell: tuple[Callable[[], Awaitable[None]], ...]) -> None:
        for job in farewell:
            await job()
        self._ended = True
        await self._connection.close()

    def abort(self) -> None:
        """Cut the socket: as a lost connection."""
        self._wire.abort()

    def _closed(self, closing: asyncio.Future[Any]) -> None:
        error = None if closing.cancelled() else closing.exception()
        if self._ended:
            return
        self._ended = True
        self.unreadable = error is not None and not isinstance(
            error, (AMQPConnectionError, OSError, asyncio.CancelledError)
        )
        self._wire.abort()
        self._release_writers()
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None:
            lost = QueueConnectionError(f"lost the connection to RabbitMQ at {self.endpoint}: {cause_text(error)}")
            lost.__cause__ = error
            on_lost(lost)

    def _release_writers(self) -> None:
        # Whoever waits for room in the client's write queue would wait for ever: nothing takes from it any more. Each
        # frame taken lets one writer go on, and find its channel closed.
        queue: asyncio.Queue[Any] = cast("Any", self._amqp).write_queue
        taken = False
        with contextlib.suppress(asyncio.QueueEmpty):
            while True:
                queue.get_nowait()
                taken = True
        if taken:
            asyncio.get_running_loop().call_soon(self._release_writers)


async def open_session(options: RabbitMqOptions, *, mend_headers: bool) -> Session:
    """Connect to the first host that answers.

    Raises ``QueueConnectionError``, or ``QueueAuthenticationError`` for wrong credentials or virtual host.
    """
    failure: QueueError | None = None
    for host, port in options.hosts:
        try:
            return await _open(options, host, port, mend_headers=mend_headers)
        except QueueAuthenticationError:
            raise
        except QueueError as error:
            failure = error
    assert failure is not None
    raise failure


async def _open(options: RabbitMqOptions, host: str, port: int, *, mend_headers: bool) -> Session:
    endpoint = f"{host}:{port}"
    wire = CarefulTransport(tls=options.tls, mend_headers=mend_headers)
    context = options.ssl_context() if options.ssl_context is not None else None
    connection = Connection(_url(options, host, port), ssl_context=context)
    connection.kwargs["transport_factory"] = wire
    before = cancellations()
    try:
        await connection.connect(timeout=options.connect_timeout)
    except (Exception, asyncio.CancelledError) as error:
        wire.abort()
        await connection.close()
        if isinstance(error, asyncio.CancelledError) and not is_foreign(error, before):
            raise
        raise connect_error(
            error, endpoint=endpoint, user=options.user, vhost=options.vhost, refusal=wire.refusal
        ) from error
    return Session(connection, wire, options, endpoint)


def _url(options: RabbitMqOptions, host: str, port: int) -> URL:
    query = {"heartbeat": str(options.heartbeat)}
    if options.connection_name:
        query["name"] = options.connection_name
    base = URL.build(
        scheme="amqps" if options.tls else "amqp",
        user=options.user,
        password=options.password,
        host=host,
        port=port,
        path="/" + ("" if options.vhost == "/" else options.vhost),
    )
    return base.with_query(query)
