"""When single messages expire, as RabbitMQ reads it (RMQ-58): over AMQP, and over STOMP by its plugin."""

from __future__ import annotations

import re
from typing import Final

MOST_MILLISECONDS: Final = 315_360_000_000
"""Ten years."""
_NUMBER: Final = re.compile(r"[+-]?[0-9]+", re.ASCII)


def read_expiration(text: str) -> float:
    """Seconds. Raises ``ValueError`` with what RabbitMQ has against ``text``."""
    found = _NUMBER.match(text)
    if found is None:
        raise ValueError("no_integer")
    if found.end() < len(text):
        raise ValueError(f'{{leftover_string,"{text[found.end() :]}"}}')
    milliseconds = int(text)
    if milliseconds < 0:
        raise ValueError(f"{{value_negative,{milliseconds}}}")
    if milliseconds > MOST_MILLISECONDS:
        raise ValueError(f"{{value_too_large,{milliseconds}}}")
    return milliseconds / 1000
