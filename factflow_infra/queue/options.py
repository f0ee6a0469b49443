"""What can be set about the engine, whatever the broker."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cache
from typing import Final, cast

from factflow_infra.errors import SettingsError

MAX_PREFETCH: Final = 65_535
"""The most messages that one subscription can hold: what AMQP's 16 bits can say, on every broker the same."""

_ZERO_ALLOWED: Final = frozenset({"cancel_grace"})


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Times are in seconds.

    ``reconnect_base``, ``reconnect_cap``: the first and the longest pause between attempts to reconnect, to consume again
    or to publish the copy of a message that is being settled. ``prefetch``: messages that a subscription holds unless it
    says otherwise (never fewer than its concurrency). ``max_message_bytes``: body, headers and ids together.
    ``cancel_grace``: how long a cancelled handler may take to end before it is abandoned. ``stall_after``: held messages
    without progress for so long make ``health`` say ``stalled``. ``batch_window``: messages of one ``publish_batch`` in
    flight. Raises ``SettingsError``.
    """

    reconnect_base: float = 0.5
    reconnect_cap: float = 30.0
    connect_timeout: float = 30.0
    publish_timeout: float = 30.0
    prefetch: int = 100
    max_message_bytes: int = 16 * 1024 * 1024
    cancel_grace: float = 5.0
    stall_after: float = 300.0
    batch_window: int = 100

    def __post_init__(self) -> None:
        for name, whole in _option_types():
            value = cast("object", getattr(self, name))
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                raise SettingsError(f"{name} must be {'a whole' if whole else 'a'} number, got {value!r}")
            if not math.isfinite(value) or value < 0 or (value == 0 and name not in _ZERO_ALLOWED):
                raise SettingsError(f"{name} must be finite and more than 0, got {value!r}")
        if self.prefetch > MAX_PREFETCH:
            raise SettingsError(f"prefetch must be at most {MAX_PREFETCH}, got {self.prefetch!r}")
        if self.reconnect_base > self.reconnect_cap:
            raise SettingsError(
                f"reconnect_base must be at most reconnect_cap ({self.reconnect_cap!r}), got {self.reconnect_base!r}"
            )


@cache
def _option_types() -> tuple[tuple[str, bool], ...]:
    """Each option, and whether it is a whole number."""
    return tuple((option.name, option.type == "int") for option in fields(EngineOptions))
