"""One client, from its first answer to its loss: opening it, noticing that it is lost, closing it in bounded time.

The client reconnects its producers and consumers by itself, mostly within a second (a topic that moves to another broker is
such a loss). A session is given up only when one of them stays without connection for ``PATIENCE_SECONDS``, or the broker answers
nothing for ``heartbeat`` seconds: a frozen one leaves every connection up (PUL-12), so it is asked for something now and then.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from factflow_infra.errors import QueueConnectionError, SettingsError
from factflow_infra.queue.forks import process
from factflow_infra.queue.pulsar import client as clients
from factflow_infra.queue.pulsar.failures import request_error, result_of
from factflow_infra.queue.tasks import mark_seen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import TypeVar

    from factflow_infra.queue.pulsar.client import Client, PulsarOptions

    T = TypeVar("T")

CLOSE_TIMEOUT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 1.0
"""What receives may take to end after their consumer is closed."""
LOOK_SECONDS: Final = 0.5
PATIENCE_SECONDS: Final = 3.0
EXIT_SECONDS: Final = 0.6
"""What the threads of a closed client may take to end: half a second, and some."""
_PING_TOPIC: Final = "factflow-ping"


class Session:
    """A live client. Made by ``open_session``; every producer, consumer and reader belongs to one."""

    def __init__(self, client: Client, options: PulsarOptions) -> None:
        self.client = client
        self.options = options
        self.loop = asyncio.get_running_loop()
        self._ended = False
        self._on_lost: Callable[[Exception | None], None] | None = None
        self._handles: dict[Any, float | None] = {}
        self._waiting: dict[asyncio.Future[Any], None] = {}
        self._background: dict[asyncio.Task[Any], None] = {}
        self._receiving: dict[asyncio.Task[None], None] = {}
        self._watching: asyncio.Task[None] | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._ping: asyncio.Future[Any] | None = None
        self._pinged = 0.0
        _alive.add(self)

    @property
    def lost(self) -> bool:
        return self._ended

    @property
    def endpoint(self) -> str:
        return self.options.service_url

    # What belongs to it

    def add(self, handle: Any) -> None:
        """Watch the connection of a producer, consumer or reader."""
        self._handles[handle] = None

    def forget(self, handle: Any) -> None:
        self._handles.pop(handle, None)

    def receive(self, job: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run ``job``, which receives until its consumer is closed.

        It is not cancelled but answered, and ``close`` waits for that: a client that is freed with the answer on its way
        keeps itself, its thread and its descriptors for ever (PUL-28).
        """
        task = asyncio.get_running_loop().create_task(job, name=name)
        self._receiving[task] = None
        task.add_done_callback(self._received)
        return task

    def _received(self, task: asyncio.Task[None]) -> None:
        self._receiving.pop(task, None)
        mark_seen(task)

    def start(self, job: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run ``job`` in the background. ``close`` waits for it."""
        task = asyncio.get_running_loop().create_task(job, name=name)
        self._background[task] = None
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._background.pop(task, None)
        mark_seen(task)

    async def request(self, call: Callable[[], Awaitable[T]], what: str) -> T:
        """The result of ``call()``, a request about ``what``; its failures as our errors, and in time."""
        if self._ended:
            raise QueueConnectionError(f"{what}: not connected to Pulsar at {self.endpoint}")
        task = asyncio.ensure_future(call())
        task.add_done_callback(mark_seen)
        self._waiting[task] = None
        try:
            await asyncio.wait([task], timeout=self.options.request_timeout)
        except asyncio.CancelledError:
            # What it makes must not stay: it is closed when the answer comes.
            task.add_done_callback(self._unwanted)
            raise
        finally:
            self._waiting.pop(task, None)
        if not task.done():
            task.add_done_callback(self._unwanted)
            raise QueueConnectionError(f"{what}: Pulsar did not answer in {self.options.request_timeout} s")
        if task.cancelled():
            raise QueueConnectionError(f"{what}: lost the connection to Pulsar at {self.endpoint}")
        if (error := task.exception()) is not None:
            if result_of(error) is None:
                raise error
            raise request_error(error, what) from error
        return task.result()

    def _unwanted(self, task: asyncio.Future[Any]) -> None:
        if not self._ended and not task.cancelled() and task.exception() is None and hasattr(task.result(), "close"):
            self.start(quietly(task.result().close()), "factflow-pulsar-close-unwanted")

    # Its loss

    def watch(self, on_lost: Callable[[Exception | None], None]) -> None:
        """Have ``on_lost`` called once when the session ends other than by ``close``."""
        loop = asyncio.get_running_loop()
        self._on_lost = on_lost
        self._watching = loop.create_task(self._end_with_loop(), name="factflow-pulsar-watch")
        self._pinged = loop.time()
        self._look_later(loop)

    async def _end_with_loop(self) -> None:
        """Close when the loop ends without ``close``: whoever ends it cancels its tasks first. The client must not outlive it."""
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            if not self._ended:
                self._end()
                await self._leave()
            raise

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        # A timer and no task: it comes twice a second, in every simulated run too.
        self._looking = loop.call_later(LOOK_SECONDS, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Whether there is a connection, and somebody answers."""
        now, heartbeat, ping = loop.time(), self.options.heartbeat, self._ping
        if self._is_cut_off(now):
            self.lose("no connection to the broker")
        elif not heartbeat:
            pass
        elif ping is not None and ping.done():
            if not ping.cancelled() and (error := ping.exception()) is not None:
                self.lose(f"the broker does not answer: {error}")
            self._ping = None
        elif ping is not None and now - self._pinged > heartbeat:
            self.lose(f"the broker has not answered for {heartbeat} s")
        elif ping is None and now - self._pinged >= heartbeat / 2:
            self._ping, self._pinged = asyncio.ensure_future(self.ping()), now
            self._ping.add_done_callback(mark_seen)
        if not self._ended:
            self._look_later(loop)

    def _is_cut_off(self, now: float) -> bool:
        for handle, since in self._handles.items():
            if clients.is_connected(handle):
                self._handles[handle] = None
            elif since is None:
                self._handles[handle] = now
            elif now - since >= PATIENCE_SECONDS:
                return True
        return False

    async def ping(self) -> None:
        """Have the broker answer."""
        options = self.options
        await self.client.get_topic_partitions(f"persistent://{options.tenant}/{options.namespace}/{_PING_TOPIC}")

    def lose(self, reason: str) -> None:
        """End it as a lost connection: nothing of it answers any more."""
        if self._ended:
            return
        on_lost, self._on_lost = self._on_lost, None
        self._end()
        for left in [task for task in _leaving if task.get_loop().is_closed()]:
            _leaving.pop(left)
        leaving = asyncio.ensure_future(self._leave())
        _leaving[leaving] = None
        leaving.add_done_callback(_leaving.pop)
        if on_lost is not None:
            on_lost(QueueConnectionError(f"lost the connection to Pulsar at {self.endpoint}: {reason}"))

    # Its end

    async def close(self, *farewell: Callable[[], Awaitable[None]]) -> None:
        """Close in bounded time, ``farewell`` first; never raises."""
        if self._ended:
            return
        self._on_lost = None
        jobs = [asyncio.ensure_future(quietly(job())) for job in farewell]
        if jobs:
            await asyncio.wait(jobs, timeout=CLOSE_TIMEOUT_SECONDS)
        self._end()
        await self._leave()
        for job in jobs:
            job.cancel()

    def _end(self) -> None:
        self._ended = True
        if self._looking is not None:
            self._looking.cancel()
        if self._watching is not None and self._watching is not asyncio.current_task():
            self._watching.cancel()
        for task in self._waiting:
            task.cancel()

    async def _leave(self) -> None:
        """Close the client, in time, and end its threads whatever the broker says."""
        try:
            await self._within(CLOSE_TIMEOUT_SECONDS, *[quietly(handle.close()) for handle in self._handles])
            # ``client.close`` drops answers that are on their way.
            await self._within(ANSWER_SECONDS, *self._receiving, *self._background)
            await self._within(CLOSE_TIMEOUT_SECONDS, closing := asyncio.ensure_future(quietly(self.client.close())))
            # Without an answer it ends by itself once its requests have timed out. ``shutdown`` is no help (PUL-15).
            if closing.done():
                _alive.discard(self)
        finally:
            for task in (*self._background, *self._receiving):
                task.cancel()
            self._handles.clear()
            _last_end[:] = [time.monotonic()]

    async def _within(self, seconds: float, *jobs: Awaitable[Any]) -> None:
        """Wait for ``jobs``; what takes longer is left behind."""
        if jobs:
            await asyncio.wait([asyncio.ensure_future(job) for job in jobs], timeout=seconds)


async def open_session(options: PulsarOptions) -> Session:
    """Open a client, and return once the broker has answered.

    Raises ``QueueConnectionError``, ``QueueAuthenticationError``, and ``SettingsError`` for what the client refuses.
    """
    try:
        client = clients.open_client(options)
    except (ValueError, RuntimeError) as error:
        raise SettingsError(f"the Pulsar client cannot be made: {error}") from error
    session = Session(client, options)
    try:
        await session.request(session.ping, f"Pulsar at {options.service_url}")
    except BaseException:
        await session.close()
        raise
    return session


async def quietly(call: Awaitable[Any]) -> None:
    """Await ``call``; what the client says about the end of what is ended anyway is of no use."""
    with contextlib.suppress(Exception):
        await call


_alive: WeakSet[Session] = WeakSet()
"""Those whose clients are not closed. A receive under way keeps its own from being collected."""
_leaving: dict[asyncio.Future[Any], None] = {}
"""An event loop keeps its tasks only weakly."""
_forks = process.forks
_last_end: list[float] = []
"""When the last client was closed, on the process's own clock."""


@atexit.register
def _leave_at_exit() -> None:
    # A thread of the client that still runs while the interpreter ends aborts the process (PUL-29).
    if process.forks != _forks:
        return
    if _alive:
        clients.end([session.client for session in _alive], within=ANSWER_SECONDS)
        _last_end[:] = [time.monotonic()]
    if _last_end:
        time.sleep(min(max(_last_end[0] + EXIT_SECONDS - time.monotonic(), 0.0), EXIT_SECONDS))
