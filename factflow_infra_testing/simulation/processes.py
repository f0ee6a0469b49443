"""Processes: what dies together, is started again, and is told to terminate.

A process is a service under test with its tasks, its providers and its connections. A kill runs no ``finally`` and no
``except`` in it: the loop never resumes its coroutines. A supervisor starts it again, as it does after a crash.
"""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from inspect import isawaitable
from math import inf
from typing import TYPE_CHECKING, Final

from factflow_infra_testing.errors import KitUsageError
from factflow_infra_testing.simulation.owners import OWNER, Owner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from factflow_infra.protocols import QueueProtocol, StorageProtocol
    from factflow_infra_testing.history.operations import History
    from factflow_infra_testing.simulation.simulation import Simulation

    Main = Callable[["Process"], Awaitable[None]]

RESTART_SECONDS: Final = (1.0, 60.0)
"""A supervisor's pause before the first restart, doubled at each further one, up to the second figure."""
TERMINATION_SECONDS: Final = 30.0
"""What a process that is told to terminate has, until it is killed (Kubernetes' default grace period)."""
PAUSE_SECONDS: Final = 90.0
"""Longer than the brokers' heartbeats allow (RabbitMQ: 60 s), so that a paused consumer loses its connection."""
JUMP_SECONDS: Final = (-1.0, 1.0, -3600.0, 3600.0)
"""By choice of ``clock-jump``, mildest first; the registry of fault kinds has their names."""
MAX_CRASHES: Final = 25

KILL_SILENT: Final = 2
"""The choice of ``kill`` by which the peers see nothing."""


class Incarnation(Owner):
    """One life of a process. ``activity`` is what it is busy with, for aiming a kill."""

    __slots__ = ("activity", "begun", "closing", "main", "number", "process", "waking")

    def __init__(self, process: Process, number: int) -> None:
        super().__init__(process.name if number == 1 else f"{process.name}/{number}", host=process.host)
        self.process = process
        self.number = number
        self.activity = f"{process.name}@start"
        self.main: asyncio.Task[None] | None = None
        self.begun = False
        self.closing = False
        self.waking: asyncio.TimerHandle | None = None

    @property
    def aim(self) -> str:
        return self.activity


class Process:
    """A process of the simulation: what its main function gets, and what ``sim.start`` returns to the test.

    ``name`` is unique in a run. ``host`` is its machine: processes of one host share its wall clock and its disk.
    """

    def __init__(self, sim: Simulation, main: Main, *, name: str, host: str, restart: bool) -> None:
        self.name = name
        self.host = host
        self.history: History = sim.history
        self._sim = sim
        self._main = main
        self._restart = restart
        self._lives = 0
        self._crashes = 0
        self._life: Incarnation | None = None
        self._pending_restart = False

    def __repr__(self) -> str:
        return f"<Process {self.name!r}, life {self._lives}, {self.status}>"

    # What the service uses.

    def queue(self, profile: str = "rabbitmq", *, tier: str | None = None, **options: object) -> QueueProtocol:
        """A queue provider on the simulated broker of ``profile``; it belongs to this process, and dies with it."""
        return self._sim.provide_queue(profile, tier=tier, process=self, options=options)

    def storage(self, kind: str = "filesystem", *, profile: str | None = None) -> StorageProtocol:
        """A storage provider: ``"filesystem"`` (the disk of this process's host) or ``"s3"``.

        ``profile`` is the kind of S3 server, ``"aws"`` unless given.
        """
        return self._sim.provide_storage(kind, process=self, profile=profile)

    def disk(self) -> str:
        """The path of a folder on the disk of this process's machine: for a service with files of its own.

        ``open``, ``os``, ``pathlib``, ``shutil`` and ``aiofiles`` act on that disk from this call on, so take the path on a line of
        its own: in ``open(process.disk() + "/x")`` Python has looked up the real ``open`` before. The disk is empty at first.
        """
        return self._sim.provide_disk(self.host, process=self)

    # What the recorders and the brokers need.

    @property
    def client(self) -> str:
        """Its name towards brokers: another one in each life."""
        return self.name if self._life is None else self._life.name

    def time(self) -> float:
        return self._sim.time()

    def busy(self, activity: str) -> None:
        life = self._life
        if life is not None:
            life.activity = f"{self.name}@{activity}"

    # What the test uses.

    @property
    def status(self) -> str:
        """``running``, ``paused``, ``restarting`` or ``ended``."""
        if self._life is not None:
            return "paused" if self._life.paused else "running"
        return "restarting" if self._pending_restart else "ended"

    @property
    def lives(self) -> int:
        """How often it was started."""
        return self._lives

    def kill(self, *, silent: bool = False, restart: bool | None = None) -> None:
        """End it at once, as ``kill -9`` does. Its peers see resets, or nothing at all with ``silent``.

        What the operating system had accepted stays. ``restart``: whether it is started again, as it was set up unless given.
        """
        if restart is not None:
            self._restart = restart
            self._pending_restart = self._pending_restart and restart
        life = self._life
        if life is None:
            return
        self._end(life, "kill", "falls silent" if silent else "connections reset", silent=silent)
        self._start_later()

    def lose_power(self) -> None:
        """Its machine stands still at once: its peers see silence. It is started again with the machine."""
        life = self._life
        if life is not None:
            self._end(life, "kill", f"{self.host} lost its power", silent=True)
            self._start_later()

    def terminate(self) -> None:
        """Tell it to end, as SIGTERM does: its main task is cancelled; after 30 virtual seconds it is killed."""
        life = self._life
        if life is None or life.closing or life.main is None:
            return
        life.closing = True
        self.history.note(self.time(), self.name, "terminate", self.name)
        if not life.begun:  # a coroutine that never ran cannot see its cancellation
            self.history.note(self.time(), self.name, "end", self.name, detail="terminated")
            self._life = None
            self._bury(life)
            self._start_later()
            return
        life.main.cancel()
        self._sim.loop.call_later(TERMINATION_SECONDS, self._overdue, life, context=self._sim.context)

    def pause(self, seconds: float = PAUSE_SECONDS) -> None:
        """Run nothing of it for so many virtual seconds, as SIGSTOP, or a machine that is out of memory."""
        if not 0 < seconds < inf:
            raise KitUsageError(f"a process is paused for a number of `seconds` above 0, got {seconds!r}")
        life = self._life
        if life is None or life.paused:
            return
        self.history.note(self.time(), self.name, "pause", self.name, detail=f"{seconds:g} s")
        self._sim.loop.pause(life)
        self._sim.stall_client(life.name, seconds)
        life.waking = self._sim.loop.call_later(seconds, self._resume, life, context=self._sim.context)

    def resume(self) -> None:
        """Let it go on, if it is paused."""
        if self._life is not None:
            self._resume(self._life)

    def discard(self) -> None:
        """The run is over: nothing of it goes on."""
        life, self._life = self._life, None
        self._restart = False
        if life is not None:
            self._sim.loop.kill(life)

    # The supervisor.

    def launch(self) -> None:
        """Begin its next life."""
        self._pending_restart = False
        if not self._restart and self._lives:
            return
        self._lives += 1
        life = self._life = Incarnation(self, self._lives)
        self.history.note(self.time(), self.name, "start" if self._lives == 1 else "restart", self.name)
        context = copy_context()
        context.run(OWNER.set, life)
        life.main = self._sim.loop.create_task(self._live(life), name=life.name, context=context)

    async def _live(self, life: Incarnation) -> None:
        life.begun = True
        try:
            await self._running()
        except SystemExit as error:  # the way out of a process, not of the test run
            self.exited(life, error)
        except asyncio.CancelledError:
            if not life.closing:
                self._crashed(
                    life, asyncio.CancelledError("its main task was cancelled, by nobody that told it to end")
                )
                return
            self._ended(life, "terminated")
            self._start_later()
        except Exception as error:  # noqa: BLE001 - a supervisor catches whatever its service dies of
            if not life.alive:
                return  # it is long dead, and only being unwound
            if life.closing and not isinstance(error, AssertionError):
                self._ended(life, f"terminated: {type(error).__name__}")
                self._start_later()
            else:
                self._crashed(life, error)
        else:
            self._ended(life, "returned")
            if life.closing:
                self._start_later()

    def _running(self) -> Awaitable[object]:
        running: object = self._main(self)
        if isawaitable(running):
            return running
        raise KitUsageError(f"sim.start takes an async function of one Process, and {self._main!r} gave {running!r}")

    def exited(self, life: Incarnation, error: SystemExit) -> None:
        """Its main task, or another one, raised ``SystemExit``, which ends the process."""
        if self._life is not life:
            return  # it has ended before, and only runs out
        if error.code in (None, 0) or life.closing:
            self._ended(life, f"exited: {error.code or 0}")
            if life.closing:
                self._start_later()
        else:
            crash = RuntimeError(f"process {self.name!r} exited with {error.code!r}")
            self._crashed(life, crash.with_traceback(error.__traceback__))

    def _ended(self, life: Incarnation, how: str) -> None:
        self.history.note(self.time(), self.name, "end", self.name, detail=how)
        # As a process that exits does: nothing of it runs on, and its connections close. The loop cannot kill the owner
        # whose step is running, so it does so right after.
        self._sim.loop.call_soon(self._bury, life, context=self._sim.context)
        if self._life is life:
            self._life = None

    def _crashed(self, life: Incarnation, error: BaseException) -> None:
        self._crashes += 1
        self._ended(life, f"crashed: {type(error).__name__}: {error}")
        if self._sim.excuses(error) and self._crashes <= MAX_CRASHES:
            self._start_later()
        else:
            self._sim.fail(error)

    def _bury(self, life: Incarnation) -> None:
        if life.alive:
            self._sim.loop.kill(life, connections="eof")
            self._sim.drop_client(life.name, silent=False)

    def _end(self, life: Incarnation, kind: str, detail: str, *, silent: bool) -> None:
        self.history.note(
            self.time(), self.name, kind, self.name, detail=f"{detail}, {life.activity.partition('@')[2]}"
        )
        self._life = None
        self._sim.loop.kill(life, connections="silent" if silent else "reset")
        self._sim.drop_client(life.name, silent=silent)

    def _start_later(self) -> None:
        if self._restart:
            self._pending_restart = True
            first, longest = RESTART_SECONDS
            delay = min(longest, first * 2.0 ** min(self._lives - 1, 10))
            self._sim.loop.call_later(delay, self.launch, context=self._sim.context)

    def _overdue(self, life: Incarnation) -> None:
        if self._life is life:
            self._end(life, "kill", "still there 30 s after it was told to terminate", silent=False)
            self._start_later()

    def _resume(self, life: Incarnation) -> None:
        if life.waking is not None:
            life.waking.cancel()  # of a pause that is over: it must not cut the next one short
            life.waking = None
        if life.alive and life.paused:
            self.history.note(self.time(), self.name, "resume", self.name)
            self._sim.loop.resume(life)
