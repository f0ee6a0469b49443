"""A simulation: what a test gets as ``sim``.

A layer a module, each on the one before: what is known of the run (``observing``), what it gives out (``providing``), what
befalls its processes (``striking``), how it comes to rest (``draining``); here is what a test calls besides.
"""

from __future__ import annotations

import asyncio
import inspect
from math import inf
from typing import TYPE_CHECKING, Final

from factflow_infra_testing.errors import KitUsageError
from factflow_infra_testing.simulation.checks import Checks
from factflow_infra_testing.simulation.draining import Draining
from factflow_infra_testing.simulation.names import ASK_BEFORE, LABORATORY, check_known, known_ones
from factflow_infra_testing.simulation.partitions import pairs_between
from factflow_infra_testing.simulation.processes import Process
from factflow_infra_testing.simulation.session import SimulationSession  # noqa: TC001 - part of this module's API
from factflow_infra_testing.storage.power import check_survival

if TYPE_CHECKING:
    from collections.abc import Mapping

    from factflow_infra.protocols import QueueProtocol, StorageProtocol
    from factflow_infra_testing.search.decisions import Decisions
    from factflow_infra_testing.simulation.loop import DeterministicLoop
    from factflow_infra_testing.simulation.processes import Main

_NOT_IN_NAMES: Final = "/@#\\"
"""Plans and paths are made of names: ``worker@publish orders``, ``worker/2`` (its second life)."""


class Simulation(Draining):
    """One run: processes under test, simulated brokers and storage, virtual time, and faults drawn from one source.

    A test gets it from ``@simulate``. Everything in it lives for one run.
    """

    def __init__(self, *, decisions: Decisions, session: SimulationSession, loop: DeterministicLoop) -> None:
        super().__init__(decisions=decisions, session=session, loop=loop)
        self.check = Checks(self)
        session.serve(self)

    async def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        await asyncio.sleep(seconds)

    def start(self, main: Main, *, name: str | None = None, host: str = "localhost", restart: bool = True) -> Process:
        """Start a process that runs ``main(process)``; it ends when ``main`` returns.

        ``restart``: start it again, a virtual second after it was killed, told to terminate, or crashed. ``host``: its
        machine. Under faults a crash is life; one without any fault before it fails the test, as an assertion in it does.
        """
        if not callable(main):
            hint = ": pass it without calling it" if inspect.iscoroutine(main) else ""
            raise KitUsageError(f"sim.start takes an async function of one Process, got {main!r}{hint}")
        if name is None:
            name = f"process-{len(self._processes) + 1}"
        _check_name("process", name)
        _check_name("host", host)
        if name in self._processes or name == LABORATORY:
            raise KitUsageError(f"there is a process called {name!r} already; give each a name of its own")
        process = self._processes[name] = Process(self, main, name=name, host=host, restart=restart)
        process.launch()
        return process

    def processes(self) -> Mapping[str, Process]:
        """The processes by name, in the order they were first started."""
        return dict(self._processes)

    def queue(
        self, profile: str = "rabbitmq", *, tier: str | None = None, exposed: bool = False, **options: object
    ) -> QueueProtocol:
        """The test's own queue provider, outside the faults unless ``exposed``. ``tier``: ``"wire"``, the production provider
        and its client library (on Pulsar ``"api"``: on a stand-in for the library's C++ half), or ``"model"``, the production
        engine on the simulated broker; ``sim.tier`` unless given.
        """
        return self.provide_queue(profile, tier=tier, process=None, options=options, exposed=exposed)

    def storage(
        self,
        kind: str = "filesystem",
        *,
        host: str = "localhost",
        profile: str | None = None,
        exposed: bool = False,
    ) -> StorageProtocol:
        """The test's own storage provider, outside the faults unless ``exposed``: ``"filesystem"`` (the disk of ``host``) or
        ``"s3"``. ``profile`` is the kind of S3 server, ``"aws"`` unless given; each has a bucket of its own.
        """
        _check_name("host", host)
        return self.provide_storage(kind, process=None, host=host, profile=profile, exposed=exposed)

    async def read_back(
        self, kind: str = "filesystem", *, host: str = "localhost", profile: str | None = None
    ) -> dict[str, bytes]:
        """List and read all that ``sim.storage(kind, ...)`` holds, and look for every key that was written, for the checks."""
        store = self.known_store(kind, host, profile)
        storage = self.storage(kind, host=host, profile=profile)
        held = {key: await storage.read(key) async for key in storage.list()}
        written = {op.key for op in self.history.of("write") if op.call is not None and op.call.store == store}
        for key in sorted(written - held.keys()):
            await storage.exists(key)
        return held

    def disk(self, host: str = "localhost") -> str:
        """The path of the folder of ``host`` on the simulated disk; see ``Process.disk``."""
        _check_name("host", host)
        return self.provide_disk(host, process=None)

    def power_loss(self, host: str = "localhost", *, unsynced: str | int = "lost") -> None:
        """The machine ``host`` loses its power: its processes end, and its disk keeps what was synced. It is one that a
        process was started on, or whose disk was asked for.

        ``unsynced``: what becomes of the rest: ``"lost"``, ``"kept"`` (all of it had been written back), ``"contents-lost"`` (files
        keep their names), ``"names-lost"``, or the choice of a ``power-loss``. Processes that are started again find what is left.
        """
        known = {process.host: None for process in self._processes.values()} | self.names.hosts
        check_known("host in this run", host, known)
        self._lose_power(host, check_survival(unsynced))

    def partition(self, one: str, other: str, *, seconds: float | None = None) -> None:
        """Let nothing pass between two hosts, for so many virtual ``seconds`` or until ``heal``.

        Hosts are those of processes, and ``rabbitmq-quorum`` or what else a profile is called. Connections stay, and what is
        under way arrives when it heals, unless heartbeats are missed first. The test's own connections go on.
        """
        pairs = self._pairs(one, other)
        if seconds is not None and not 0 < seconds < inf:
            raise KitUsageError(
                f"a partition lasts for a number of `seconds` above 0, or None: until heal; got {seconds!r}"
            )
        self._struck = True
        self.history.note(self.time(), LABORATORY, "partition", f"{one}, {other}")
        for pair in pairs:
            if seconds is None:
                self.loop.network.links.cut(*pair)
            else:
                self.loop.network.partition(*pair, seconds)

    def heal(self, one: str | None = None, other: str | None = None) -> None:
        """End the partition between two hosts, or every one."""
        if (one is None) is not (other is None):
            raise KitUsageError(
                f"heal ends the partition between two hosts, or, without any, all: got {one or other!r} alone"
            )
        if one is None or other is None:
            self.loop.network.links.heal_all()
            return
        for pair in self._pairs(one, other):
            self.loop.network.links.heal(*pair)

    def _pairs(self, one: str, other: str) -> list[tuple[str, str]]:
        hosts = {process.host: None for process in self._processes.values()}
        return pairs_between(hosts, self.broker, one, other)

    def strange_names(self) -> list[str]:
        """By what names the test has looked at something and nothing in this run has them, a line each.

        For the end of a run that nothing has struck: there is none else. Under faults a service may not get so far as to make a queue.
        """
        unused = [] if self.decisions.deviations else [*self.names.unused(self._brokers.values())]
        if not self.unhurt():
            return unused
        hosts = {process.host: None for process in self._processes.values()}
        return [*unused, *self.names.strange_hosts(hosts, self.history.operations), *self.missing_queues().values()]

    def missing_queues(self) -> dict[str, str]:
        """Queues that the test has looked into and that were never there, by broker and name, with what there is to say of each."""
        dead_letters = {self.canonical(name): None for name in self.names.dead_letter_queues()}
        return {
            f"{broker.profile.name} {name}": f"sim.broker({broker.profile.name!r}) was asked for {name!r}, and has had no such queue; "
            f"{known_ones(broker.queues())}{ASK_BEFORE}"
            for broker in self._brokers.values()
            for name in broker.missed
            if name not in broker.broker.labels and name not in dead_letters
        }

    def tell(self) -> None:
        """The run has failed: its history is to be shown."""
        self.witness({process.name for process, _, _ in self._providers})

    def end(self) -> None:
        """The scenario is over: what still runs of the processes ends with it, without another word."""
        self.history.closed = True
        for process in self._processes.values():
            process.discard()


def _check_name(what: str, name: object) -> None:
    if not isinstance(name, str) or not name.strip(".") or not name.isprintable() or set(name) & set(_NOT_IN_NAMES):
        raise KitUsageError(
            f"the name of a {what} is a text without {' '.join(_NOT_IN_NAMES)} and line breaks, got {name!r}"
        )
