"""The faults of the network: a closed list, and how each is asked for.

A connection to a simulated broker is struck at a *frame*: whoever speaks the protocol knows what the bytes mean, so the
target says it in the words of the domain, ``ack orders`` or ``deliver /topic/news#audit``, and the plan reads "the 2nd ack
on orders". Any other connection is struck at a segment, and the target is the link, ``worker>shop:80`` or, for the way
back, ``shop:80>worker``. Connecting is struck at the attempt, with the target ``worker>rabbitmq-quorum``. The connections of
the test itself meet none of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from factflow_infra_testing.search.kinds import FaultKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from factflow_infra_testing.search.decisions import Decisions

LINK_DELAY: Final = "link-delay"
LINK_SPLIT: Final = "link-split"
LINK_LOSS: Final = "link-loss"
LINK_SILENT: Final = "link-silent"
PARTITION: Final = "partition"
DNS_FAILURE: Final = "dns-failure"
CONNECT_REFUSED: Final = "connect-refused"
CONNECT_CUT: Final = "connect-cut"

DELAYS: Final = (0.0, 0.001, 0.05, 1.0)
"""Seconds by choice of ``link-delay``."""
PARTITION_SECONDS: Final = (0.0, 5.0, 45.0, 300.0)
"""By choice of ``partition``: nobody notices, a request times out, heartbeats are missed."""

BEFORE, INSIDE, AFTER = 1, 2, 3
"""Choices of ``link-loss``."""
TO_SERVER, TO_CLIENT, BOTH_WAYS = 1, 2, 3
"""Choices of ``link-silent``."""
HALF, FIRST_BYTE, LAST_BYTE, EACH_BYTE = 1, 2, 3, 4
"""Choices of ``link-split``."""
REFUSED, UNANSWERED = 1, 2
"""Choices of ``connect-refused``."""
CLOSED, RESET, MUTE = 1, 2, 3
"""Choices of ``connect-cut``."""
TRY_AGAIN, UNKNOWN = 1, 2
"""Choices of ``dns-failure``."""

NETWORK_FAULTS: Final[Mapping[str, FaultKind]] = MappingProxyType(
    {
        kind.kind: kind
        for kind in (
            FaultKind(
                LINK_SPLIT,
                ("its first half, then the rest", "a byte, then the rest", "all but a byte first", "byte by byte"),
                "what carries a frame arrives in parts",
                0.1,
            ),
            FaultKind(
                LINK_DELAY, ("1 ms", "50 ms", "1 s"), "a frame, and all behind it in its direction, takes longer", 0.1
            ),
            FaultKind(
                DNS_FAILURE, ("for now", "unknown"), "the name server does not know a host for now, or at all", 0.05
            ),
            FaultKind(
                CONNECT_REFUSED, ("refused", "no answer"), "a connection is refused, or its packets get no answer", 0.05
            ),
            FaultKind(
                CONNECT_CUT,
                ("closed", "reset", "silent"),
                "a connection is made and ends before its first answer, as where a TLS handshake fails",
                0.05,
            ),
            FaultKind(
                LINK_LOSS,
                ("before", "inside", "after"),
                "the connection is reset at a frame: before it, amid it, or just after it",
                0.03,
            ),
            FaultKind(
                LINK_SILENT,
                ("towards the broker", "towards the client", "both ways"),
                "from a frame on nothing gets through, that way or both, until the heartbeats are missed",
                0.02,
            ),
            FaultKind(
                PARTITION,
                ("5 s", "45 s", "5 min"),
                "after a frame nothing passes between its two hosts for a time; what was under way arrives then",
                0.02,
            ),
        )
    }
)
"""Every kind by name, mildest first."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What befalls one frame. ``delay``: seconds; ``split``, ``loss``, ``silent``: choices of those kinds; ``partition``: seconds."""

    kind: str = ""
    delay: float = 0.0
    split: int = 0
    loss: int = 0
    silent: int = 0
    partition: float = 0.0


UNHARMED: Final = Fate()


class NetworkFaults:
    """Asks for the faults of the network, skipping what cannot happen in this run.

    At each point all of its kinds are asked for, so that the ordinals of one do not depend on the answer of another; the
    first that deviates happens.
    """

    __slots__ = ("_at_connect", "_at_frame", "_decisions", "at_frames")

    def __init__(self, decisions: Decisions | None) -> None:
        self._decisions = decisions
        kinds = self._live(LINK_SPLIT, LINK_DELAY, LINK_LOSS, LINK_SILENT, PARTITION)
        self.at_frames = bool(kinds)
        """Whether anything can befall a frame."""
        self._at_frame = {
            (divisible, apart): tuple(
                row for row in kinds if (divisible or row[0] != LINK_SPLIT) and (apart or row[0] != PARTITION)
            )
            for divisible in (False, True)
            for apart in (False, True)
        }
        self._at_connect = self._live(DNS_FAILURE, CONNECT_REFUSED, CONNECT_CUT)

    def _live(self, *kinds: str) -> tuple[tuple[str, int], ...]:
        decisions = self._decisions
        if decisions is None:
            return ()
        return tuple((kind, 1 + len(NETWORK_FAULTS[kind].choices)) for kind in kinds if decisions.enabled(kind))

    def at_connect(self, target: str) -> tuple[str, int]:
        """What befalls an attempt to connect: a kind and its choice, or ``("", 0)``."""
        return self._ask(self._at_connect, target)

    def at_frame(self, target: str, *, divisible: bool, apart: bool) -> Fate:
        """What befalls a frame. ``divisible``: its reader may see it in parts; ``apart``: the hosts differ."""
        kind, choice = self._ask(self._at_frame[divisible, apart], target)
        if not choice:
            return UNHARMED
        if kind == LINK_DELAY:
            return Fate(kind, delay=DELAYS[choice])
        if kind == LINK_SPLIT:
            return Fate(kind, split=choice)
        if kind == LINK_LOSS:
            return Fate(kind, loss=choice)
        if kind == LINK_SILENT:
            return Fate(kind, silent=choice)
        return Fate(kind, partition=PARTITION_SECONDS[choice])

    def _ask(self, kinds: tuple[tuple[str, int], ...], target: str) -> tuple[str, int]:
        decisions = self._decisions
        happens = ("", 0)
        for kind, choices in kinds:
            assert decisions is not None
            choice = decisions.pick(choices, kind, target)
            if choice and not happens[1]:
                happens = (kind, choice)
        return happens


def splits(size: int, choice: int) -> list[int]:
    """Where ``link-split`` cuts a frame of ``size`` bytes: offsets at which a read ends."""
    if size < 2:
        return []
    if choice == EACH_BYTE:
        return list(range(1, size))
    return [{HALF: size // 2, FIRST_BYTE: 1, LAST_BYTE: size - 1}[choice]]
