"""Heart-beats, both ways: sent in time, and missed when they do not come. The client library does only the first.

Without the second, a connection whose peer is gone and says nothing (a pulled cable, a frozen broker) looks alive for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stompman import Heartbeat

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_SILENT_INTERVALS: Final = 2
"""So many whole intervals without a byte, and the connection is taken for lost: within two to three of them."""
_MOST_MS: Final = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Agreed:
    """What both sides agreed on, in seconds; 0 is never."""

    send_every: float
    expect_every: float


def agree(ours: int, answer: str | None) -> Agreed:
    """What follows from our interval (ms, both ways) and the server's ``heart-beat`` header. STOMP 1.2, "Heart-beating".

    A server that wants beats gets them even where we announced none: Artemis cuts off who is silent for a minute
    (ART-22). One that wants none gets none: stompman would send them without a pause then.
    """
    theirs = _parsed(answer)
    wanted = theirs.want_to_receive_interval_ms
    send = max(ours, wanted) if wanted else 0
    expect = max(ours, theirs.will_send_interval_ms) if ours and theirs.will_send_interval_ms else 0
    return Agreed(send / 1000, expect / 1000)


def _parsed(header: str | None) -> Heartbeat:
    try:
        heartbeat = Heartbeat.from_header(header or "0,0")
    except ValueError:
        return Heartbeat(0, 0)
    if not (
        0 <= heartbeat.will_send_interval_ms <= _MOST_MS and 0 <= heartbeat.want_to_receive_interval_ms <= _MOST_MS
    ):
        return Heartbeat(0, 0)
    return heartbeat


class Heartbeats:
    """Keeps one connection's beats. ``beat`` sends one; ``last_read`` changes whenever bytes have come."""

    def __init__(
        self,
        agreed: Agreed,
        loop: asyncio.AbstractEventLoop,
        *,
        beat: Callable[[], None],
        last_read: Callable[[], float | None],
        on_silence: Callable[[float], None],
    ) -> None:
        self._agreed = agreed
        self._loop = loop
        self._beat = beat
        self._last_read = last_read
        self._on_silence = on_silence
        self._seen = last_read()
        self._silent = 0
        self._timers: dict[str, asyncio.TimerHandle] = {}
        if agreed.send_every:
            self._timers["send"] = loop.call_later(agreed.send_every, self._send)
        if agreed.expect_every:
            self._timers["expect"] = loop.call_later(agreed.expect_every, self._look)

    def stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _send(self) -> None:
        self._timers["send"] = self._loop.call_later(self._agreed.send_every, self._send)
        self._beat()

    def _look(self) -> None:
        self._timers["expect"] = self._loop.call_later(self._agreed.expect_every, self._look)
        # Whether it changed is asked, not how long ago it was: it is wall-clock time, which may jump.
        seen = self._last_read()
        self._silent = 0 if seen != self._seen else self._silent + 1
        self._seen = seen
        if self._silent >= _SILENT_INTERVALS:
            self._on_silence(self._silent * self._agreed.expect_every)
