"""The one place where a client of pulsar-client is made, and all of its interface that the provider uses.

``open_client`` is looked up in this module at each call. What it returns is a ``pulsar.asyncio.Client``, and the provider calls
nothing of it and of what it makes but what the protocols below list. Enumerations go in as members of ``pulsar``
(``ConsumerType``, ``InitialPosition``, ``MessageId.latest``); errors come out as ``pulsar.asyncio.PulsarException``, whose
``error()`` is a member of ``pulsar.Result`` and is read by its name.

What the client is asked for, and never anything else:

- a client: ``create_producer``, ``subscribe``, ``create_reader``, ``get_topic_partitions`` (as a ping), ``close``, ``shutdown``;
- a producer: ``send``, ``is_connected``, ``close``. Always without batches (``batching_enabled=False``);
- a consumer: ``receive``, ``acknowledge``, ``negative_acknowledge``, ``close``, and ``is_connected``, which 3.13 has only on the
  object beneath it (``_consumer``). Always ``Shared`` or ``KeyShared``, always durable;
- a reader: ``read_next``, ``is_connected``, ``close``;
- a message: ``data``, ``properties``, ``message_id``, ``redelivery_count``, ``publish_timestamp``, ``event_timestamp``,
  ``partition_key``, ``ordering_key``; of its id ``ledger_id``, ``entry_id``, ``partition``, ``batch_index``.

``shutdown`` ends the client's threads. After it nothing calls back, and what was not answered never is; before it, a callback
that meets a closed event loop ends the process (PUL-14).
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from functools import wraps
from importlib import import_module
from threading import get_ident
from types import coroutine
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Mapping
    from datetime import timedelta
    from typing import TypeVar

    T = TypeVar("T")


class MessageId(Protocol):
    def ledger_id(self) -> int: ...
    def entry_id(self) -> int: ...
    def partition(self) -> int: ...
    def batch_index(self) -> int: ...


class Message(Protocol):
    def data(self) -> bytes: ...
    def properties(self) -> Mapping[str, str]: ...
    def message_id(self) -> MessageId: ...
    def redelivery_count(self) -> int: ...
    def publish_timestamp(self) -> int: ...
    def event_timestamp(self) -> int: ...
    def partition_key(self) -> str: ...
    def ordering_key(self) -> str: ...


class Producer(Protocol):
    async def send(
        self,
        content: bytes,
        properties: dict[str, str] | None = None,
        partition_key: str | None = None,
        *,
        event_timestamp: int | None = None,
        deliver_after: timedelta | None = None,
    ) -> object: ...
    def is_connected(self) -> bool: ...
    async def close(self) -> None: ...


class Consumer(Protocol):
    async def receive(self) -> Message: ...
    async def acknowledge(self, message: Message) -> None: ...
    async def negative_acknowledge(self, message: Message) -> None: ...
    async def close(self) -> None: ...


class Reader(Protocol):
    async def read_next(self) -> Message: ...
    def is_connected(self) -> bool: ...
    async def close(self) -> None: ...


class Client(Protocol):
    async def create_producer(
        self,
        topic: str,
        *,
        batching_enabled: bool,
        block_if_queue_full: bool,
        max_pending_messages: int,
        send_timeout_millis: int,
    ) -> Producer: ...
    async def subscribe(
        self,
        topic: str,
        subscription_name: str,
        *,
        consumer_type: Any,
        initial_position: Any,
        receiver_queue_size: int,
        negative_ack_redelivery_delay_ms: int,
    ) -> Consumer: ...
    async def create_reader(self, topic: str, start_message_id: Any, *, receiver_queue_size: int) -> Reader: ...
    async def get_topic_partitions(self, topic: str) -> list[str]: ...
    async def close(self) -> None: ...
    def shutdown(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PulsarOptions:
    """What the transport needs to know. Times are in seconds.

    ``service_url``: ``pulsar://host:port`` or ``pulsar+ssl://``, hosts of one cluster with commas between. ``token``:
    a JSON web token. ``key_shared``: whether consumers of queues are ``Key_Shared``, all of them, rather
    than ``Shared``. ``heartbeat``: a broker that is silent for so long is given up; 0 switches that off. ``request_timeout``
    bounds every request but publishing, ``send_timeout`` publishing.
    """

    service_url: str
    token: str | None = field(default=None, repr=False)
    tls_ca_file: str | None = None
    tls_cert_file: str | None = None
    tls_key_file: str | None = None
    tls_verify: bool = True
    tenant: str = "public"
    namespace: str = "default"
    key_shared: bool = False
    heartbeat: float = 30.0
    request_timeout: float = 30.0
    send_timeout: float = 30.0


def library() -> Any:
    """The ``pulsar`` package, whose types are not known; loaded when it is first needed."""
    return import_module("pulsar")


def open_client(options: PulsarOptions) -> Client:
    """A client for ``options``; connects to nothing yet. Raises ``pulsar``'s own errors and ``ValueError`` for bad options."""
    pulsar, asyncio_api = library(), cast("Any", import_module("pulsar.asyncio"))
    _contain(asyncio_api)
    authentication = None
    if options.token is not None:
        authentication = pulsar.AuthenticationToken(options.token)
    elif options.tls_cert_file is not None:
        authentication = pulsar.AuthenticationTLS(options.tls_cert_file, options.tls_key_file)
    client = asyncio_api.Client(
        options.service_url,
        authentication=authentication,
        operation_timeout_seconds=max(1, int(options.request_timeout)),
        connection_timeout_ms=max(1, round(options.request_timeout * 1000)),
        tls_trust_certs_file_path=options.tls_ca_file,
        tls_certificate_file_path=options.tls_cert_file,
        tls_private_key_file_path=options.tls_key_file,
        tls_allow_insecure_connection=not options.tls_verify,
        tls_validate_hostname=options.tls_verify,
        # Its log would go to standard output. It counts for the whole process: the first client's is everybody's (PUL-16).
        logger=pulsar.FileLogger(pulsar.LoggerLevel.Error, os.devnull),
    )
    return cast("Client", client)


@coroutine
def at_once(call: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Await ``call``, a coroutine of the client. Where the client answers while it is being asked, as it does an ``acknowledge``
    and a ``receive`` with messages in its queue, this takes no turn of the event loop.
    """
    _asking.thread = get_ident()
    try:
        waiting = call.send(None)
    except StopIteration as done:
        return cast("T", done.value)
    finally:
        _asking.thread = 0
    try:
        yield waiting
    except BaseException as error:
        call.throw(error)
        raise
    return cast("T", (yield from cast("Any", call)))


@coroutine
def made_reader(call: Coroutine[Any, Any, Reader]) -> Generator[Any, Any, Reader]:
    """Await ``call``, a ``create_reader``, so that the client can ever be freed.

    A reader keeps the callback that told of its making, that keeps the future, and that the reader: a circle through C++,
    which leaves a thread and six descriptors behind for each client (PUL-25). The future is made to forget.
    """
    waiting: Any = None
    try:
        waiting = call.send(None)
        while True:
            try:
                yield waiting
            except BaseException as error:  # noqa: BLE001 - handed on, whatever it is
                waiting = call.throw(error)
            else:
                waiting = call.send(None)
    except StopIteration as done:
        reader = cast("Reader", done.value)
    held = getattr(reader, "_reader", None)
    if held is not None and isinstance(waiting, asyncio.Future) and waiting.result() is held:
        waiting.__init__(loop=waiting.get_loop())
    return reader


class _Asking:
    """The thread that is asking the client for something at the moment, or 0."""

    thread = 0


_asking: Final = _Asking()


class _AtOnce:
    """Stands in for a future that is to be completed in the thread of its event loop, by whoever runs there."""

    __slots__ = ("done", "set_exception", "set_result")

    def __init__(self, future: Any) -> None:
        self.done = future.done
        self.set_result = future.set_result
        self.set_exception = future.set_exception

    def get_loop(self) -> _AtOnce:
        return self

    def call_soon_threadsafe(self, callback: Callable[..., object], *arguments: object) -> None:
        callback(*arguments)


def _contain(asyncio_api: Any) -> None:
    """Let a callback that finds its event loop closed end there.

    It runs in a thread of the client, where an error ends the process (PUL-14); and nobody waits for it any more.
    """
    for name in ("_set_future", "_set_future_v2"):
        original = getattr(asyncio_api, name, None)
        if original is None or hasattr(original, "__wrapped__"):
            continue

        @wraps(original)
        def contained(future: Any, *values: Any, _original: Any = original, **named: Any) -> None:
            if _asking.thread == get_ident():
                _original(_AtOnce(future), *values, **named)
                return
            try:
                _original(future, *values, **named)
            except RuntimeError:
                if not future.get_loop().is_closed():
                    raise

        setattr(asyncio_api, name, contained)


def is_connected(handle: Any) -> bool:
    """Whether a producer, consumer or reader has its connection at the moment; the client reconnects by itself."""
    if not hasattr(handle, "is_connected"):
        handle = handle._consumer  # noqa: SLF001 - see above
    return bool(handle.is_connected())
