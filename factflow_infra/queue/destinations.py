"""Reading abstract destinations: what a service writes, before any broker's own rules.

``/queue/name`` and a bare ``name`` are the same queue, ``/topic/name`` is a topic. Names may hold slashes and colons, as an
execution-scoping wrapper writes them: ``exec:<id>:name``, ``/queue/<id>/name``.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Final

from factflow_infra.errors import InvalidDestinationError
from factflow_infra.queue.transport import Destination, DestinationKind

QUEUE_PREFIX: Final = "/queue/"
TOPIC_PREFIX: Final = "/topic/"
MAX_NAME_BYTES: Final = 1024
"""UTF-8 bytes of an abstract name; a broker's own limit may be lower."""


def parse_destination(text: object) -> Destination:
    """The destination that ``text`` names. Raises ``InvalidDestinationError``, naming the value and what is wrong."""
    if not isinstance(text, str):
        raise InvalidDestinationError(f"destination must be a str, got {type(text).__name__}: {text!r}")
    return _parsed(text)


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Destination:
    # The same few names come again and again, to each provider, its transport and its naming strategy.
    kind, name = DestinationKind.QUEUE, text
    if text.startswith(QUEUE_PREFIX):
        name = text[len(QUEUE_PREFIX) :]
    elif text.startswith(TOPIC_PREFIX):
        kind, name = DestinationKind.TOPIC, text[len(TOPIC_PREFIX) :]
    elif text.startswith("/"):
        raise InvalidDestinationError(
            f"destination {text!r} starts with '/' but neither with {QUEUE_PREFIX!r} nor with {TOPIC_PREFIX!r}"
        )
    _check_name("destination", text, name)
    if "" in name.split("/"):
        raise InvalidDestinationError(f"destination {text!r} has an empty part between slashes")
    return Destination(kind, name, text)


def canonical(destination: Destination) -> str:
    """The destination's one full spelling, ``/queue/name`` or ``/topic/name``."""
    prefix = QUEUE_PREFIX if destination.kind is DestinationKind.QUEUE else TOPIC_PREFIX
    return prefix + destination.name


def check_subscription_name(name: object) -> str:
    """``name`` if it can name a subscription, else ``InvalidDestinationError``."""
    if not isinstance(name, str):
        raise InvalidDestinationError(f"subscription must be a str or None, got {type(name).__name__}: {name!r}")
    _check_name("subscription", name, name)
    return name


def _check_name(what: str, text: str, name: str) -> None:
    if not name:
        raise InvalidDestinationError(f"{what} {text!r} has an empty name")
    for character in "" if name.isprintable() else name:  # what is printable holds neither
        category = unicodedata.category(character)
        if category == "Cc":
            raise InvalidDestinationError(f"{what} {text!r} holds the control character {character!r}")
        if category == "Cs":
            raise InvalidDestinationError(f"{what} {text!r} holds a lone surrogate, which UTF-8 cannot carry")
    if name != name.strip():
        raise InvalidDestinationError(f"{what} {text!r} starts or ends with white space")
    size = len(name.encode())
    if size > MAX_NAME_BYTES:
        raise InvalidDestinationError(
            f"{what} {text!r} has a name of {size} bytes; at most {MAX_NAME_BYTES} are allowed"
        )
