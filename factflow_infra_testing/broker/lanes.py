"""The two lanes of a model tier's connection: frames in virtual time, first in, first out, and the ways that they fail.

Each direction takes a constant time, so everything sent in one instant arrives in one event of the loop. What is sent into
a cut line vanishes without an error, as it does into the buffer of an operating system.
"""

from __future__ import annotations

import contextvars
from collections import deque
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from factflow_infra_testing.search.network_faults import BEFORE, BOTH_WAYS, INSIDE, TO_SERVER

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from factflow_infra_testing.broker.entries import Delivery
    from factflow_infra_testing.broker.server import SimulatedBroker

LATENCY: Final = 0.000_25
"""Seconds that a frame takes, each way: a publish is confirmed after twice that."""


class Lanes:
    """Carries the frames of a connection between ``hosts``, the client's and the broker's."""

    def __init__(self, server: SimulatedBroker, *, exposed: bool, hosts: tuple[str, str]) -> None:
        self.server = server
        self.exposed = exposed
        self.hosts: tuple[str, str] | None = hosts
        self.divisible = False
        self.loop = server.loop
        self.client_open = True
        self.server_open = True
        self.cut = False  # nothing gets through any more, in either direction
        self._mute_up = self._mute_down = False  # nothing gets through any more that way
        self._isolated = False  # what is under way waits for a partition to heal
        self._context = contextvars.copy_context()  # what runs at the client's end runs as the client
        self._up: deque[tuple[float, Callable[[Any], None], Any]] = deque()
        self._down: deque[tuple[float, Callable[[Any], None], Any]] = deque()
        self._up_armed = False
        self._down_armed = False
        self._floor = self._up_floor = 0.0
        self._timers: list[asyncio.TimerHandle] = []
        self._partition_timers: list[asyncio.TimerHandle] = []
        if exposed and not server.links.passable(*hosts):
            self.isolate(isolated=True)

    if TYPE_CHECKING:  # what the ends add, which makes it a ``Line``
        client: str
        outbox: list[tuple[Any, Delivery]]

        @property
        def pending(self) -> str: ...
        def kill(self, *, silent: bool) -> None: ...
        def deliver(self, consumer: Any, delivery: Delivery) -> None: ...
        def close_server(self, _: None = None) -> None: ...
        def _notice_loss(self, reason: str) -> None: ...

    # --- the two lines ----------------------------------------------------------------------------------------------

    def _send_up(self, arrive: Callable[[Any], None], item: Any) -> None:
        if self.cut or self._mute_up:
            return
        due = max(self.loop.time() + LATENCY, self._up_floor)
        self._up.append((due, arrive, item))
        if not self._up_armed:
            self._up_armed = True
            self.loop.call_at(due, self._arrive, context=self.server.context)

    def _arrive(self) -> None:
        server = self.server
        frames = self._up
        now = server.advance()
        if now < server.up_at:
            self.loop.call_at(
                server.up_at, self._arrive, context=server.context
            )  # only a line that survives a restart still holds frames
            return
        if self._isolated:
            self._up_armed = False  # healing sets it going again
            return
        at_risk = self.exposed and server.frames_at_risk
        while frames and frames[0][0] <= now:
            _, arrive, item = frames.popleft()
            if at_risk:
                self._arrive_at_risk(arrive, item)
            else:
                arrive(item)
        server.flush()
        if frames:
            self.loop.call_at(frames[0][0], self._arrive, context=server.context)
        else:
            self._up_armed = False

    def _arrive_at_risk(self, arrive: Callable[[Any], None], item: Any) -> None:
        frame = self._frame_at_risk(arrive, item)
        if frame is None:
            arrive(item)
            return
        fate = self.server.meet_frame(self, *frame)
        if fate.delay:
            self._hold_up(fate.delay, arrive, item)
        elif fate.loss in (BEFORE, INSIDE):  # half a frame is none
            self.reset("connection reset by peer")
        elif not self._mute_up:
            arrive(item)
            if fate.loss:
                self.reset("connection reset by peer")

    def _frame_at_risk(self, arrive: Callable[[Any], None], item: Any) -> tuple[str, str] | None:
        """What a frame is called in plans and whom it is about, or None for one that meets no fault of the network."""
        operation = _OPERATIONS.get(arrive.__name__)
        return None if operation is None else (operation[0], operation[1](item))

    def _hold_up(self, seconds: float, arrive: Callable[[Any], None], item: Any) -> None:
        """Have a frame, and all behind it, arrive later."""

        def taken(_: Any) -> None:  # under another name: it has met its fault
            arrive(item)

        frames = self._up
        self._up_floor = floor = self.loop.time() + seconds
        later = [(max(due, floor), each, subject) for due, each, subject in frames]
        frames.clear()
        frames.append((floor, taken, None))
        frames.extend(later)

    def send_down(self, receive: Callable[[Any], None], item: Any) -> None:
        """Send a frame to the client."""
        if self.cut or self._mute_down:
            return
        due = self.loop.time() + LATENCY
        due = max(due, self._floor)
        self._down.append((due, receive, item))
        if not self._down_armed:
            self._down_armed = True
            self.loop.call_at(due, self._receive, context=self._context)

    def _receive(self) -> None:
        frames = self._down
        if self._isolated:
            self._down_armed = False
            return
        now = self.server.touch()
        try:
            while frames and frames[0][0] <= now:
                _, receive, item = frames.popleft()
                receive(item)
        finally:  # a client's mistake must not stop its line
            if frames:
                self.loop.call_at(frames[0][0], self._receive, context=self._context)
            else:
                self._down_armed = False

    # --- how it fails -----------------------------------------------------------------------------------------------

    def delay_down(self, seconds: float) -> None:
        """Nothing sent from now on reaches the client sooner than in ``seconds``."""
        self._floor = self.loop.time() + LATENCY + seconds

    def reset(self, reason: str) -> None:
        """The connection is reset: the broker knows now, the client when what was sent to it has arrived."""
        if self.cut:
            return
        self.send_down(self._notice_loss, reason)
        self.cut = True
        self.close_server()

    def deliver_half(self, consumer: Any, delivery: Delivery) -> None:
        """Nothing: half a frame is none."""

    def deliver_split(self, consumer: Any, delivery: Delivery, choice: int) -> None:
        """There are no bytes here to be split."""
        del choice
        self.deliver(consumer, delivery)

    def hush(self, way: int) -> None:
        """Nothing gets through any more, one way or both; the heartbeats that are missed tell."""
        if self.cut:
            return
        heartbeat = self.server.heartbeat
        if way == BOTH_WAYS:
            self.fall_silent(broker_after=heartbeat, client_after=heartbeat)
        elif way == TO_SERVER:
            self._mute_up = True
            self._up.clear()
            self._timers.append(self.loop.call_later(heartbeat, self._break_from_server, context=self.server.context))
        else:
            self._mute_down = True
            self._timers.append(self.loop.call_later(heartbeat, self._break_from_client, context=self._context))

    def _break_from_server(self) -> None:
        self.server.advance()
        self.reset("no heartbeat came")
        self.server.flush()

    def _break_from_client(self) -> None:
        self._notice_loss("no heartbeat came")
        if not self.cut:
            self._send_up(self.close_server, None)

    def isolate(self, *, isolated: bool) -> None:
        """A partition begins or ends. One that outlasts the heartbeats ends the connection, for each side by itself."""
        if isolated == self._isolated:
            return
        self._isolated = isolated
        for timer in self._partition_timers:
            timer.cancel()
        self._partition_timers.clear()
        if isolated:
            call_later, heartbeat = self.loop.call_later, self.server.heartbeat
            self._partition_timers += [
                call_later(heartbeat, self._give_up_client, context=self.server.context),
                call_later(heartbeat, self._notice_loss, "no heartbeat came", context=self._context),
            ]
            return
        if self._up and not self._up_armed:
            self._up_armed = True
            self.loop.call_soon(self._arrive, context=self.server.context)
        if self._down and not self._down_armed:
            self._down_armed = True
            self.loop.call_soon(self._receive, context=self._context)
        if self.client_open and not self.server_open and not self.cut:
            self.reset("the broker had given it up")

    def fall_silent(self, *, broker_after: float, client_after: float, keep_sent: bool = False) -> None:
        """Nothing gets through any more; each end notices after its own time. ``keep_sent``: what was sent arrives."""
        if self.cut:
            return
        self.cut = True
        if not keep_sent:
            self._up.clear()
            self._down.clear()
        self._give_up_client_in(broker_after)
        notice = self.loop.call_later(client_after, self._notice_loss, "no heartbeat came", context=self._context)
        self._timers.append(notice)

    def stall(self, seconds: float) -> None:
        """The client's process stands still for ``seconds``: past its heartbeat the broker gives the connection up."""
        if seconds > self.server.heartbeat:
            self.fall_silent(broker_after=self.server.heartbeat, client_after=seconds, keep_sent=True)

    def _give_up_client_in(self, seconds: float) -> None:
        self._timers.append(self.loop.call_later(seconds, self._give_up_client, context=self.server.context))

    def _give_up_client(self) -> None:
        self.server.advance()
        self.close_server()
        self.server.flush()


_OPERATIONS: Final[Mapping[str, tuple[str, Callable[[Any], str]]]] = MappingProxyType(
    {
        "_arrive_publish": ("publish", lambda publish: publish.place.label),
        "_arrive_ack": ("ack", lambda delivery: delivery.queue.label),
        "_arrive_release": ("nack", lambda delivery: delivery.queue.label),
        "_arrive_consume": ("subscribe", lambda call: call[0].place.label),
        "_arrive_cancel": ("unsubscribe", lambda call: call[0].place.label),
    }
)
"""What the frames are called in plans, and whom they are about; others meet no fault of the network."""
