"""Checks of the options that callers give, before any I/O."""

from __future__ import annotations

from factflow_infra.errors import InvalidSubscriptionError
from factflow_infra.queue.messages import ErrorHandling, check_seconds, check_whole
from factflow_infra.queue.options import MAX_PREFETCH


def check_grace(timeout: object) -> None:
    """``timeout`` of ``close`` or ``stop``: seconds, or ``None``."""
    if timeout is not None:
        check_seconds("timeout", timeout)


def check_handler(handler: object) -> None:
    if not callable(handler):
        raise InvalidSubscriptionError(
            f"handler must be an async function that takes a QueueMessage, got {type(handler).__name__}: {handler!r}"
        )


def check_count(name: str, value: object) -> None:
    """``value``: messages held at once."""
    check_whole(name, value, least=1)
    assert isinstance(value, int)
    if value > MAX_PREFETCH:
        raise InvalidSubscriptionError(f"{name} must be at most {MAX_PREFETCH}, got {value!r}")


def check_error_handling(error_handling: object) -> None:
    if not isinstance(error_handling, ErrorHandling):
        raise InvalidSubscriptionError(
            f"error_handling must be an ErrorHandling, got {type(error_handling).__name__}: {error_handling!r}"
        )
