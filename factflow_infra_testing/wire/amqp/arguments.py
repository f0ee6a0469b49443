"""Arguments of queues: read into the broker's options, checked as RabbitMQ checks them, and compared as it compares them.

RabbitMQ passes over arguments that it does not know. The simulation refuses them: what it does not know it cannot imitate.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from factflow_infra_testing.broker.queues import Overflow, QueueOptions
from factflow_infra_testing.wire.amqp.errors import PRECONDITION_FAILED, ChannelError, not_simulated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

VHOST: Final = "/"
CLASSIC: Final = "classic"
QUORUM: Final = "quorum"
_MOST_MILLISECONDS: Final = 4_294_967_295
_INTEGERS: Final = (
    (-128, 127, "byte"),
    (-32_768, 32_767, "short"),
    (0, 65_535, "unsignedshort"),
    (-(2**31), 2**31 - 1, "signedint"),
    (0, 2**32 - 1, "unsignedint"),
)
_OF_CLASSIC: Final = (
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-length",
    "x-overflow",
    "x-queue-mode",
    "x-single-active-consumer",
    "x-queue-type",
    "x-queue-master-locator",
)
_OF_QUORUM: Final = (
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-expires",
    "x-max-length",
    "x-overflow",
    "x-single-active-consumer",
    "x-queue-type",
    "x-quorum-initial-group-size",
    "x-delivery-limit",
    "x-message-ttl",
)
_OF_TYPE: Final = {CLASSIC: _OF_CLASSIC, QUORUM: _OF_QUORUM}
"""What each type of queue takes, in the order in which RabbitMQ compares it. Where a queue lies on disk or in a cluster
(``x-queue-mode``, ``x-queue-master-locator``, ``x-quorum-initial-group-size``) has no effect: nothing of it is seen on one node.
"""
_STRATEGY: Final = "x-dead-letter-strategy"
_SINGLE: Final = "x-single-active-consumer"
ALTERNATE: Final = "alternate-exchange"
KNOWN: Final = tuple(sorted({*_OF_CLASSIC, *_OF_QUORUM}))


@dataclass(frozen=True, slots=True)
class QueueArguments:
    """What the arguments of a declaration come to. ``queue_type`` is ``None`` where they do not say; ``single``: one consumer at a
    time is active.
    """

    queue_type: str | None
    options: QueueOptions
    single: bool


def type_name(value: Any) -> str:
    """RabbitMQ's name for the type of a table's value, by how clients usually encode it."""
    match value:
        case bool():
            return "bool"
        case int():
            return next((name for low, high, name in _INTEGERS if low <= value <= high), "long")
        case str():
            return "longstr"
        case bytes() | bytearray():
            return "binary"
        case float():
            return "double"
        case Decimal():
            return "decimal"
        case datetime():
            return "timestamp"
        case list():
            return "array"
        case dict():
            return "table"
        case _:
            return "void"


def read_arguments(queue: str, arguments: Mapping[str, Any]) -> QueueArguments:
    """Raises ``ChannelError`` for what RabbitMQ refuses, ``ConnectionFailedError`` (540) for what is not simulated."""
    _check_known(arguments)
    queue_type = arguments.get("x-queue-type")
    if queue_type is not None:
        _check_text(queue, arguments, "x-queue-type")
    if queue_type not in (None, CLASSIC, QUORUM):
        if queue_type == "stream":
            raise not_simulated("streams")
        raise _invalid(queue, "x-queue-type", f"\"unsupported queue type '{queue_type}'\"")
    kind = queue_type or CLASSIC
    for name, check in _CHECKS.items():
        if arguments.get(name) is not None and name in _OF_TYPE[kind]:
            check(queue, arguments, name)
    for name in KNOWN:
        if name in arguments and name not in _OF_TYPE[kind]:
            text = f"invalid arg '{name}' for queue '{queue}' in vhost '{VHOST}' of queue type rabbit_{kind}_queue"
            raise ChannelError(PRECONDITION_FAILED, text)
    _check_simulated(arguments)
    limit = arguments.get("x-delivery-limit")
    options = QueueOptions(
        message_ttl=_seconds(arguments.get("x-message-ttl")),
        expires=_seconds(arguments.get("x-expires")),
        dead_letter_exchange=arguments.get("x-dead-letter-exchange"),
        dead_letter_key=arguments.get("x-dead-letter-routing-key"),
        delivery_limit=limit if type(limit) is int else None,  # any other value is above each count (RMQ-53)
        max_length=arguments.get("x-max-length"),
        overflow=Overflow(arguments.get("x-overflow", Overflow.DROP_HEAD.value)),
    )
    return QueueArguments(queue_type, options, arguments.get(_SINGLE, False))


def _check_known(arguments: Mapping[str, Any]) -> None:
    for name in arguments:
        if name not in KNOWN:
            raise not_simulated(f"queue argument {name!r}")


def _check_simulated(arguments: Mapping[str, Any]) -> None:
    if arguments.get("x-overflow") == "reject-publish-dlx":
        raise not_simulated("overflow behaviour 'reject-publish-dlx'")
    if arguments.get("x-queue-master-locator") not in (None, "min-masters", "client-local", "random"):
        raise not_simulated("x-queue-master-locator of that name, of which RabbitMQ's channel crashes")
    if arguments.get(_STRATEGY) == "at-least-once" and (
        arguments.get("x-overflow") != "reject-publish" or "x-dead-letter-exchange" not in arguments
    ):
        # RabbitMQ falls back to at-most-once with a line in its log.
        raise not_simulated(
            "dead-lettering at least once without x-overflow 'reject-publish' and a dead-letter exchange"
        )


def alternate_exchange(exchange: str, arguments: Mapping[str, Any]) -> str | None:
    """The only argument of an exchange that is simulated. Raises as ``read_arguments``."""
    for name in arguments:
        if name != ALTERNATE:
            raise not_simulated(f"exchange argument {name!r}")
    value = arguments.get(ALTERNATE)
    if value is not None and not isinstance(value, str):
        kind = type_name(value)
        text = f"invalid type '{kind}' for arg '{ALTERNATE}' in exchange '{exchange}' in vhost '{VHOST}'"
        raise ChannelError(PRECONDITION_FAILED, text)
    return value


def check_match(arguments: Mapping[str, Any]) -> None:
    """Raises ``ChannelError``: no way in which a binding to a headers exchange can match."""
    mode = arguments.get("x-match", "all")
    if not isinstance(mode, str):
        text = f"Invalid x-match field type {type_name(mode)} (value {mode}); expected longstr"
        raise ChannelError(PRECONDITION_FAILED, text)
    if mode not in ("all", "any", "all-with-x", "any-with-x"):
        text = f'Invalid x-match field value <<"{mode}">>; expected all, any, all-with-x, or any-with-x'
        raise ChannelError(PRECONDITION_FAILED, text)


def check_same_queue(name: str, kind: str, asked: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Raises ``ChannelError`` for the first argument of a queue of type ``kind`` that is declared otherwise; what such a queue does
    not take is passed over (RMQ-52).
    """
    _check_known(asked)
    check_same_arguments("queue", name, _OF_TYPE[kind], asked, current)


def check_same_arguments(
    what: str, name: str, arguments: Iterable[str], asked: Mapping[str, Any], current: Mapping[str, Any]
) -> None:
    """Raises ``ChannelError`` for the first of ``arguments`` of a queue or exchange that is declared otherwise."""
    for argument in arguments:
        ours, theirs = asked.get(argument), current.get(argument)
        if ours == theirs and type_name(ours) == type_name(theirs):
            continue
        if argument == "x-queue-type" and {ours, theirs} == {None, CLASSIC}:
            continue
        if ours is not None and theirs is not None:
            told, is_now = f"'{_shown(ours)}'", f"'{_shown(theirs)}'"
        else:
            told, is_now = _value(ours), _value(theirs)
        raise inequivalent(what, name, argument, told, is_now)


def inequivalent(what: str, name: str, argument: str, asked: str, current: str) -> ChannelError:
    """The error for ``what`` (``queue``, ``exchange``) that is there with another ``argument``."""
    return ChannelError(
        PRECONDITION_FAILED,
        f"inequivalent arg '{argument}' for {what} '{name}' in vhost '{VHOST}': received {asked} but current is {current}",
    )


def _value(value: Any) -> str:
    return "none" if value is None else f"the value '{_shown(value)}' of type '{type_name(value)}'"


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_number(queue: str, arguments: Mapping[str, Any], name: str) -> None:
    value = arguments[name]
    if type(value) is not int:
        raise _invalid(queue, name, f'"expected integer, got {type_name(value)}"')
    if value < 0:
        raise _invalid(queue, name, f"{{value_negative,{value}}}")


def _check_positive(queue: str, arguments: Mapping[str, Any], name: str) -> None:
    _check_number(queue, arguments, name)
    if not arguments[name]:
        raise _invalid(queue, name, "{value_zero,0}")


def _check_milliseconds(queue: str, arguments: Mapping[str, Any], name: str) -> None:
    _check_number(queue, arguments, name)
    if arguments[name] > _MOST_MILLISECONDS:
        raise _invalid(queue, name, f"{{value_too_large,{arguments[name]}}}")


def _check_expiry(queue: str, arguments: Mapping[str, Any], name: str) -> None:
    _check_positive(queue, arguments, name)
    _check_milliseconds(queue, arguments, name)


def _check_text(queue: str, arguments: Mapping[str, Any], name: str) -> None:
    value = arguments[name]
    if not isinstance(value, str):
        raise _invalid(queue, name, "{unacceptable_type," + type_name(value) + "}")


def _check_key(queue: str, arguments: Mapping[str, Any], name: str) -> None:
    _check_text(queue, arguments, name)
    if arguments.get("x-dead-letter-exchange") is None:
        raise _invalid(queue, name, "routing_key_but_no_dlx_defined")


def _check_overflow(queue: str, arguments: Mapping[str, Any], name: str) -> None:
    _check_text(queue, arguments, name)
    if arguments[name] not in ("drop-head", "reject-publish", "reject-publish-dlx"):
        raise _invalid(queue, name, "invalid_overflow")


def _check_strategy(queue: str, arguments: Mapping[str, Any], name: str) -> None:
    _check_text(queue, arguments, name)
    if arguments[name] not in ("at-most-once", "at-least-once"):
        raise _invalid(queue, name, "invalid_dlx_strategy")


def _check_mode(queue: str, arguments: Mapping[str, Any], name: str) -> None:
    _check_text(queue, arguments, name)
    if arguments[name] not in ("lazy", "default"):
        raise _invalid(queue, name, f"\"unsupported queue mode '{arguments[name]}'\"")


def _check_bool(queue: str, arguments: Mapping[str, Any], name: str) -> None:
    value = arguments[name]
    if not isinstance(value, bool):
        raise _invalid(queue, name, "{unacceptable_type," + type_name(value) + "}")


_CHECKS: Final[Mapping[str, Callable[[str, Mapping[str, Any], str], None]]] = MappingProxyType(
    {
        "x-expires": _check_expiry,
        "x-message-ttl": _check_milliseconds,
        "x-dead-letter-exchange": _check_text,
        "x-dead-letter-routing-key": _check_key,
        "x-dead-letter-strategy": _check_strategy,
        "x-max-length": _check_number,
        "x-overflow": _check_overflow,
        "x-queue-mode": _check_mode,
        "x-single-active-consumer": _check_bool,
        "x-quorum-initial-group-size": _check_positive,
    }
)
"""In the order in which RabbitMQ looks at them. It does not look at a delivery limit (RMQ-53)."""


def _invalid(queue: str, name: str, why: str) -> ChannelError:
    return ChannelError(PRECONDITION_FAILED, f"invalid arg '{name}' for queue '{queue}' in vhost '{VHOST}': {why}")


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
