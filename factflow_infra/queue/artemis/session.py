"""One STOMP connection, from login to loss: receipts, heart-beats, a farewell that is always said, and no waiting for ever.

It uses stompman's connection, frames and codec, not its ``Client``, whose habits are those of a client that owns its own
reconnecting: it replays subscriptions and open transactions on the next connection, drops acks of the last one with a
log line, takes a send for done when it is written, does not miss heart-beats, and waits for ever for its subscriptions
when it is left. Here the engine owns reconnecting, so a connection lives once, and what was under way on it when it ended
is told so.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Final, cast

from stompman import (
    ConnectedFrame,
    ConnectFrame,
    ConnectionLostError,
    DisconnectFrame,
    ErrorFrame,
    MessageFrame,
    ReceiptFrame,
    UnsubscribeFrame,
    dump_frame,
)
from stompman.connection import Connection

from factflow_infra.errors import QueueAuthenticationError, QueueConnectionError, QueueError
from factflow_infra.queue.artemis.failures import LostError, connect_error, refusal_of, request_error
from factflow_infra.queue.artemis.heartbeats import Heartbeats, agree
from factflow_infra.queue.causes import cause_text

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from stompman import AnyClientFrame, AnyServerFrame, SendFrame, SubscribeFrame

CLOSE_TIMEOUT_SECONDS: Final = 5.0
CLIENT_ID: Final = "factflow"
"""The same for all: Artemis lets connections share it, and with it the durable subscriptions (ART-14)."""
_CHUNK_BYTES: Final = 64 * 1024
"""Read at once. The client's parser goes byte by byte, and nothing else runs while it works one off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtemisOptions:
    """What the transport needs to know. ``hosts``: (host, port), tried in order. Times are in seconds.

    ``heartbeat`` 0: none are expected. ``request_timeout`` bounds every request but publishing, whose bound is the
    caller's.
    """

    hosts: tuple[tuple[str, int], ...]
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ssl_context: Callable[[], ssl.SSLContext] | None = None
    heartbeat: float = 30.0
    connect_timeout: float = 10.0
    request_timeout: float = 30.0


class Session:
    """A live connection. Made by ``open_session``; what is published and consumed on it ends with it."""

    def __init__(self, connection: Connection, options: ArtemisOptions, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.endpoint = f"{host}:{port}"
        self.lost = False
        self._connection = connection
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._answers: dict[str, asyncio.Future[Exception | None]] = {}
        self._serial = count(1)
        self._connected: asyncio.Future[Exception | ConnectedFrame] = self._loop.create_future()
        self._subscriptions: dict[str, Callable[[MessageFrame], None]] = {}
        self._heartbeats: Heartbeats | None = None
        self._on_lost: Callable[[Exception], None] | None = None
        self._reader = self._loop.create_task(self._read(), name=f"factflow-artemis-read {self.endpoint}")

    def watch(self, on_lost: Callable[[Exception], None]) -> None:
        """Have ``on_lost`` called once when the connection ends other than by ``close``."""
        self._on_lost = on_lost

    async def log_in(self) -> None:
        """CONNECT, and the heart-beats that are agreed on."""
        interval = round(self._options.heartbeat * 1000)
        headers = {
            "accept-version": "1.2",
            "host": self.host,
            "heart-beat": f"{interval},{interval}",
            "client-id": CLIENT_ID,
        }
        if self._options.user is not None:
            headers["login"] = self._options.user
        if self._options.password is not None:
            headers["passcode"] = self._options.password
        await self._write(ConnectFrame(headers=cast("Any", headers)))
        answer = await self._connected
        if isinstance(answer, Exception):
            raise answer
        if (version := answer.headers.get("version")) != "1.2":
            raise LostError(f"it speaks STOMP {version}, not 1.2")
        self._heartbeats = Heartbeats(
            agree(interval, answer.headers.get("heart-beat")),
            self._loop,
            beat=self._beat,
            last_read=lambda: self._connection.last_read_time,
            on_silence=self._silent,
        )

    async def subscribe(self, frame: SubscribeFrame, on_message: Callable[[MessageFrame], None], what: str) -> None:
        """Return once the subscription is live. Raises ``QueueConnectionError``, ``QueueAuthenticationError``."""
        name = frame.headers["id"]
        self._subscriptions[name] = on_message
        try:
            async with asyncio.timeout(self._options.request_timeout):
                await self.answered(frame)
        except BaseException as error:
            self.unsubscribe(name)
            if isinstance(error, TimeoutError):
                raise QueueConnectionError(
                    f"{what}: Artemis at {self.endpoint} did not answer in {self._options.request_timeout} s"
                ) from error
            if isinstance(error, Exception):
                raise request_error(error, what) from error
            raise

    def unsubscribe(self, name: str) -> None:
        """End a subscription: what it holds unacked goes back, and what is still under way to it is ignored."""
        if self._subscriptions.pop(name, None) is not None and not self.lost:
            self._connection.writer.write(dump_frame(UnsubscribeFrame(headers={"id": name})))

    async def answered(self, frame: SendFrame | SubscribeFrame) -> None:
        """Write ``frame``, and return once the broker has answered with its RECEIPT. Raises ``LostError``, ``RefusedError``."""
        receipt = str(next(self._serial))
        frame.headers["receipt"] = receipt
        answer = self._answers[receipt] = self._loop.create_future()
        try:
            await self._write(frame)
            error = await answer
        finally:
            self._answers.pop(receipt, None)
        if error is not None:
            raise error

    async def write(self, frame: AnyClientFrame) -> None:
        """Write ``frame``, which the broker does not answer. Raises ``LostError``."""
        await self._write(frame)

    async def _write(self, frame: AnyClientFrame) -> None:
        if self.lost:
            raise LostError("the connection is closed")
        try:
            await self._connection.write_frame(frame)
        except (ConnectionLostError, OSError) as error:
            self.end(_reason(error))
            raise LostError(cause_text(_reason(error))) from error

    async def close(self) -> None:
        """Say goodbye, and close in bounded time; never raises. What is held goes back, and acks written before count."""
        self._on_lost = None
        if self.lost:
            return
        receipt = str(next(self._serial))
        answer = self._answers[receipt] = self._loop.create_future()
        self._say_goodbye(receipt)
        try:
            await asyncio.wait([answer], timeout=CLOSE_TIMEOUT_SECONDS)
        finally:
            self.end(None)

    def _say_goodbye(self, receipt: str) -> None:
        # UNSUBSCRIBE first: what it gives back is no delivery attempt, unlike what DISCONNECT does (ART-2); and a
        # connection that ends without either can leave messages behind (ART-4).
        for name in list(self._subscriptions):
            self.unsubscribe(name)
        self._connection.writer.write(dump_frame(DisconnectFrame(headers={"receipt": receipt})))

    async def ended(self) -> None:
        """Return when nothing is read any more: at most ``CLOSE_TIMEOUT_SECONDS`` after a refusal."""
        await asyncio.wait([self._reader])

    def abort(self) -> None:
        """Cut the socket: as a lost connection."""
        self._connection.writer.transport.abort()

    def end(self, reason: Exception | None, *, politely: bool = False, listening: bool = False) -> None:
        """It is over: tell all who wait. ``politely``: with a farewell, where the socket may still carry it. ``listening``: the
        broker is about to close it, and may answer some more before; who waits for that is told when it has.
        """
        if self.lost:
            return
        if politely:
            self._say_goodbye(str(next(self._serial)))
        self.lost = True
        if self._heartbeats is not None:
            self._heartbeats.stop()
        transport = self._connection.writer.transport
        if politely:
            transport.close()
        if politely or listening:
            self._loop.call_later(CLOSE_TIMEOUT_SECONDS, transport.abort)
        self._subscriptions.clear()
        if not self._connected.done():
            self._connected.set_result(reason or LostError("the connection was closed"))
        if not listening:
            self._reader.cancel()
            self._leave_unanswered(reason)
            if not politely:
                transport.abort()
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None:
            lost = QueueConnectionError(f"lost the connection to Artemis at {self.endpoint}: {cause_text(reason)}")
            lost.__cause__ = reason
            on_lost(lost)

    def _leave_unanswered(self, reason: Exception | None) -> None:
        for answer in list(self._answers.values()):
            if not answer.done():
                answer.set_result(LostError(cause_text(reason)))

    async def _read(self) -> None:
        reason: Exception
        try:
            # Needs no closing: it is over once it has raised, which is how it ends, and between two frames it holds nothing.
            async for frame in self._connection.read_frames():
                self._take(frame)
            reason = LostError("the connection was closed")
        except Exception as error:  # noqa: BLE001  # whatever the socket or a parser of foreign bytes raises ends it
            reason = _reason(error)
        self.end(reason)
        self._leave_unanswered(reason)
        self._connection.writer.transport.abort()

    def _take(self, frame: AnyServerFrame) -> None:
        match frame:
            case MessageFrame():
                if (on_message := self._subscriptions.get(frame.headers["subscription"])) is not None:
                    on_message(frame)
            case ReceiptFrame():
                answer = self._answers.get(frame.headers["receipt-id"])
                if answer is not None and not answer.done():
                    answer.set_result(None)
            case ErrorFrame():
                self._refused(frame)
            case ConnectedFrame():
                if not self._connected.done():
                    self._connected.set_result(frame)
            case _:
                pass

    def _refused(self, frame: ErrorFrame) -> None:
        # The broker closes the connection after every ERROR (ART-6). What else was under way may be answered before (ART-37).
        refusal = refusal_of(frame)
        answer = self._answers.get(frame.headers.get("receipt-id", ""))
        if answer is None and len(self._answers) == 1:
            # Of a SUBSCRIBE it does not say which one it is about.
            (answer,) = self._answers.values()
        if answer is not None and not answer.done():
            refusal.answers = True
            answer.set_result(refusal)
        self.end(refusal, listening=refusal.answers and not all(one.done() for one in self._answers.values()))

    def _beat(self) -> None:
        try:
            self._connection.write_heartbeat()
        except ConnectionLostError as error:
            self.end(_reason(error))

    def _silent(self, seconds: float) -> None:
        self.end(TimeoutError(f"nothing came from it for {seconds:g} s, not even a heart-beat"), politely=True)


def _reason(error: Exception) -> Exception:
    if isinstance(error, ConnectionLostError):
        return (
            error.reason
            if isinstance(error.reason, Exception)
            else LostError(f"the connection was closed ({error.reason})")
        )
    return error


async def open_session(options: ArtemisOptions, hosts: tuple[tuple[str, int], ...] | None = None) -> Session:
    """Connect to the first of ``hosts`` (all of them, unless given) that answers.

    Raises ``QueueConnectionError``, or ``QueueAuthenticationError`` for wrong credentials.
    """
    failure: QueueError | None = None
    for host, port in hosts or options.hosts:
        try:
            return await _open(options, host, port)
        except QueueAuthenticationError:
            raise
        except QueueError as error:
            failure = error
    assert failure is not None
    raise failure


async def _open(options: ArtemisOptions, host: str, port: int) -> Session:
    context = options.ssl_context() if options.ssl_context is not None else None
    session: Session | None = None
    try:
        async with asyncio.timeout(options.connect_timeout):
            # Not stompman's own connect(), which hides why it failed.
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
            connection = Connection(reader=reader, writer=writer, read_max_chunk_size=_CHUNK_BYTES, ssl=context)
            session = Session(connection, options, host, port)
            await session.log_in()
    except BaseException as error:
        if session is not None:
            session.end(None)
        if not isinstance(error, Exception):
            raise
        raise connect_error(error, endpoint=f"{host}:{port}", user=options.user) from error
    return session
