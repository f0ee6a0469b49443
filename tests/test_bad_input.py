"""Everything that a user can get wrong: which error it is and what it says; nothing sent, nothing written, nothing lost.

One table, one test. Rows are run, a few after one another, in a simulation that already holds a message and an object. The
error must be of the row's class, show the value and say what would be right; after each the broker has no new entry and no new
queue, and the storages list what they did; in the end what was there before is delivered and read.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from factflow_infra import create_queue_provider, create_storage_provider
from factflow_infra.errors import (
    InvalidDestinationError,
    InvalidKeyError,
    InvalidMessageError,
    InvalidObjectError,
    InvalidSubscriptionError,
    ObjectNotFoundError,
    PreconditionFailedError,
    QueueStoppedError,
    SettingsError,
    StorageClosedError,
    SubscriptionClosedError,
)
from factflow_infra.protocols import BatchMessage, ErrorHandling, QueueMessage
from factflow_infra.queue.factory import QueueProviderFactory
from factflow_infra.queue.settings import QueueSettings
from factflow_infra.storage.factory import StorageProviderFactory
from factflow_infra.storage.filesystem import FilesystemStorageProvider
from factflow_infra.storage.minio import MinioStorageProvider, S3Options
from factflow_infra.storage.settings import StorageSettings
from factflow_infra_testing import Fault, Faults, Simulation, SimulationSession, simulate
from factflow_infra_testing.broker.events import ACCEPTED
from factflow_infra_testing.errors import KitUsageError, PlanMismatchError, UnknownFaultError
from factflow_infra_testing.search.decisions import PlannedDecisions
from factflow_infra_testing.search.run import RunOptions
from factflow_infra_testing.simulation.execution import execute

if TYPE_CHECKING:
    from collections.abc import Callable

LONE = "lone\ud800"
BODY = b"body"
MESSAGE = QueueMessage(BODY)


@dataclass
class World:
    """What a row may use."""

    sim: Simulation
    queue: Any
    files: Any
    s3: Any
    batches: Any = None
    batch: Any = None

    async def handle(self, _: object) -> None:
        """A handler."""

    @property
    def storages(self) -> tuple[Any, Any]:
        return self.files, self.s3


@dataclass(frozen=True)
class Row:
    id: str
    calls: tuple[Callable[[World], Any], ...]
    error: type[Exception]
    says: tuple[str, ...]


TABLE: list[Row] = []


def row(name: str, error: type[Exception], *says: str) -> Callable[..., None]:
    """A row of the table: each of the calls that it is then given must raise ``error``, which ``says`` all of that."""
    return lambda *calls: TABLE.append(Row(name, calls, error, says))


# Destinations and subscription names

for _bad, _says in (
    ("", ("''", "empty name")),
    ("/queue/", ("'/queue/'", "empty name")),
    ("/topic/", ("'/topic/'", "empty name")),
    ("/orders", ("'/orders'", "'/queue/'", "'/topic/'")),
    ("/nothing/orders", ("'/nothing/orders'", "'/queue/'")),
    ("a//b", ("'a//b'", "empty part")),
    (" orders", ("' orders'", "white space")),
    ("a\nb", (r"'a\nb'", "control character")),
    ("nul\0", (r"'nul\x00'", "control character")),
    (LONE, (r"'lone\ud800'", "surrogate")),
    ("x" * 1025, ("1025 bytes", "at most 1024")),
    (None, ("NoneType", "must be a str")),
    (7, ("int: 7", "must be a str")),
    (b"orders", ("b'orders'", "must be a str")),
    (["orders"], ("['orders']", "must be a str")),
):
    row(f"destination {str(_bad)[:20]!r}", InvalidDestinationError, *_says)(
        lambda w, bad=_bad: w.queue.publish(bad, MESSAGE),
        lambda w, bad=_bad: w.queue.publish_batch(bad, [MESSAGE]),
        lambda w, bad=_bad: w.queue.subscribe(bad, w.handle),
        lambda w, bad=_bad: w.queue.subscribe_batch(bad, max_messages=1, max_wait=1.0),
    )
for _bad, _says in (
    ("", ("''", "empty name")),
    ("a\0", (r"'a\x00'", "control character")),
    (LONE, ("surrogate",)),
    ("x" * 1025, ("1025 bytes",)),
    (7, ("int: 7", "must be a str or None")),
    (b"s", ("b's'", "must be a str or None")),
):
    for _destination in ("orders", "/topic/news"):
        row(f"subscription {str(_bad)[:20]!r} of {_destination}", InvalidDestinationError, "subscription", *_says)(
            lambda w, bad=_bad, to=_destination: w.queue.subscribe(to, w.handle, subscription=bad),
            lambda w, bad=_bad, to=_destination: w.queue.subscribe_batch(
                to, max_messages=1, max_wait=1, subscription=bad
            ),
        )

# Messages

for _fields, _says in (
    ({"body": "text"}, ("body must be bytes", "str", "from_json")),
    ({"body": None}, ("body must be bytes", "NoneType")),
    ({"body": {"a": 1}}, ("body must be bytes", "dict", "from_json")),
    ({"message_id": ""}, ("message_id must not be empty",)),
    ({"message_id": 7}, ("message_id must be a str", "int: 7")),
    ({"message_id": None}, ("message_id must be a str", "NoneType")),
    ({"message_id": LONE}, ("message_id", "surrogate", r"\ud800")),
    ({"headers": {"a": 1}}, ("header 'a'", "int: 1")),
    ({"headers": {1: "a"}}, ("header name", "int: 1")),
    ({"headers": {"": "a"}}, ("header name must not be empty",)),
    ({"headers": {"a": None}}, ("header 'a'", "NoneType")),
    ({"headers": {"a": LONE}}, ("header 'a'", "surrogate")),
    ({"headers": [("a", "b")]}, ("mapping of str to str", "list")),
    ({"headers": {"factflow-wire-x": "1"}}, ("'factflow-wire-x'", "reserved")),
    ({"content_type": ""}, ("content_type must not be empty",)),
    ({"content_type": None}, ("content_type must be a str", "NoneType")),
    ({"correlation_id": 7}, ("correlation_id must be a str", "int: 7")),
    ({"ordering_key": ""}, ("ordering_key must not be empty",)),
    ({"ordering_key": 7}, ("ordering_key must be a str", "int: 7")),
    ({"timestamp": "2026-04-22"}, ("timestamp must be a datetime with a time zone", "'2026-04-22'")),
    ({"timestamp": 0}, ("timestamp must be a datetime with a time zone", "got 0")),
    ({"timestamp": datetime(2026, 4, 22)}, ("time zone", "datetime.datetime(2026, 4, 22")),  # noqa: DTZ001 - the mistake
):
    row(f"QueueMessage {_fields!r}", InvalidMessageError, *_says)(
        lambda w, fields=_fields: w.queue.publish("orders", QueueMessage(**{"body": BODY, **fields}))
    )


def _nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


for _bad, _says in (
    (math.nan, ("no JSON value",)),
    ({1, 2}, ("no JSON value", "set")),
    (b"x", ("no JSON value", "bytes")),
    (LONE, ("no JSON value", "surrogate")),
):
    row(f"from_json {_bad!r}", InvalidMessageError, *_says)(
        lambda w, bad=_bad: w.queue.publish("orders", QueueMessage.from_json(bad))
    )
row("from_json of what nests too deep", InvalidMessageError, "no JSON value", "while encoding a JSON object")(
    lambda w: w.queue.publish("orders", QueueMessage.from_json(_nested(100_000)))
)
row("json of what nests too deep", InvalidMessageError, "message 'm1'", "while decoding a JSON array")(
    lambda _: QueueMessage(b"[" * 100_000, message_id="m1").json()
)
row("json of what is no JSON", InvalidMessageError, "message 'm1'", "not JSON")(
    lambda _: QueueMessage(b"{", message_id="m1").json()
)
for _bad in ({"body": "x"}, "text", b"bytes", None, 7):
    row(f"publish {_bad!r}", InvalidMessageError, "QueueMessage", type(_bad).__name__)(
        lambda w, bad=_bad: w.queue.publish("orders", bad)
    )
    row(f"publish_batch of {_bad!r}", InvalidMessageError, "QueueMessage", type(_bad).__name__)(
        lambda w, bad=_bad: w.queue.publish_batch("orders", [MESSAGE, bad])
    )
for _bad in ("text", None, 7, MESSAGE, {"a": 1}):
    row(f"publish_batch({str(_bad)[:20]})", InvalidMessageError, "QueueMessage", type(_bad).__name__)(
        lambda w, bad=_bad: w.queue.publish_batch("orders", bad)
    )
row("a message too large", InvalidMessageError, "'large'", "16777246 bytes of body, headers and ids", "16777216")(
    lambda w: w.queue.publish("orders", QueueMessage(bytes(16 * 1024 * 1024 + 1), message_id="large"))
)
row("one of a batch too large", InvalidMessageError, "'large'", "16777246")(
    lambda w: w.queue.publish_batch("orders", [MESSAGE, QueueMessage(bytes(16 * 1024 * 1024 + 1), message_id="large")])
)
for _bad in (-1, -0.001, math.nan, math.inf, "1", None, True):
    row(f"delay {_bad!r}", InvalidMessageError, "delay", repr(_bad), "seconds")(
        lambda w, bad=_bad: w.queue.publish("orders", MESSAGE, delay=bad)
    )

# Options of subscriptions

for _options, _says in (
    ({"concurrency": 0}, ("concurrency", "whole number from 1", "got 0")),
    ({"concurrency": -1}, ("concurrency", "got -1")),
    ({"concurrency": 1.5}, ("concurrency", "got 1.5")),
    ({"concurrency": "2"}, ("concurrency", "got '2'")),
    ({"concurrency": True}, ("concurrency", "got True")),
    ({"concurrency": None}, ("concurrency", "got None")),
    ({"concurrency": 10**9}, ("concurrency", "at most", "1000000000")),
    ({"prefetch": 0}, ("prefetch", "got 0")),
    ({"prefetch": "5"}, ("prefetch", "got '5'")),
    ({"prefetch": 65536}, ("prefetch", "at most 65535", "got 65536")),
    ({"error_handling": None}, ("error_handling must be an ErrorHandling", "NoneType")),
    ({"error_handling": {"max_retries": 3}}, ("error_handling must be an ErrorHandling", "{'max_retries': 3}")),
):
    row(f"subscribe {_options!r}", InvalidSubscriptionError, *_says)(
        lambda w, options=_options: w.queue.subscribe("orders", w.handle, **options)
    )
for _bad in (None, "handler", 7):
    row(f"handler {_bad!r}", InvalidSubscriptionError, "handler must be an async function", repr(_bad))(
        lambda w, bad=_bad: w.queue.subscribe("orders", bad)
    )
for _options, _says in (
    ({"max_messages": 0}, ("max_messages", "whole number from 1", "got 0")),
    ({"max_messages": 2.0}, ("max_messages", "got 2.0")),
    ({"max_messages": None}, ("max_messages", "got None")),
    ({"max_wait": -1.0}, ("max_wait", "seconds", "got -1.0")),
    ({"max_wait": math.nan}, ("max_wait", "got nan")),
    ({"max_wait": "1"}, ("max_wait", "got '1'")),
    ({"error_handling": 3}, ("error_handling must be an ErrorHandling", "int: 3")),
):
    row(f"subscribe_batch {_options!r}", InvalidSubscriptionError, *_says)(
        lambda w, options=_options: w.queue.subscribe_batch("orders", **{"max_messages": 1, "max_wait": 1.0, **options})
    )
for _options, _says in (
    ({"max_retries": -1}, ("max_retries", "whole number from 0, or None", "got -1")),
    ({"max_retries": 1.5}, ("max_retries", "got 1.5")),
    ({"max_retries": "3"}, ("max_retries", "got '3'")),
    ({"max_retries": True}, ("max_retries", "got True")),
    ({"max_deliveries": 0}, ("max_deliveries", "whole number from 1", "got 0")),
    ({"retry_delay_seconds": -1}, ("retry_delay_seconds", "got -1")),
    ({"retry_delay_seconds": math.inf}, ("retry_delay_seconds", "finite", "got inf")),
    ({"retry_delay_seconds": None}, ("retry_delay_seconds", "got None")),
    ({"dead_letter_queue": 7}, ("dead_letter_queue", "got 7")),
):
    row(f"ErrorHandling {_options!r}", InvalidSubscriptionError, *_says)(
        lambda w, options=_options: w.queue.subscribe("orders", w.handle, error_handling=ErrorHandling(**options))
    )
for _bad, _says in (
    ("", ("''", "empty name")),
    ("/nothing/dlq", ("'/nothing/dlq'", "'/queue/'")),
    ("/topic/dlq", ("'/topic/dlq'", "must be a queue")),
    ("orders", ("'orders'", "another queue")),
    ("/queue/orders", ("'/queue/orders'", "another queue")),
):
    row(f"dead_letter_queue {_bad!r}", InvalidDestinationError, *_says)(
        lambda w, bad=_bad: w.queue.subscribe("orders", w.handle, error_handling=ErrorHandling(dead_letter_queue=bad))
    )
for _bad in (-1, math.nan, "1", True):
    row(f"stop timeout {_bad!r}", InvalidSubscriptionError, "timeout", repr(_bad), "seconds")(
        lambda w, bad=_bad: w.queue.stop(timeout=bad)
    )

# Settling batches: the batch of the world stays unsettled

for _how in ("ack", "retry", "reject"):
    for _bad in (None, 7, "batch", b"batch", {"a": 1}):
        row(f"{_how} {_bad!r}", InvalidMessageError, "BatchMessage", type(_bad).__name__)(
            lambda w, how=_how, bad=_bad: getattr(w.batches, how)(bad)
        )
    row(f"{_how} a stranger's message", SubscriptionClosedError, "'stranger'")(
        lambda w, how=_how: getattr(w.batches, how)(QueueMessage(BODY, message_id="stranger"))
    )
    row(f"{_how} a batch with a stranger's message", SubscriptionClosedError, "'stranger'")(
        lambda w, how=_how: getattr(w.batches, how)(BatchMessage((*w.batch, QueueMessage(BODY, message_id="stranger"))))
    )
    row(f"{_how} a list with something else", InvalidMessageError, "BatchMessage", "list")(
        lambda w, how=_how: getattr(w.batches, how)([*w.batch, "x"])
    )

# Storage: keys, prefixes, data, metadata, types, ranges, conditions, on both backends

BAD_KEYS: tuple[tuple[Any, tuple[str, ...]], ...] = (
    ("", ("empty", "'invoices/7.json'")),
    ("/etc/passwd", ("'/etc/passwd'", "empty segment")),
    ("a//b", ("'a//b'", "empty segment")),
    ("a/", ("'a/'", "empty segment")),
    ("../up", ("'../up'", "'..'", "not allowed")),
    ("a/./b", ("'a/./b'", "'.'")),
    ("nul\0", (r"'nul\x00'", "NUL")),
    (LONE, ("surrogate", "character 4")),
    ("x" * 1025, ("1025 UTF-8 bytes", "at most 1024")),
    ("a.meta.json", ("'a.meta.json'", "reserved", "'.meta.json'")),
    (".factflow-x/a", ("'.factflow-x'", "reserved")),
    (None, ("must be a str", "NoneType")),
    (7, ("must be a str", "int: 7")),
    (b"key", ("must be a str", "b'key'")),
)
for _at, _backend in enumerate(("filesystem", "s3")):
    for _bad, _says in BAD_KEYS:
        _shown = f"{_backend} {str(_bad)[:20]!r}"
        row(f"key {_shown}", InvalidKeyError, *_says)(
            lambda w, at=_at, bad=_bad: w.storages[at].write(bad, b"new"),
            lambda w, at=_at, bad=_bad: w.storages[at].read(bad),
            lambda w, at=_at, bad=_bad: w.storages[at].get(bad),
            lambda w, at=_at, bad=_bad: w.storages[at].stat(bad),
            lambda w, at=_at, bad=_bad: w.storages[at].exists(bad),
            lambda w, at=_at, bad=_bad: w.storages[at].stream(bad),
            lambda w, at=_at, bad=_bad: w.storages[at].delete(bad),
            lambda w, at=_at, bad=_bad: w.storages[at].copy(bad, "new"),
            lambda w, at=_at, bad=_bad: w.storages[at].copy("kept", bad),
        )
    for _bad, _says in (
        ("/abs", ("prefix", "'/abs'")),
        ("../", ("prefix", "'../'")),
        ("a//", ("prefix", "'a//'")),
        ("nul\0", ("prefix", "NUL")),
        (LONE, ("prefix", "surrogate")),
        (None, ("prefix", "NoneType")),
        (7, ("prefix", "int: 7")),
    ):
        row(f"prefix {_backend} {str(_bad)[:20]!r}", InvalidKeyError, *_says)(
            lambda w, at=_at, bad=_bad: w.storages[at].list(bad),
            lambda w, at=_at, bad=_bad: w.storages[at].list_page(bad),
        )
    for _options, _error, _says in (
        ({"limit": 0}, InvalidObjectError, ("limit", "from 1", "not 0")),
        ({"limit": 100_001}, InvalidObjectError, ("limit", "100000", "100001")),
        ({"limit": "5"}, InvalidObjectError, ("limit", "'5'")),
        ({"limit": True}, InvalidObjectError, ("limit", "True")),
        ({"delimiter": ""}, InvalidObjectError, ("delimiter", "''")),
        ({"delimiter": 7}, InvalidObjectError, ("delimiter", "7")),
        ({"after": 7}, InvalidKeyError, ("position", "int: 7")),
        ({"after": "nul\0"}, InvalidKeyError, ("position", "NUL")),
    ):
        row(f"list_page {_backend} {_options!r}", _error, *_says)(
            lambda w, at=_at, options=_options: w.storages[at].list_page(**options)
        )
    for _bad, _says in (
        ("text", ("data must be bytes", "str", "encode it first")),
        (None, ("data must be bytes", "NoneType")),
        (7, ("data must be bytes", "int")),
        ({"a": 1}, ("data must be bytes", "dict")),
        ([b"a"], ("data must be bytes", "list")),
    ):
        row(f"write {_backend} data {_bad!r}", InvalidObjectError, *_says)(
            lambda w, at=_at, bad=_bad: w.storages[at].write("kept", bad)
        )
    for _pieces in ([b"x", "text"], [7]):
        row(
            f"write {_backend} pieces {_pieces!r}",
            InvalidObjectError,
            "bytes",
            type(_pieces[-1]).__name__,
        )(lambda w, at=_at, pieces=_pieces: w.storages[at].write("kept", _given(pieces)))
    for _bad, _says in (
        ([1], ("metadata must be a JSON object", "list")),
        ("text", ("metadata must be a JSON object", "str")),
        ({1: "a"}, ("the key 1", "JSON keys are str")),
        ({"a": b"x"}, ("metadata['a']", "bytes")),
        ({"a": (1,)}, ("metadata['a']", "tuple")),
        ({"a": {"b": [1, {2}]}}, ("metadata['a']['b'][1]", "set")),
        ({"a": math.nan}, ("metadata['a']", "nan", "no NaN")),
        ({"a": datetime(2026, 1, 1, tzinfo=UTC)}, ("metadata['a']", "datetime")),
        ({"a": LONE}, ("metadata['a']", "surrogate")),
        ({"a": "x" * 1024 * 1024}, ("1048584 bytes", "at most 1048576")),
    ):
        row(f"write {_backend} metadata {str(_bad)[:40]}", InvalidObjectError, *_says)(
            lambda w, at=_at, bad=_bad: w.storages[at].write("kept", b"new", bad)
        )
    for _options, _says in (
        ({"content_type": "json"}, ("content_type 'json'", "media type", "'application/json'")),
        ({"content_type": ""}, ("content_type ''", "media type")),
        ({"content_type": "text/plain\r\nx: y"}, ("media type",)),
        ({"content_type": "tëxt/plain"}, ("'tëxt/plain'", "ASCII")),
        ({"content_type": 7}, ("content_type must be a str", "int")),
        ({"if_absent": 1}, ("if_absent must be True or False", "not 1")),
        ({"if_match": ""}, ("if_match must be the etag", "''")),
        ({"if_match": 7}, ("if_match must be the etag", "7")),
        ({"if_absent": True, "if_match": "x"}, ("if_absent and if_match='x'", "one of them")),
    ):
        row(f"write {_backend} {_options!r}", InvalidObjectError, *_says)(
            lambda w, at=_at, options=_options: w.storages[at].write("kept", b"new", **options)
        )
    for _options, _says in (
        ({"start": -1}, ("start must be at least 0", "-1")),
        ({"start": "1"}, ("start", "'1'")),
        ({"start": None}, ("start", "None")),
        ({"end": -1}, ("end must be at least 0", "-1")),
        ({"end": 1.5}, ("end", "1.5")),
        ({"start": 2, "end": 1}, ("start 2, end 1",)),
        ({"chunk_size": 0}, ("chunk_size must be at least 1", "0")),
        ({"chunk_size": True}, ("chunk_size", "True")),
    ):
        row(f"stream {_backend} {_options!r}", InvalidObjectError, *_says)(
            lambda w, at=_at, options=_options: w.storages[at].stream("kept", **options)
        )
    for _how in ("read", "get", "stat", "stream"):
        row(f"{_how} {_backend} missing", ObjectNotFoundError, "'missing'")(
            lambda w, at=_at, how=_how: getattr(w.storages[at], how)("missing")
        )
    row(f"copy {_backend} missing", ObjectNotFoundError, "'missing'")(
        lambda w, at=_at: w.storages[at].copy("missing", "new")
    )
    row(f"delete {_backend} if_match 7", InvalidObjectError, "if_match must be the etag", "7")(
        lambda w, at=_at: w.storages[at].delete("kept", if_match=7)
    )
    row(f"delete {_backend} if_match of another", PreconditionFailedError, "'kept'")(
        lambda w, at=_at: w.storages[at].delete("kept", if_match="0" * 64)
    )
    row(f"write {_backend} if_absent over another", PreconditionFailedError, "'kept'")(
        lambda w, at=_at: w.storages[at].write("kept", b"new", if_absent=True)
    )
row("a name too long for a file", InvalidKeyError, "300 UTF-8 bytes", "at most 245")(
    lambda w: w.files.write("x" * 300, b"new")
)

# After the end


async def _after_stop(w: World) -> None:
    other = w.sim.queue()
    await other.stop()
    await other.publish("orders", MESSAGE)


async def _after_close(w: World) -> None:
    other = w.sim.storage()
    await other.close()
    await other.write("kept", b"new")


row("publish after stop", QueueStoppedError, "stopped")(_after_stop)
row("write after close", StorageClosedError, "closed")(_after_close)

# Providers: URIs, settings, the environment

for _uri, _error, _says in (
    ("", SettingsError, ("FACTFLOW_QUEUE_URI", "amqp://localhost")),
    ("localhost", SettingsError, ("must look like amqp://host:5672/vhost",)),
    ("foo://localhost", SettingsError, ("'foo'", "amqp, amqps")),
    ("amqp://", SettingsError, ("no host",)),
    ("amqp://host:70000/", SettingsError, ("port", "65535")),
    ("amqp://host:x/", SettingsError, ("port", "65535")),
    ("amqp://host/#v", SettingsError, ("'#'", "%23")),
    ("amqp://host/?prefetsh=1", SettingsError, ("'prefetsh'", "prefetch")),
    ("amqp://host/?prefetch=0", SettingsError, ("prefetch", "greater than or equal to 1")),
    ("amqp://host/?prefetch=many", SettingsError, ("prefetch", "integer", "got 'many'")),
    ("amqp://host/?heartbeat=70000", SettingsError, ("heartbeat", "65534", "got 70000.0")),
    ("amqp://host/?tls_ca_file=ca.pem", SettingsError, ("tls_ca_file", "amqp:// is not encrypted", "amqps://")),
    ("stomp://host/?tls_ca_file=ca.pem", SettingsError, ("tls_ca_file", "stomp+ssl://")),
    ("pulsar://host/?tls_cert_file=c&tls_key_file=k", SettingsError, ("tls_cert_file", "pulsar+ssl://")),
    ("amqp://a,stomp://b", SettingsError, ("'amqp'", "'stomp'")),
    ("amqp://a,,b", SettingsError, ("empty part",)),
    ("stomp://host/vhost", SettingsError, ("no path", "'vhost'")),
    ("stomp://u%0Aser@host", SettingsError, ("username", "line break")),
    ("stomp://user:pass%00word@host", SettingsError, ("password", "NUL")),
    ("pulsar://host/tenant", SettingsError, ("tenant/namespace", "'tenant'")),
    ("pulsar://host/a/b/c", SettingsError, ("tenant/namespace", "'a/b/c'")),
    ("pulsar://host/a/b,other/a/c", SettingsError, ("one for all", "'a/b'", "'a/c'")),
    ("pulsar://host/ten%20ant/b", SettingsError, ("tenant", "'ten ant'")),
    ("pulsar://user:token@host", SettingsError, ("no user names", "pulsar://:<token>@host")),
    ("pulsar+ssl://host/?tls_ca_file=/absent", SettingsError, ("'/absent'", "cannot be used")),
):
    row(f"queue {_uri!r}", _error, *_says)(lambda _, uri=_uri: create_queue_provider(uri))
for _values, _says in (
    ({"prefetch": 0}, ("prefetch", "got 0")),
    ({"prefetch": "x"}, ("prefetch", "got 'x'")),
    ({"queue_type": "mirrored"}, ("queue_type", "'quorum'", "'classic'", "got 'mirrored'")),
    ({"subscription_type": "exclusive"}, ("subscription_type", "'shared'", "'key_shared'", "got 'exclusive'")),
    ({"heartbeat": -1}, ("heartbeat", "got -1")),
    ({"connect_timeout": math.inf}, ("connect_timeout", "got inf")),
    ({"reconnect_base": 60.0, "reconnect_cap": 1.0}, ("reconnect_base must be at most reconnect_cap",)),
    ({"tls_cert_file": "x"}, ("tls_cert_file and tls_key_file belong together",)),
    ({"tls_verify": "perhaps"}, ("tls_verify", "got 'perhaps'")),
    ({"username": ""}, ("username", "must not be empty")),
    ({"hartbeat": 1}, ("'hartbeat'", "heartbeat")),
    ({"uri": 7}, ("uri must be a str", "int")),
):
    row(f"QueueSettings {_values!r}", SettingsError, *_says)(
        lambda _, values=_values: QueueSettings(**{"uri": "amqp://host", **values})
    )
row("queue settings of a wrong type", SettingsError, "QueueSettings, a URI or None", "dict")(
    lambda _: create_queue_provider({"uri": "amqp://host"})
)
row("a queue scheme twice", SettingsError, "'amqp'", "registered already")(
    lambda _: QueueProviderFactory().register("amqp", lambda _: None)
)
for _uri, _says in (
    ("", ("no scheme", "file://", "s3://")),
    ("/var/data", ("no scheme", "file://")),
    ("ftp://host/x", ("'ftp'", "file://, minio://, s3://")),
    ("file://var/data", ("file:///var/data", "three slashes")),
    ("file://", ("file:///var/data",)),
    ("file:///var/data#x", ("'#'", "%23")),
    ("file:///var/data?creat_root=1", ("'creat_root'", "create_root, max_concurrency")),
    ("file:///var/data?create_root=1&create_root=0", ("'create_root' twice",)),
    ("file:///var/data?create_root=perhaps", ("create_root='perhaps'",)),
    ("s3://b", ("'b'", "3 to 63 letters")),
    ("s3://key:secret@bucket", ("s3://<bucket>[/prefix]", "FACTFLOW_STORAGE_ACCESS_KEY")),
    ("s3://bucket?secret_key=x", ("secret_key in a URI", "FACTFLOW_STORAGE_SECRET_KEY")),
    ("minio://bucket", ("minio:// needs endpoint", "FACTFLOW_STORAGE_ENDPOINT")),
    ("minio://bucket?endpoint=host:9000", ("minio:// needs access_key", "FACTFLOW_STORAGE_ACCESS_KEY")),
):
    row(f"storage {_uri!r}", SettingsError, *_says)(lambda _, uri=_uri: create_storage_provider(uri))
for _values, _says in (
    ({"max_concurrency": 0}, ("max_concurrency=0",)),
    ({"part_size": 1}, ("part_size=1",)),
    ({"addressing_style": "dns"}, ("addressing_style='dns'", "'path'")),
    ({"read_timeout": -1}, ("read_timeout=-1",)),
    ({"max_attempt": 1}, ("'max_attempt'", "max_attempts")),
):
    row(f"StorageSettings {_values!r}", SettingsError, *_says)(
        lambda _, values=_values: StorageSettings(**{"uri": "s3://bucket", **values})
    )
row("storage settings of a wrong type", SettingsError, "StorageSettings, a URI or None", "dict")(
    lambda _: create_storage_provider({"uri": "s3://bucket"})
)
row("a storage scheme that is none", SettingsError, "'My://'", "lower-case")(
    lambda _: StorageProviderFactory().register("My://", lambda _: None)
)
row("a storage setting twice", SettingsError, "max_concurrency is given twice", "in the storage URI and beside it")(
    lambda _: create_storage_provider("file:///var/data?max_concurrency=4", max_concurrency=8)
)
for _values, _says in (
    ({"max_attempts": "4"}, ("max_attempts", "a whole number from 1 to 100", "not '4'")),
    ({"max_concurrency": 2.5}, ("max_concurrency", "a whole number", "not 2.5")),
    ({"max_concurrency": True}, ("max_concurrency", "not True")),
    ({"read_timeout": None}, ("read_timeout", "a number from 0.001", "not None")),
    ({"endpoint_url": 9000}, ("the endpoint must be http://host[:port]",)),
):
    row(f"S3Options {_values!r}", SettingsError, *_says)(lambda _, values=_values: S3Options(**values))
row("a bucket of a wrong type", SettingsError, "bucket 7 is no bucket name")(lambda _: MinioStorageProvider(7))
for _bad in (None, 7, "nul\0"):
    row(f"filesystem root {_bad!r}", SettingsError, "root must be the path of a folder", repr(_bad))(
        lambda _, bad=_bad: FilesystemStorageProvider(bad)
    )
row("filesystem threads", SettingsError, "max_concurrency", "from 1", "not 0")(
    lambda _: FilesystemStorageProvider("/x", max_concurrency=0)
)


def _in_environment(name: str, value: str, make: Callable[[], object]) -> Callable[[World], object]:
    def call(_: World) -> object:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(name, value)
            return make()

    return call


row("environment of the queue", SettingsError, "prefetch", "integer")(
    _in_environment("FACTFLOW_QUEUE_PREFETCH", "many", lambda: create_queue_provider("amqp://host"))
)
row("environment of the storage", SettingsError, "max_concurrency", "'many'", "integer")(
    _in_environment("FACTFLOW_STORAGE_MAX_CONCURRENCY", "many", lambda: create_storage_provider("file:///x"))
)

# The kit: plans, faults, options, kinds and names

for _values, _error, _says in (
    ((7, "orders", 1), TypeError, ("kind and target are strings", "7")),
    (("kill", None, 1), TypeError, ("kind and target are strings", "None")),
    (("kill", "worker", "1"), TypeError, ("whole numbers", "'1'")),
    (("kill", "worker", True), TypeError, ("whole numbers", "True")),
    (("kill", "worker", 0), ValueError, ("counts from 1", "nth=0", "'worker'")),
    (("kill", "worker", 1, 0), ValueError, ("choice=0", "no fault")),
):
    row(f"Fault{_values!r}", _error, *_says)(lambda _, values=_values: Fault(*values))
for _options, _error, _says in (
    ({"plan": "kill"}, KitUsageError, ("`plan` takes a list of Fault", "'kill'")),
    ({"plan": [("kill", "worker", 1)]}, KitUsageError, ("Fault(kind, target, nth)", "('kill', 'worker', 1)")),
    ({"plan": [Fault("kil", "worker", 1)]}, UnknownFaultError, ("'kil'", "kill", "ack-lost")),
    ({"plan": [Fault("kill", "w", 1), Fault("kill", "w", 1, 2)]}, KitUsageError, ("'kill' on 'w' number 1 twice",)),
    ({"faults": "kill"}, KitUsageError, ("`faults` takes a Faults", "'kill'")),
    ({"faults": ["kill"]}, KitUsageError, ("`faults` takes a Faults", "['kill']")),
    ({"max_examples": 0}, KitUsageError, ("`max_examples`", "from 1", "got 0")),
    ({"max_examples": "5"}, KitUsageError, ("`max_examples`", "'5'")),
    ({"seed": -1}, KitUsageError, ("`seed`", "from 0", "got -1")),
    ({"seed": True}, KitUsageError, ("`seed`", "True")),
    ({"virtual_budget": 0}, KitUsageError, ("`virtual_budget`", "above 0", "got 0")),
    ({"virtual_budget": math.nan}, KitUsageError, ("`virtual_budget`", "nan")),
):
    row(f"simulate {_options!r}", _error, *_says)(lambda _, options=_options: simulate(**options))
for _make, _name in ((Faults.only, "only"), (Faults.all().without, "without"), (Faults.all().__sub__, "minus")):
    row(f"Faults {_name}", UnknownFaultError, "'ack-lots'", "ack-lost")(lambda _, make=_make: make("ack-lots"))
row("simulate of a plain function", KitUsageError, "async def", "handle_it")(lambda _: simulate(_plain("handle_it")))
row("simulate of a test without sim", KitUsageError, "`sim`", "forgets_it")(
    lambda _: simulate(_asynchronous("forgets_it"))
)
row("a profile", SettingsError, "'kafka'", "rabbitmq-classic")(lambda w: w.sim.queue("kafka"))
row("a profile of a wrong type", SettingsError, "7", "rabbitmq-classic")(lambda w: w.sim.queue(7))
row("a tier", SettingsError, "'cable'", "'model'")(lambda w: w.sim.queue(tier="cable"))
row("a storage kind", SettingsError, "'azure'", "'filesystem', 's3'")(lambda w: w.sim.storage("azure"))
row("a storage kind of a wrong type", SettingsError, "None", "'filesystem', 's3'")(lambda w: w.sim.storage(None))
row("a process name twice", KitUsageError, "'taken'", "name of its own")(
    lambda w: [w.sim.start(_asynchronous("main"), name="taken") for _ in range(2)]
)
row("the test's own name", KitUsageError, "'test'", "name of its own")(
    lambda w: w.sim.start(_asynchronous("main"), name="test")
)
row("a process name for a path", KitUsageError, "'a/b'", "without")(
    lambda w: w.sim.start(_asynchronous("main"), name="a/b")
)
row("a host name for a path", KitUsageError, "'../x'", "without")(lambda w: w.sim.storage(host="../x"))
row("a main that is none", KitUsageError, "async function of one Process", "7")(lambda w: w.sim.start(7))


def _plain(name: str) -> Any:
    def function(sim: object) -> None:
        """No test for a simulation."""

    function.__qualname__ = name
    return function


def _asynchronous(name: str) -> Any:
    async def function(*_: object) -> None:
        """Take nothing by name."""

    function.__qualname__ = name
    return function


async def _given(pieces: list[Any]) -> AsyncIterator[Any]:
    for piece in pieces:
        yield piece


# The test


@pytest.fixture(scope="module")
def session():
    with SimulationSession() as session:
        yield session


async def called(world: World, call: Callable[[World], Any]) -> None:
    result = call(world)
    if isinstance(result, Awaitable):
        await result
    elif isinstance(result, AsyncIterator):
        async for _ in result:
            pass


async def contents(world: World) -> dict[str, Any]:
    """What the broker and the storages hold, to the last entry."""
    broker = world.sim.broker()
    return {
        "entries": [event.entry for event in world.sim.queue_events() if event.kind == ACCEPTED],
        "queues": sorted(broker.broker.queues),
        "consumers": sum(len(queue.consumers) for queue in broker.broker.queues.values()),
        **{
            f"storage {at}": [
                ((info := await store.stat(key)).key, info.etag, info.metadata) async for key in store.list()
            ]
            for at, store in enumerate(world.storages)
        },
    }


ROWS_OF_A_RUN = 12
"""A world costs as much as twenty rows."""


async def refused(world: World, case: Row) -> None:
    for call in case.calls:
        with pytest.raises(case.error) as caught:
            await called(world, call)
        assert type(caught.value) is case.error
        text = str(caught.value)
        for fragment in case.says:
            assert fragment in text
        assert len(text) < 2000
        assert "secret@" not in text


@pytest.mark.parametrize("first", range(0, len(TABLE), ROWS_OF_A_RUN), ids=lambda first: ascii(TABLE[first].id))
def test_bad_input(first: int, session: SimulationSession) -> None:
    async def scenario(sim: Simulation) -> None:
        world = World(sim, sim.queue(), sim.storage("filesystem"), sim.storage("s3"))
        await sim.queue().publish("orders", QueueMessage(BODY, message_id="waiting"))
        await sim.queue().publish("batches", QueueMessage(BODY, message_id="in a batch"))
        for store in world.storages:
            await store.write("kept", b"old", {"run": 1})
        world.batches = await world.queue.subscribe_batch("batches", max_messages=10, max_wait=0.1)
        world.batch = await anext(aiter(world.batches))
        before = await contents(world)

        for case in TABLE[first : first + ROWS_OF_A_RUN]:
            try:
                await refused(world, case)
                assert await contents(world) == before
            except BaseException as error:
                error.add_note(f"in the row {case.id!r}")
                raise
        taken: list[str] = []

        async def take(message: QueueMessage) -> None:
            taken.append(message.message_id)

        await world.batches.close()
        other = sim.queue()
        await other.subscribe("orders", take)
        await other.subscribe("batches", take)
        for store in world.storages:
            assert (await store.get("kept")).data == b"old"
        await asyncio.sleep(1)
        assert sorted(taken) == ["in a batch", "waiting"]

    record = execute(
        scenario, decisions=PlannedDecisions(), seed=0, faults=Faults.none(), session=session, options=RunOptions()
    )
    if record.failure is not None:
        raise record.failure


def test_a_plan_that_matches_nothing_is_an_error_that_tells_what_there_was():
    @simulate(plan=[Fault("kill", "wroker@publish orders", 1), Fault("kill", "worker@publish orders", 99)])
    async def test(sim: Simulation) -> None:
        async def worker(process):
            await process.queue().publish("orders", MESSAGE)

        sim.start(worker, name="worker")
        await sim.drain()

    with pytest.raises(PlanMismatchError) as caught:
        test()
    for fragment in ("'wroker@publish orders'", "'worker@publish orders', 99"):
        assert fragment in str(caught.value)


def test_the_table_has_no_row_twice():
    assert len({case.id for case in TABLE}) == len(TABLE)
