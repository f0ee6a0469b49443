"""How abstract destinations are named on each broker: reversibly, without collisions, checked before anything is sent.

A strategy reads what the caller wrote (``destination``), gives the broker's name for it (``encode``) and reads that back
(``decode``). No two destinations have one name, those included that look as if they were encoded already.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote_from_bytes, unquote_to_bytes

from factflow_infra.errors import InvalidDestinationError, SettingsError
from factflow_infra.queue.destinations import canonical, check_subscription_name, parse_destination
from factflow_infra.queue.transport import Destination, DestinationKind

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "AmqpNamingStrategy",
    "NamingStrategy",
    "NamingStrategyRegistry",
    "PulsarNamingStrategy",
    "StompNamingStrategy",
]


class NamingStrategy(Protocol):
    """Names of destinations on one kind of broker. Every method raises ``InvalidDestinationError``."""

    def destination(self, text: str) -> Destination:
        """Read what a caller wrote, refusing what this broker could not hold."""
        ...

    def check_subscription(self, destination: Destination, name: str) -> None:
        """Refuse a subscription name that this broker could not hold on ``destination``."""
        ...

    def encode(self, destination: Destination) -> str:
        """The broker's name for ``destination``."""
        ...

    def decode(self, name: str, kind: DestinationKind = DestinationKind.QUEUE) -> Destination:
        """The destination that ``encode`` named so. ``kind`` matters where the name does not tell."""
        ...


class StompNamingStrategy:
    """``/queue/name`` and ``/topic/name`` as they are, but for what the brokers that speak STOMP give a meaning of its own."""

    _SPECIAL: Final = ("::", "*", "#", ">", ",", "?")

    def destination(self, text: str) -> Destination:
        destination = parse_destination(text)
        for special in self._SPECIAL:
            if special in destination.name:
                raise InvalidDestinationError(
                    f"destination {text!r} holds {special!r}, which is a wildcard or a separator to STOMP brokers"
                )
        return destination

    def check_subscription(self, destination: Destination, name: str) -> None:
        del destination
        check_subscription_name(name)

    def encode(self, destination: Destination) -> str:
        return canonical(destination)

    def decode(self, name: str, kind: DestinationKind = DestinationKind.QUEUE) -> Destination:
        del kind
        destination = self.destination(name)
        if canonical(destination) != name:
            raise InvalidDestinationError(f"{name!r} is no STOMP destination: it needs its /queue/ or /topic/")
        return destination


class AmqpNamingStrategy:
    r"""Names that match ``[a-zA-Z0-9_\-.:]+``: what does not is written ``-.<hex of its UTF-8 bytes>.``.

    A ``-`` that a ``.`` follows is itself written so, and so is the ``a`` of a leading ``amq.``, which brokers reserve. An
    encoded name therefore holds ``-.`` only before upper-case hex digits, and ``derived`` can join names with ``-.`` and a
    lower-case label without ever meeting another destination's name.
    """

    MAX_BYTES: Final = 255
    """What an AMQP short string holds."""
    ROOM: Final = 40
    """Bytes kept free for a label that the provider appends, such as that of a delayed-retry queue."""

    _PLAIN: Final = re.compile(r"[a-zA-Z0-9_\-.:]+", re.ASCII)
    _UNSAFE: Final = re.compile(r"(?:[^a-zA-Z0-9_\-.:]|-(?=\.)|^a(?=mq\.))+", re.ASCII)
    _ENCODED: Final = re.compile(r"-\.((?:[0-9A-F]{2})+)\.", re.ASCII)

    def destination(self, text: str) -> Destination:
        destination = parse_destination(text)
        self._fit("destination", text, self.encode(destination))
        return destination

    def check_subscription(self, destination: Destination, name: str) -> None:
        check_subscription_name(name)
        if destination.kind is DestinationKind.TOPIC:
            self._fit("subscription", name, self.subscription_queue(destination, name))

    def encode(self, destination: Destination) -> str:
        return self.encode_name(destination.name)

    def decode(self, name: str, kind: DestinationKind = DestinationKind.QUEUE) -> Destination:
        decoded = self.decode_name(name)
        prefix = "/queue/" if kind is DestinationKind.QUEUE else "/topic/"
        return Destination(kind, decoded, prefix + decoded)

    def encode_name(self, name: str) -> str:
        """``name``, of a destination or a subscription, in the characters that AMQP names may have."""
        return self._UNSAFE.sub(lambda match: f"-.{match[0].encode().hex().upper()}.", name)

    def decode_name(self, encoded: str) -> str:
        """What ``encode_name`` encoded so. Raises ``InvalidDestinationError`` for what it never gives."""
        try:
            name = self._ENCODED.sub(lambda match: bytes.fromhex(match[1]).decode(), encoded)
        except UnicodeDecodeError:
            name = ""
        if self._PLAIN.fullmatch(encoded) is None or self.encode_name(name) != encoded:
            raise InvalidDestinationError(f"{encoded!r} is no name that this provider gives on AMQP")
        parse_destination("/queue/" + name)
        return name

    def subscription_queue(self, destination: Destination, subscription: str) -> str:
        """The queue behind one subscription of a topic."""
        return self.derived(self.encode(destination), "sub", self.encode_name(subscription))

    def derived(self, encoded: str, label: str, detail: str = "") -> str:
        """A name that goes with ``encoded`` and is no other destination's. ``label``: lower-case letters."""
        return f"{encoded}-.{label}.{detail}" if detail else f"{encoded}-.{label}"

    def _fit(self, what: str, text: str, encoded: str) -> None:
        most = self.MAX_BYTES - self.ROOM
        if len(encoded) > most:
            raise InvalidDestinationError(
                f"{what} {text!r} is too long for AMQP: {len(encoded)} bytes as {encoded!r}, at most {most}"
            )


class PulsarNamingStrategy:
    """``persistent://tenant/namespace/queue.<name>`` or ``.../topic.<name>``, percent-encoded where Pulsar needs it.

    Pulsar knows only topics, so the kind is part of the name. A trailing ``-partition-<n>`` would be taken for a part of a
    partitioned topic, and is encoded too.
    """

    _SAFE: Final = "-_.:"
    _PARTITION: Final = re.compile(r"-(?=partition-[0-9]+$)", re.ASCII)

    def __init__(self, *, tenant: str = "public", namespace: str = "default") -> None:
        for what, value in (("tenant", tenant), ("namespace", namespace)):
            if re.fullmatch(r"[-=:.\w]+", value, re.ASCII) is None:
                raise SettingsError(f"Pulsar {what} must be of letters, digits and '-=:._', got {value!r}")
        self._prefix = f"persistent://{tenant}/{namespace}/"

    def destination(self, text: str) -> Destination:
        return parse_destination(text)

    def check_subscription(self, destination: Destination, name: str) -> None:
        del destination
        check_subscription_name(name)

    def encode(self, destination: Destination) -> str:
        quoted = quote_from_bytes(destination.name.encode(), safe=self._SAFE)
        return f"{self._prefix}{destination.kind.value}.{self._PARTITION.sub('%2D', quoted)}"

    def retry_topic(self, destination: Destination, subscription: str) -> str:
        """The topic of what one subscription of ``destination`` gets again; no destination has its name."""
        names = (destination.name, subscription)
        topic, name = (quote_from_bytes(part.encode(), safe=self._SAFE) for part in names)
        return f"{self._prefix}retry.{topic}@{self._PARTITION.sub('%2D', name)}"

    def decode(self, name: str, kind: DestinationKind = DestinationKind.QUEUE) -> Destination:
        del kind
        kind_text, dot, quoted = name.removeprefix(self._prefix).partition(".")
        if name.startswith(self._prefix) and dot and kind_text in ("queue", "topic"):
            try:
                destination = parse_destination(f"/{kind_text}/{unquote_to_bytes(quoted).decode()}")
            except UnicodeDecodeError:
                destination = None
            if destination is not None and self.encode(destination) == name:
                return destination
        raise InvalidDestinationError(f"{name!r} is no topic that this provider names below {self._prefix!r}")


class NamingStrategyRegistry:
    """Naming strategies by name: ``stomp``, ``amqp`` and ``pulsar``, and what is registered beside them."""

    def __init__(self, strategies: Mapping[str, NamingStrategy] | None = None) -> None:
        if strategies is None:
            strategies = {
                "amqp": AmqpNamingStrategy(),
                "pulsar": PulsarNamingStrategy(),
                "stomp": StompNamingStrategy(),
            }
        self._strategies: dict[str, NamingStrategy] = dict(strategies)

    @property
    def names(self) -> tuple[str, ...]:
        """The known names, sorted."""
        return tuple(sorted(self._strategies))

    def get(self, name: str) -> NamingStrategy:
        """The strategy called ``name``. Raises ``SettingsError``, listing the known ones."""
        try:
            return self._strategies[name]
        except (KeyError, TypeError):
            raise SettingsError(f"no naming strategy {name!r}; known: {', '.join(self.names)}") from None

    def register(self, name: str, strategy: NamingStrategy) -> None:
        """Add a strategy. Raises ``SettingsError`` where the name is taken."""
        if name in self._strategies:
            raise SettingsError(f"a naming strategy {name!r} is registered already")
        self._strategies[name] = strategy
