"""Exchanges: which of its bound queues get a message. The four kinds of AMQP 0-9-1; a topic of STOMP is a fanout."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from factflow_infra_testing.broker.logs import Log
    from factflow_infra_testing.broker.queues import Queue

_TEXT: Final = (str, bytes, bytearray)
_NO_ARGUMENTS: Final[Mapping[str, Any]] = MappingProxyType({})


class ExchangeKind(StrEnum):
    FANOUT = "fanout"
    DIRECT = "direct"
    TOPIC = "topic"
    HEADERS = "headers"


@dataclass(frozen=True, slots=True, eq=False)
class Binding:
    """A queue's wish for some of an exchange's messages. ``arguments`` are for a headers exchange."""

    queue: Queue
    key: str
    arguments: Mapping[str, Any]

    def same_as(self, queue: Queue, key: str, arguments: Mapping[str, Any]) -> bool:
        return self.queue is queue and self.key == key and same_table(self.arguments, arguments)


@dataclass(frozen=True, slots=True, eq=False)
class Forward:
    """An exchange's wish for some of another one's messages."""

    exchange: Exchange
    key: str
    arguments: Mapping[str, Any]

    def same_as(self, exchange: Exchange, key: str, arguments: Mapping[str, Any]) -> bool:
        return self.exchange is exchange and self.key == key and same_table(self.arguments, arguments)


class Exchange:
    """A named exchange. ``label`` is its name the way the user wrote it; ``log``: it keeps what it was given. ``alternate`` names
    the exchange that gets what nothing here matches; ``internal``: only other exchanges publish to it.
    """

    __slots__ = (
        "alternate",
        "auto_delete",
        "bindings",
        "durable",
        "forwards",
        "internal",
        "kind",
        "label",
        "log",
        "name",
    )

    def __init__(self, name: str, kind: ExchangeKind, *, label: str, durable: bool, auto_delete: bool) -> None:
        self.name = name
        self.kind = kind
        self.label = label
        self.durable = durable
        self.auto_delete = auto_delete
        self.log: Log | None = None
        self.alternate: str | None = None
        self.internal = False
        self.bindings: list[Binding] = []
        self.forwards: list[Forward] = []

    def bind(self, queue: Queue, key: str = "", arguments: Mapping[str, Any] = _NO_ARGUMENTS) -> None:
        """Bind ``queue``; binding it again the same way changes nothing."""
        if not any(binding.same_as(queue, key, arguments) for binding in self.bindings):
            self.bindings.append(Binding(queue, key, arguments))

    def unbind(self, queue: Queue, key: str = "", arguments: Mapping[str, Any] = _NO_ARGUMENTS) -> None:
        self.bindings = [binding for binding in self.bindings if not binding.same_as(queue, key, arguments)]

    def forget(self, queue: Queue) -> None:
        """Remove every binding of a queue that is gone."""
        self.bindings = [binding for binding in self.bindings if binding.queue is not queue]

    def forward(self, exchange: Exchange, key: str = "", arguments: Mapping[str, Any] = _NO_ARGUMENTS) -> None:
        """Have ``exchange`` get what is routed to it from here; asking again the same way changes nothing."""
        if not any(one.same_as(exchange, key, arguments) for one in self.forwards):
            self.forwards.append(Forward(exchange, key, arguments))

    def unforward(self, exchange: Exchange, key: str = "", arguments: Mapping[str, Any] = _NO_ARGUMENTS) -> None:
        self.forwards = [one for one in self.forwards if not one.same_as(exchange, key, arguments)]

    @property
    def used(self) -> bool:
        """Whether anything is bound to it."""
        return bool(self.bindings or self.forwards)

    def route(
        self, key: str, headers: Mapping[str, Any] | None, exchanges: Mapping[str, Exchange] | None = None
    ) -> list[Queue]:
        """The queues that get a message, each once, in the order of their first binding. ``exchanges``: where alternates are."""
        if not self.forwards and self.alternate is None:
            return self._own_route(key, headers)
        found: dict[Queue, None] = {}
        seen: dict[Exchange, None] = {self: None}
        waiting: list[Exchange] = [self]
        while waiting:
            exchange = waiting.pop(0)
            own = exchange._own_route(key, headers)  # noqa: SLF001 - of this class
            found.update(dict.fromkeys(own))
            targets = [
                one.exchange
                for one in exchange.forwards
                if exchange._matches(one.key, one.arguments, key, headers)  # noqa: SLF001
            ]
            if not own and not targets and exchange.alternate is not None:
                alternate = (exchanges or {}).get(exchange.alternate)
                targets = [] if alternate is None else [alternate]
            new = [target for target in targets if target not in seen]
            seen.update(dict.fromkeys(new))
            waiting += dict.fromkeys(new)
        return list(found)

    def _matches(self, pattern: str, arguments: Mapping[str, Any], key: str, headers: Mapping[str, Any] | None) -> bool:
        match self.kind:
            case ExchangeKind.FANOUT:
                return True
            case ExchangeKind.DIRECT:
                return pattern == key
            case ExchangeKind.TOPIC:
                return topic_matches(pattern.split("."), key.split("."))
            case ExchangeKind.HEADERS:
                return headers_match(arguments, headers or {})

    def _own_route(self, key: str, headers: Mapping[str, Any] | None) -> list[Queue]:
        kind = self.kind
        if kind is ExchangeKind.FANOUT:
            found = [binding.queue for binding in self.bindings]
        elif kind is ExchangeKind.DIRECT:
            found = [binding.queue for binding in self.bindings if binding.key == key]
        elif kind is ExchangeKind.TOPIC:
            words = key.split(".")
            found = [binding.queue for binding in self.bindings if topic_matches(binding.key.split("."), words)]
        else:
            found = [binding.queue for binding in self.bindings if headers_match(binding.arguments, headers or {})]
        return list(dict.fromkeys(found)) if len(found) > 1 else found


def topic_matches(pattern: list[str], words: list[str]) -> bool:
    """Whether the dot-separated ``words`` match: ``*`` is one word, ``#`` any number of them, none included."""
    reachable = {0}  # how many words the pattern so far may have used up
    for part in pattern:
        if part == "#":
            reachable = set(range(min(reachable), len(words) + 1))
        else:
            reachable = {at + 1 for at in reachable if at < len(words) and part in ("*", words[at])}
        if not reachable:
            return False
    return len(words) in reachable


def headers_match(arguments: Mapping[str, Any], headers: Mapping[str, Any]) -> bool:
    """Whether ``headers`` satisfy a binding: all of its arguments, or with ``x-match: any`` at least one.

    ``all`` and ``any`` pass over arguments that start with ``x-``; ``all-with-x`` and ``any-with-x`` do not. An argument
    without a value (``None``) asks only that the header is there.
    """
    mode = str(arguments.get("x-match", "all"))
    with_x = mode.endswith("-with-x")
    results = [
        name in headers and (wanted is None or matches(wanted, headers[name]))
        for name, wanted in arguments.items()
        if name != "x-match" and (with_x or not name.startswith("x-"))
    ]
    return any(results) if mode.startswith("any") else all(results)


def matches(wanted: Any, value: Any) -> bool:
    """Whether the value of a header is that of a binding (RMQ-50): numbers by their value, text by its bytes, others by their type too."""
    if _is_number(wanted) and _is_number(value):
        return bool(wanted == value)
    if isinstance(wanted, _TEXT) and isinstance(value, _TEXT):
        return _bytes(wanted) == _bytes(value)
    return same_value(wanted, value)


def same_table(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two tables of arguments are the same, ``1``, ``1.0`` and ``True`` being different values there."""
    return one.keys() == other.keys() and all(same_value(value, other[name]) for name, value in one.items())


def same_value(one: Any, other: Any) -> bool:
    """Whether two values of a table are the same in type and value."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return same_table(cast("dict[str, Any]", one), other)
    if isinstance(one, list):
        return len(cast("list[Any]", one)) == len(other) and all(map(same_value, cast("list[Any]", one), other))
    return bool(one == other)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _bytes(text: str | bytes | bytearray) -> bytes:
    return text.encode() if isinstance(text, str) else bytes(text)
