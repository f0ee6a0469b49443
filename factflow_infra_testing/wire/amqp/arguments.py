"""Arguments of queues: read into the broker's options, checked as RabbitMQ checks them, and compared as it compares them.

RabbitMQ passes over arguments that it does not know. The simulation refuses them: what it does not know it cannot imitate.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from factflow_infra_testing.broker.queues import Overflow, QueueOptions
from factflow_infra_testing.wire.amqp.errors import PRECONDITION_FAILED, ChannelError, not_simulated

if TYPE_CHECKING:
    from collections.abc import Mapping

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
_MILLISECONDS: Final = ("x-message-ttl", "x-expires")
_TEXTS: Final = ("x-dead-letter-exchange", "x-dead-letter-routing-key", "x-overflow", "x-queue-type")
_STRATEGY: Final = "x-dead-letter-strategy"
_COUNTS: Final = ("x-max-length", "x-delivery-limit")
_HARMLESS: Final = ("x-quorum-initial-group-size", "x-queue-mode", "x-queue-master-locator")
"""Where a queue lies on disk or in a cluster: nothing of it is seen on one node."""
_SINGLE: Final = "x-single-active-consumer"
ALTERNATE: Final = "alternate-exchange"
KNOWN: Final = (*_MILLISECONDS, *_TEXTS, *_COUNTS, _STRATEGY, _SINGLE, *_HARMLESS)


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
    for name in arguments:
        if name not in KNOWN:
            raise not_simulated(f"queue argument {name!r}")
    for name in _MILLISECONDS:
        _check_number(queue, arguments, name, zero=name != "x-expires")
    for name in _COUNTS:
        if arguments.get(name) != -1 or name != "x-delivery-limit":
            _check_number(queue, arguments, name, zero=True)
    for name in _TEXTS:
        value = arguments.get(name)
        if value is not None and not isinstance(value, str):
            raise _invalid(queue, name, "{unacceptable_type," + type_name(value) + "}")
    queue_type = arguments.get("x-queue-type")
    if queue_type not in (None, CLASSIC, QUORUM):
        if queue_type == "stream":
            raise not_simulated("streams")
        raise _invalid(queue, "x-queue-type", f"\"unsupported queue type '{queue_type}'\"")
    exchange, key = arguments.get("x-dead-letter-exchange"), arguments.get("x-dead-letter-routing-key")
    if key is not None and exchange is None:
        raise _invalid(queue, "x-dead-letter-routing-key", "routing_key_but_no_dlx_defined")
    overflow = arguments.get("x-overflow", Overflow.DROP_HEAD.value)
    if overflow == "reject-publish-dlx":
        raise not_simulated("overflow behaviour 'reject-publish-dlx'")
    if overflow not in ("drop-head", "reject-publish"):
        raise _invalid(queue, "x-overflow", "invalid_overflow")
    strategy = arguments.get(_STRATEGY, "at-most-once")
    if strategy not in ("at-most-once", "at-least-once"):
        raise _invalid(queue, _STRATEGY, "invalid_dead_letter_strategy")
    single = arguments.get(_SINGLE, False)
    if not isinstance(single, bool):
        raise _invalid(queue, _SINGLE, f"{{unacceptable_type,{type_name(single)}}}")
    limit = arguments.get("x-delivery-limit")
    options = QueueOptions(
        message_ttl=_seconds(arguments.get("x-message-ttl")),
        expires=_seconds(arguments.get("x-expires")),
        dead_letter_exchange=exchange,
        dead_letter_key=key,
        delivery_limit=None if limit == -1 else limit,
        max_length=arguments.get("x-max-length"),
        overflow=Overflow(overflow),
    )
    return QueueArguments(queue_type, options, single)


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


def check_same_arguments(what: str, name: str, asked: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Raises ``ChannelError`` for the first argument of a queue or exchange that is declared otherwise."""
    for argument in sorted({*asked, *current}):
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


def _check_number(queue: str, arguments: Mapping[str, Any], name: str, *, zero: bool) -> None:
    value = arguments.get(name)
    if value is None:
        return
    if type(value) is not int:
        raise _invalid(queue, name, f'"expected integer, got {type_name(value)}"')
    if value < 0:
        raise _invalid(queue, name, f"{{value_negative,{value}}}")
    if value == 0 and not zero:
        raise _invalid(queue, name, "{value_zero,0}")
    if value > _MOST_MILLISECONDS and name in _MILLISECONDS:
        raise _invalid(queue, name, f"{{value_too_large,{value}}}")


def _invalid(queue: str, name: str, why: str) -> ChannelError:
    return ChannelError(PRECONDITION_FAILED, f"invalid arg '{name}' for queue '{queue}' in vhost '{VHOST}': {why}")


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
