"""The one place where a client of pulsar-client is made, and all of its interface that the provider uses.

``open_client`` is looked up in this module at each call. What it returns is a ``pulsar.asyncio.Client``, and the provider calls
nothing of it and of what it makes but what the protocols below list. Enumerations go in as members of ``pulsar``
(``ConsumerType``, ``InitialPosition``, ``MessageId.latest``); errors come out as ``pulsar.asyncio.PulsarException``, whose
``error()`` is a member of ``pulsar.Result`` and is read by its name.

What the client is asked for, and never anything else:

- a client: ``create_producer``, ``subscribe``, ``create_reader``, ``get_topic_partitions`` (as a ping), ``close``; at exit
  ``shutdown`` and, of the object beneath it (``_client``), ``close_async``;
- a producer: ``is_connected``, ``close``; of the object beneath it (``_producer``) ``send_async``, with a message from
  ``_pulsar.MessageBuilder``. Always without batches (``batching_enabled=False``);
- a consumer: ``negative_acknowledge``, ``close``; of the object beneath it (``_consumer``) ``receive_async``,
  ``acknowledge_async`` and ``is_connected``. Always ``Shared`` or ``KeyShared``, always durable;
- a reader: ``read_next``, ``is_connected``, ``close``;
- a message: ``data``, ``properties``, ``message_id``, ``redelivery_count``, ``publish_timestamp``, ``event_timestamp``,
  ``partition_key``, ``ordering_key``; of its id ``ledger_id``, ``entry_id``, ``partition``, ``batch_index``.

What happens for each message goes past the library's own coroutines, to what those call: they wake the event loop once for each
answer, build a message id that nobody asked for, and take a turn of the loop for what the client has at hand.

Until a client has ended, a callback that meets a closed event loop ends the process (PUL-14). ``shutdown`` would end it at once, and
may hang the whole process (PUL-15): ``end`` has it closed, without an event loop, and shuts down only what does not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache, wraps
from importlib import import_module
from threading import Event, get_ident
from time import monotonic
from types import coroutine
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator, Iterable, Mapping


MANY: Final = 32
"""Answers to come for which the first of them is let wait. Measured: with 32 messages in flight 1.13 times as many a second."""
GATHER_SECONDS: Final = 0.0005
"""For how long; an event loop rounds it up to a millisecond."""


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
    def is_connected(self) -> bool: ...
    async def close(self) -> None: ...


class Consumer(Protocol):
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


@cache
def _extension() -> Any:
    """The compiled half of the library. What is in it is looked up at each use."""
    return import_module("_pulsar")


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


def end(clients: Iterable[Client], *, within: float) -> None:
    """Close ``clients`` and their threads, as the interpreter ends; wait for it ``within`` seconds. Never raises.

    ``shutdown`` holds the interpreter's lock while it waits for one that a thread of the client may have, which waits for the
    interpreter's (PUL-15). That takes a message on its way to a receive: there is none from a broker that does not even answer.
    """
    ending: list[tuple[Any, Event, list[bool]]] = []
    for client in clients:
        answered, good = Event(), [False]

        def closed(result: Any, *, answered: Event = answered, good: list[bool] = good) -> None:
            good[0] = int(result) == 0
            answered.set()

        with contextlib.suppress(Exception):
            cast("Any", client)._client.close_async(closed)  # noqa: SLF001 - see the module
            ending.append((client, answered, good))
    until = monotonic() + within
    for client, answered, good in ending:
        if not (answered.wait(max(until - monotonic(), 0.0)) and good[0]):
            with contextlib.suppress(Exception):
                client.shutdown()


def send(
    producer: Any,
    answer: Answer,
    body: bytes,
    properties: Mapping[str, str],
    key: str | None,
    event_time: int | None,
    delay: float,
) -> None:
    """Have a message sent. The answer comes once the broker has confirmed it, or has come already with a refusal."""
    builder = _extension().MessageBuilder()
    builder.content(body)
    builder.properties(properties)
    if key is not None:
        builder.partition_key(key)
    if event_time is not None:
        builder.event_timestamp(event_time)
    if delay:
        builder.deliver_after(timedelta(seconds=delay))
    producer._producer.send_async(builder.build(), answer)  # noqa: SLF001 - see the module


async def receive(consumer: Any, owner: object) -> Message:
    """The next message: without a turn of the event loop where the client has one. Raises ``PulsarException``.

    Who is cancelled meanwhile has lost it (PUL-8). Until the client has answered, ``consumer`` and ``owner``, which closes it, are
    kept from being collected, even so: that would end the process (PUL-28).
    """
    answer = Answer(asyncio.get_running_loop(), keeps=(consumer, owner))
    consumer._consumer.receive_async(answer)  # noqa: SLF001 - see the module
    if not answer.has_come:
        await answer.wait()
    if not answer.is_good:
        raise answer.error()
    return cast("Message", answer.value)


async def acknowledge(consumer: Any, message: Message) -> None:
    """Ack: the client answers at once, and writes it later (PUL-9). Raises ``PulsarException``."""
    answer = Answer(asyncio.get_running_loop())
    consumer._consumer.acknowledge_async(message, answer)  # noqa: SLF001 - see the module
    if not answer.has_come:
        await answer.wait()
    if not answer.is_good:
        raise answer.error()


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


class Answer:
    """What the client calls with its answer: a result, and a value with some. For one who waits in ``loop``, at most."""

    __slots__ = ("_future", "_keeps", "_loop", "_result", "_thread", "has_come", "value")

    def __init__(self, loop: asyncio.AbstractEventLoop, *, keeps: object = None) -> None:
        self._loop = loop
        self._keeps = keeps
        self._thread = get_ident()
        self._future: asyncio.Future[None] | None = None
        self._result: Any = None
        self.has_come = False
        self.value: Any = None

    def __call__(self, result: Any, value: Any = None) -> None:
        """In the thread that asks, while it asks; else in one of the client's, where an error would end the process."""
        self._result, self.value = result, value
        if get_ident() == self._thread:
            self.take()
        else:
            _arrivals_at(self._loop).add(self)

    def take(self) -> None:
        self.has_come = True
        self.give_up()

    def give_up(self) -> None:
        """Let who waits go on, though it may not have come."""
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    def outstanding(self) -> int:
        """How many answers of its kind are to come, itself included: many are worth waiting for a moment."""
        return 1

    def wait(self) -> asyncio.Future[None]:
        """Until it ``has_come``, or is given up."""
        self._future = self._loop.create_future()
        return self._future

    @property
    def is_good(self) -> bool:
        return self.has_come and int(self._result) == 0  # ``Result.Ok``; to compare with that takes longer

    def error(self) -> Exception:
        """The ``PulsarException`` for an answer that is not good."""
        return cast("Any", import_module("pulsar.asyncio")).PulsarException(self._result)


class _Arrivals:
    """Answers that the client's threads have brought for one event loop, until the loop takes them.

    All that have come are taken at once: waking the loop for each would cost a write to its own socket, a read, and a turn. Where
    many are to come, they are waited for: a thread of the client that brings an answer needs the interpreter's lock, which a loop at
    work gives away only now and then, and until then that thread writes no messages and reads no answers. A loop that sleeps
    a moment lets it bring them all.
    """

    __slots__ = ("_answers", "_called", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._answers: deque[Answer] = deque()
        self._called = False

    def add(self, answer: Answer) -> None:
        """In a thread of the client. For a loop that is closed nobody waits any more (PUL-14)."""
        self._answers.append(answer)
        if self._called:
            return
        self._called = True
        try:
            self._loop.call_soon_threadsafe(self._woken)
        except RuntimeError:
            self._answers.clear()
            if not self._loop.is_closed():
                raise

    def _woken(self) -> None:
        if self._answers and self._answers[0].outstanding() >= MANY:
            self._loop.call_later(GATHER_SECONDS, self._take)
        else:
            self._take()

    def _take(self) -> None:
        self._called = False  # first: what is added from here on is taken below, or calls again
        answers = self._answers
        while answers:
            answers.popleft().take()


_arrivals: Final[dict[asyncio.AbstractEventLoop, _Arrivals]] = {}


def _arrivals_at(loop: asyncio.AbstractEventLoop) -> _Arrivals:
    arrivals = _arrivals.get(loop)
    if arrivals is None:
        for ended in [other for other in [*_arrivals] if other.is_closed()]:
            _arrivals.pop(ended, None)
        arrivals = _arrivals.setdefault(loop, _Arrivals(loop))
    return arrivals


def _contain(asyncio_api: Any) -> None:
    """Let a callback of the library that finds its event loop closed end there.

    It runs in a thread of the client, where an error ends the process (PUL-14); and nobody waits for it any more.
    """
    for name in ("_set_future", "_set_future_v2"):
        original = getattr(asyncio_api, name, None)
        if original is None or hasattr(original, "__wrapped__"):
            continue

        @wraps(original)
        def contained(future: Any, *values: Any, _original: Any = original, **named: Any) -> None:
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
