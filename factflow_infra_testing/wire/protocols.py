"""Which protocol each simulated broker speaks on the wire: one row a profile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from factflow_infra.errors import SettingsError
from factflow_infra_testing.broker.profiles import profile_named

if TYPE_CHECKING:
    from collections.abc import Mapping

    from factflow_infra_testing.broker.queue_types import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class WireProtocol:
    """A front end: ``package`` beside this module, loaded when it is first asked for, as libraries come with it.

    Its module ``frontend`` has the class ``front_end``; ``provider`` has ``listening``, ``broker_uris`` and
    ``wire_provider``, but for Pulsar, whose client cannot live in virtual time and has the API tier. ``port``: the usual one.
    ``login``: ``user:password`` of the simulated broker, empty where it asks for none; ``path`` ends its URI. ``provided``: a provider
    of ``factflow_infra`` is for this broker. ``libraries``: those that its clients are made with, by their names on the package index.
    """

    name: str
    package: str
    front_end: str
    scheme: str
    port: int
    login: str
    path: str = ""
    provided: bool = True
    libraries: tuple[str, ...] = ()

    def make(self, server: Any) -> Any:
        """A front end of the simulated broker ``server``."""
        return getattr(import_module(f"{__package__}.{self.package}.frontend"), self.front_end)(server)

    @property
    def provider(self) -> Any:
        """The module that has the production provider connect to it."""
        return import_module(f"{__package__}.{self.package}.provider")

    def uri(self, host: str, port: int) -> str:
        """Where clients find it on a real socket."""
        return f"{self.scheme}://{self.login}{'@' if self.login else ''}{host}:{port}{self.path}"


_AMQP: Final = WireProtocol(
    name="AMQP 0-9-1",
    package="amqp",
    front_end="AmqpFrontEnd",
    scheme="amqp",
    port=5672,
    login="guest:guest",
    path="/",
    libraries=("aio-pika", "aiormq", "faststream"),
)
_STOMP: Final = WireProtocol(
    name="STOMP 1.2",
    package="stomp",
    front_end="StompFrontEnd",
    scheme="stomp",
    port=61613,
    login="artemis:artemis",
    libraries=("stompman",),
)
_STOMP_OF_ACTIVEMQ: Final = replace(_STOMP, login="admin:admin", provided=False)
_STOMP_OF_RABBITMQ: Final = replace(_STOMP, login="guest:guest", provided=False)
_PULSAR: Final = WireProtocol(
    name="Pulsar's binary protocol",
    package="pulsar",
    front_end="PulsarFrontEnd",
    scheme="pulsar",
    port=6650,
    login="",
    libraries=("pulsar-client",),
)

PROTOCOLS: Final[Mapping[str, WireProtocol]] = MappingProxyType(
    {
        "activemq-classic": _STOMP_OF_ACTIVEMQ,
        "artemis": _STOMP,
        "pulsar": _PULSAR,
        "rabbitmq-classic": _AMQP,
        "rabbitmq-quorum": _AMQP,
        "rabbitmq-stomp": _STOMP_OF_RABBITMQ,
    }
)
"""By the name of the profile."""


def protocol_of(profile: str | Profile) -> WireProtocol:
    """The protocol of ``profile``. Raises ``SettingsError``: it is not known, or has none."""
    row = profile_named(profile)
    protocol = PROTOCOLS.get(row.name)
    if protocol is None:
        raise SettingsError(f"profile {row.name!r} has no tier 'wire'; those that have: {', '.join(sorted(PROTOCOLS))}")
    return protocol
