"""What differs between brokers that speak STOMP: one row a profile.

The protocol leaves open what a destination is, what an ACK and a NACK do, and which headers there are; so each broker has its
own module of commands, and one of destinations. What all share is in ``connection``: frames, heart-beats, faults.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

from factflow_infra_testing.wire.stomp import classic, commands, content, login, rabbitmq
from factflow_infra_testing.wire.stomp.addresses import Addresses
from factflow_infra_testing.wire.stomp.errors import StompError
from factflow_infra_testing.wire.stomp.frames import MAX_HEAD_BYTES, MAX_HEADERS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from factflow_infra_testing.broker.entries import Delivery
    from factflow_infra_testing.broker.model import Broker
    from factflow_infra_testing.wire.stomp.connection import StompConnection
    from factflow_infra_testing.wire.stomp.frames import Frame
    from factflow_infra_testing.wire.stomp.login import Login
    from factflow_infra_testing.wire.stomp.subscriptions import Subscription


class Labels(Protocol):
    """What destinations mean on a broker, as far as all of them have it."""

    def label(self, destination: str) -> str:
        """What a plan calls what is sent to ``destination``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """A broker's STOMP. ``user`` and ``password`` are those of the simulated broker.

    ``destinations``: makes what knows them, one a broker. ``log_in``: takes a CONNECT, or raises ``StompError``; ``welcome``: the headers of CONNECTED, for the number of the session and the receipt asked for.
    ``handlers``: the commands of an open session. ``message``: the id to ack a delivery by, and its MESSAGE frame.
    ``unknown``: what to say to a command that it does not know; ``stranger``: to one that comes before CONNECT.
    ``full``: what a refused SEND is told, about ``{}``. ``error_headers``: of an ERROR beside its message, for the frame that it answers and the length of its body.
    ``login_seconds``: so long a client may take to log in. ``again``: what a second CONNECT is told, ``None`` where it is a login.
    ``drops_colons``, ``most_headers``, ``longest_header``: see ``Cutter``. ``tells_silence``: a client that
    is given up for its silence is sent an ERROR. ``ended``: is told of a connection that has ended. ``evidence``: the facts of ``docs/facts.md`` for these fields.
    """

    user: str
    password: str
    destinations: Callable[[Broker], Labels]
    log_in: Callable[[StompConnection, Mapping[str, str]], Login]
    welcome: Callable[[Login, int, str | None], list[tuple[str, str]]]
    handlers: Mapping[str, Callable[[StompConnection, Frame], None]]
    message: Callable[[Subscription, Delivery], tuple[str, bytes]]
    unknown: Callable[[str], StompError]
    stranger: Callable[[str], StompError]
    full: str
    error_headers: Callable[[StompError, Frame | None, int], list[tuple[str, str]]]
    login_seconds: float
    again: StompError | None
    drops_colons: bool
    most_headers: int
    longest_header: int
    tells_silence: bool
    ended: Callable[[StompConnection], None] | None
    evidence: Mapping[str, str]


_ARTEMIS: Final = Dialect(
    user="artemis",
    password="artemis",  # noqa: S106 - of a simulated broker
    destinations=Addresses,
    log_in=lambda connection, headers: login.log_in(headers, connection.front_end.users),
    welcome=login.welcome,
    handlers=commands.HANDLERS,
    message=content.message_of,
    unknown=commands.unknown,
    stranger=commands.stranger,
    full="AMQ339011 Error sending message CoreMessage[address={}]",
    error_headers=commands.error_headers,
    login_seconds=60.0,
    again=None,
    drops_colons=True,
    most_headers=MAX_HEADERS,
    longest_header=MAX_HEAD_BYTES,
    tells_silence=True,
    ended=None,
    evidence=MappingProxyType(
        {
            "destinations": "ART-10",
            "log_in": "ART-25",
            "welcome": "ART-22",
            "handlers": "ART-1",
            "message": "ART-21",
            "unknown": "ART-6",
            "stranger": "ART-6",
            "full": "ART-37",
            "error_headers": "ART-6",
            "login_seconds": "ART-31",
            "again": "ART-25",
            "drops_colons": "ART-32",
            "most_headers": "ART-20",
            "longest_header": "ART-20",
            "tells_silence": "ART-24",
            "ended": "ART-14",
        }
    ),
)

_CLASSIC: Final = Dialect(
    user="admin",
    password="admin",  # noqa: S106
    destinations=classic.Destinations,
    log_in=classic.log_in,
    welcome=classic.welcome,
    handlers=classic.HANDLERS,
    message=classic.message_of,
    unknown=classic.unknown,
    stranger=classic.stranger,
    full="Usage Manager Store is Full, no room for {}",
    error_headers=classic.error_headers,
    login_seconds=30.0,
    again=StompError("Already connected.", closes=False),
    drops_colons=False,
    most_headers=1000,
    longest_header=10_240,
    tells_silence=False,
    ended=classic.ended,
    evidence=MappingProxyType(
        {
            "destinations": "AMQ-10",
            "log_in": "AMQ-16",
            "welcome": "AMQ-17",
            "handlers": "AMQ-1",
            "message": "AMQ-13",
            "unknown": "AMQ-6",
            "stranger": "AMQ-6",
            "full": "AMQ-6",
            "error_headers": "AMQ-6",
            "login_seconds": "AMQ-16",
            "again": "AMQ-16",
            "drops_colons": "AMQ-13",
            "most_headers": "AMQ-13",
            "longest_header": "AMQ-13",
            "tells_silence": "AMQ-17",
            "ended": "AMQ-12",
        }
    ),
)

_RABBITMQ: Final = Dialect(
    user="guest",
    password="guest",  # noqa: S106
    destinations=rabbitmq.Destinations,
    log_in=rabbitmq.log_in,
    welcome=rabbitmq.welcome,
    handlers=rabbitmq.HANDLERS,
    message=rabbitmq.message_of,
    unknown=rabbitmq.unknown,
    stranger=rabbitmq.stranger,
    full="{} took no more",
    error_headers=rabbitmq.error_headers,
    login_seconds=10.0,
    again=StompError("Already connected."),
    drops_colons=False,
    most_headers=MAX_HEADERS,
    longest_header=MAX_HEAD_BYTES,
    tells_silence=False,
    ended=None,
    evidence=MappingProxyType(
        {
            "destinations": "RST-10",
            "log_in": "RST-15",
            "welcome": "RST-16",
            "handlers": "RST-1",
            "message": "RST-13",
            "unknown": "RST-6",
            "stranger": "RST-6",
            "full": "RST-6",
            "error_headers": "RST-6",
            "login_seconds": "RST-15",
            "again": "RST-15",
            "drops_colons": "RST-13",
            "most_headers": "RST-13",
            "longest_header": "RST-13",
            "tells_silence": "RST-16",
            "ended": "RST-3",
        }
    ),
)

DIALECTS: Final[Mapping[str, Dialect]] = MappingProxyType(
    {"artemis": _ARTEMIS, "activemq-classic": _CLASSIC, "rabbitmq-stomp": _RABBITMQ}
)
"""By the name of the profile."""
