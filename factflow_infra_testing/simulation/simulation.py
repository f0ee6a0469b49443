"""A simulation: what a test gets as ``sim``, and how one whole run of it is executed."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextvars import copy_context
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from factflow_infra.errors import InfraError, SettingsError
from factflow_infra.queue.destinations import parse_destination
from factflow_infra.queue.transport import DestinationKind
from factflow_infra_testing.api.tier import ApiTier
from factflow_infra_testing.broker.events import ACCEPTED, ACKED, DEAD_LETTERED, DELIVERED, DROPPED, FAULT
from factflow_infra_testing.errors import KitUsageError
from factflow_infra_testing.history.checkers import Judgement, Verdict
from factflow_infra_testing.history.operations import History
from factflow_infra_testing.history.recording import RecordedQueue
from factflow_infra_testing.history.recording_storage import RecordedStorage
from factflow_infra_testing.simulation.checks import CheckFailedError, Checks
from factflow_infra_testing.simulation.entropy import active_world
from factflow_infra_testing.simulation.owners import current_owner
from factflow_infra_testing.simulation.partitions import pairs_between
from factflow_infra_testing.simulation.processes import (
    JUMP_SECONDS,
    KILL_SILENT,
    Incarnation,
    Process,
)
from factflow_infra_testing.simulation.session import SimulationSession  # noqa: TC001 - part of this module's API
from factflow_infra_testing.storage.disk_faults import POWER_CHOICES, POWER_LOSS, DiskFaults
from factflow_infra_testing.storage.power import check_survival, described
from factflow_infra_testing.wire.tier import API, WIRE, WireTier, tier_of, tiers_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextvars import Context

    from factflow_infra.protocols import QueueProtocol, StorageProtocol
    from factflow_infra_testing.broker.events import BrokerEvent
    from factflow_infra_testing.broker.server import SimulatedBroker
    from factflow_infra_testing.search.decisions import Decisions
    from factflow_infra_testing.simulation.loop import DeterministicLoop
    from factflow_infra_testing.simulation.owners import Owner
    from factflow_infra_testing.simulation.processes import Main
    from factflow_infra_testing.storage.files import SimulatedFilesystem

QUIET_SECONDS: Final = 60.0
FAULTY_SECONDS: Final = 300.0
"""How long a drain lets a run go on under faults, in virtual seconds, before it ends them."""
SETTLED_SECONDS: Final = 2.0
"""How long nothing must have happened, in virtual seconds, before a drain ends the faults early."""
CONVERGENCE_SECONDS: Final = 4 * 3600.0
RESTLESS_EVENTS: Final = 10_000
RESTLESS_EVENTS_A_MESSAGE: Final = 100
"""A run with more broker events than these allow is going round in circles, whatever the clock says."""
STEP_FAULTS: Final = (
    ("pause", 2),
    ("clock-jump", 1 + len(JUMP_SECONDS)),
    ("terminate", 2),
    ("kill", 3),
    (POWER_LOSS, POWER_CHOICES),
)
LABORATORY: Final = "test"
"""The profile whose client cannot live in virtual time, and has the API tier instead of the wire."""
LOOKS: Final = frozenset({"read", "stat", "list", "log"})
"""Operations that move nothing: a service that polls its storage is at rest."""
_NOT_IN_NAMES: Final = "/@#\\"
"""Plans and paths are made of names: ``worker@publish orders``, ``worker/2`` (its second life)."""


class Laboratory:
    """The test itself, as an owner of operations: outside the faults."""

    name = LABORATORY
    host = "localhost"

    def __init__(self, sim: Simulation) -> None:
        self.history = sim.history
        self.time = sim.time

    def busy(self, activity: str) -> None:
        """The test is never aimed at."""


class Simulation:
    """One run: processes under test, simulated brokers and storage, virtual time, and faults drawn from one source.

    A test gets it from ``@simulate``. Everything in it lives for one run.
    """

    def __init__(self, *, decisions: Decisions, session: SimulationSession, loop: DeterministicLoop) -> None:
        self.loop = loop
        self.history = History()
        self.check = Checks(self)
        self.tier: str | None = None
        """Of the queue providers that do not say; None is each profile's own."""
        self.unrecorded = False
        self.parts: dict[str, None] = {}
        """What is exposed to faults of its own (``FaultKind.part``), in the order of its first use."""
        self.drained_at: int | None = None
        """How many operations there were when the run was last drained."""
        self.context: Context = copy_context()
        self._decisions = decisions
        self._session = session
        self._laboratory = Laboratory(self)
        self._brokers: dict[str, SimulatedBroker] = {}
        self._wire = WireTier(session)
        self._api = ApiTier(session)
        self._processes: dict[str, Process] = {}
        self._providers: list[tuple[Process, int, QueueProtocol]] = []
        self._events: list[BrokerEvent] = []
        self._keys: set[str] = set()
        self.disk_faults: DiskFaults | None = None
        self._moves = self._looked = 0
        self._parted = False  # by hand: a fault that the decisions do not know of
        session.serve(self)
        loop.network.on_fault = self._network_fault
        self._step_faults = tuple((kind, n) for kind, n in STEP_FAULTS if decisions.enabled(kind))
        if self._step_faults:
            loop.on_step = self._before_step

    # -- for the test ---------------------------------------------------------------------------------------------------

    def time(self) -> float:
        """Virtual seconds since the run began."""
        return self.loop.clock.now

    async def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        await asyncio.sleep(seconds)

    def start(self, main: Main, *, name: str | None = None, host: str = "localhost", restart: bool = True) -> Process:
        """Start a process that runs ``main(process)``; it ends when ``main`` returns.

        ``restart``: start it again, a virtual second after it was killed, told to terminate, or crashed. ``host``: its
        machine. Under faults a crash is life; one without any fault before it fails the test, as an assertion in it does.
        """
        if not callable(main):
            raise KitUsageError(f"sim.start takes an async function of one Process, got {main!r}")
        if name is None:
            name = f"process-{len(self._processes) + 1}"
        _check_name("process", name)
        _check_name("host", host)
        if name in self._processes or name == LABORATORY:
            raise KitUsageError(f"there is a process called {name!r} already; give each a name of its own")
        process = self._processes[name] = Process(self, main, name=name, host=host, restart=restart)
        process.launch()
        return process

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

    def disk(self, host: str = "localhost") -> str:
        """The path of the folder of ``host`` on the simulated disk; see ``Process.disk``."""
        _check_name("host", host)
        return self.provide_disk(host, process=None)

    def power_loss(self, host: str = "localhost", *, unsynced: str | int = "lost") -> None:
        """The machine ``host`` loses its power: its processes end, and its disk keeps what was synced.

        ``unsynced``: what becomes of the rest: ``"lost"``, ``"kept"`` (all of it had been written back), ``"contents-lost"`` (files
        keep their names), ``"names-lost"``, or the choice of a ``power-loss``. Processes that are started again find what is left.
        """
        _check_name("host", host)
        self._lose_power(host, check_survival(unsynced))

    def broker(self, profile: str = "rabbitmq") -> SimulatedBroker:
        """The simulated broker of ``profile``, for looking inside it; there is one a profile and run."""
        from factflow_infra_testing.broker.profiles import profile_named

        row = profile_named(profile)
        broker = self._brokers.get(row.name)
        if broker is None:
            from factflow_infra_testing.broker.server import SimulatedBroker

            broker = self._brokers[row.name] = SimulatedBroker(row, self._decisions)
            broker.observe(self._observe)
        return broker

    def uri(self, profile: str = "rabbitmq") -> str:
        """Where any client in the simulation reaches the broker of ``profile``, over AMQP or with Pulsar's library: processes
        meet the faults there.

        What such a client handles is not in the history: checks that need it say ``UNKNOWN`` from here on.
        """
        self.unrecorded = True
        broker = self.broker(profile)
        return self._api.uri(broker) if API in tiers_of(broker.profile) else self._wire.uri(broker)

    def _observe(self, event: BrokerEvent) -> None:
        if self.history.closed:
            return
        self._events.append(event)
        if event.kind == FAULT:
            self.history.note(event.time, event.client or "broker", "fault", event.queue, event.key, event.reason)
        elif event.kind == ACCEPTED:
            self._keys.add(event.key)
        if len(self._events) > RESTLESS_EVENTS + RESTLESS_EVENTS_A_MESSAGE * len(self._keys):
            (key, queue), most = Counter((e.key, e.queue) for e in self._events if e.kind == DELIVERED).most_common(1)[
                0
            ]
            self.fail(_restless(f"{key!r} was delivered {most} times from {queue}, and goes on"))

    def _network_fault(self, client: str, kind: str, target: str) -> None:
        if not self.history.closed:
            self.history.note(self.time(), client, "fault", target, detail=kind)

    def partition(self, one: str, other: str, *, seconds: float | None = None) -> None:
        """Let nothing pass between two hosts, for so many virtual ``seconds`` or until ``heal``.

        Hosts are those of processes, and ``rabbitmq-quorum`` or what else a profile is called. Connections stay, and what is
        under way arrives when it heals, unless heartbeats are missed first. The test's own connections go on.
        """
        pairs = self._pairs(one, other)
        self._parted = True
        self.history.note(self.time(), LABORATORY, "partition", f"{one}, {other}")
        for pair in pairs:
            if seconds is None:
                self.loop.network.links.cut(*pair)
            else:
                self.loop.network.partition(*pair, seconds)

    def heal(self, one: str | None = None, other: str | None = None) -> None:
        """End the partition between two hosts, or every one."""
        if one is None or other is None:
            self.loop.network.links.heal_all()
            return
        for pair in self._pairs(one, other):
            self.loop.network.links.heal(*pair)

    def _pairs(self, one: str, other: str) -> list[tuple[str, str]]:
        hosts = {"localhost": None, **{process.host: None for process in self._processes.values()}}
        return pairs_between(hosts, self.broker, one, other)

    def processes(self) -> Mapping[str, Process]:
        """The processes by name, in the order they were first started."""
        return dict(self._processes)

    async def drain(self, *, quiet: float = QUIET_SECONDS, under_faults: float = FAULTY_SECONDS) -> None:
        """Run until there is nothing left to do, then return; the test's own calls meet no faults.

        First under faults, until the brokers are idle or ``under_faults`` virtual seconds have passed. Then faults end:
        connections heal, processes resume and are started again, a broker that strands messages is restarted, and the run
        must converge: no queue with a live subscription holds anything, no provider is reconnecting, and for ``quiet`` virtual seconds nothing has
        happened. Raises ``CheckFailedError`` where it does not within four virtual hours: a message goes round for ever, or is never settled.
        """
        if any(self._decisions.enabled(kind) for kind in _kinds()):
            await self._run_under_faults(under_faults)
        self.end_faults()
        for broker in self._brokers.values():
            if broker.broker.stranded:
                broker.restart(spare_laboratory=True)  # as an operator has to: nothing else gives those messages back
        limit = self.time() + CONVERGENCE_SECONDS
        while True:
            before = self._progress()
            await asyncio.sleep(quiet)
            held = [line for broker in self._brokers.values() for line in broker.pending()]
            held += [f"{process.name} is still reconnecting" for process in self._reconnecting()]
            if before == self._progress() and not held and not self._restarting():
                break
            if self.time() > limit:
                why = "; ".join(held) if held else self._unrest()
                raise _restless(f"no rest {CONVERGENCE_SECONDS / 3600:g} h after the last fault: {why}")
        self.drained_at = len(self.history.operations)

    def _reconnecting(self) -> list[Process]:
        # Their subscriptions are not live, so what waits for them in a queue is not held: it will be.
        return [
            process
            for process, life, provider in self._providers
            if process.lives == life and process.status == "running" and provider.health().reconnect_in_progress
        ]

    def _unrest(self) -> str:
        moves = Counter(f"{op.process} {op.kind} {op.target}" for op in self.history.operations if op.kind not in LOOKS)
        told = [f"{what} ({times} times)" for what, times in moves.most_common(3)]
        return f"it goes on and on: {', '.join(told)}"

    def end_faults(self) -> None:
        """No more faults from here on; paused processes go on."""
        self._decisions.quiet()
        self.loop.on_step = None
        self.loop.network.calm()
        for broker in self._brokers.values():
            broker.calm()
        for process in self._processes.values():
            process.resume()

    async def _run_under_faults(self, seconds: float) -> None:
        end = self.time() + seconds
        pause, now = 0.05, self._progress()
        while self.time() < end:
            before = now
            await asyncio.sleep(min(pause, end - self.time()))
            now = self._progress()
            if before != now or self._restarting() or any(b.pending() for b in self._brokers.values()):
                pause = min(pause * 2, 30.0)
            elif pause < SETTLED_SECONDS:
                pause = SETTLED_SECONDS  # a service that only waits a moment is still to meet its faults
            else:
                return

    def _progress(self) -> tuple[int, int]:
        operations = self.history.operations
        self._moves += sum(operation.kind not in LOOKS for operation in islice(operations, self._looked, None))
        self._looked = len(operations)
        return self._moves, len(self._events)

    def _restarting(self) -> bool:
        return any(process.status in ("restarting", "paused") for process in self._processes.values())

    def end(self) -> None:
        """The scenario is over: what still runs of the processes ends with it, without another word."""
        self.history.closed = True
        for process in self._processes.values():
            process.discard()

    # -- what the checks ask ----------------------------------------------------------------------------------------------

    def canonical(self, destination: str) -> str:
        """The one spelling of a destination in histories and plans: the bare name of a queue, ``/topic/name`` of a topic."""
        return _spelled(destination) if type(destination) is str else str(destination)

    def queue_events(self) -> list[BrokerEvent]:
        """What the brokers did, in order."""
        return self._events

    def dead_letters(self, destination: str) -> dict[str, str]:
        """Ids of the messages that were dead-lettered from ``destination``, with the dead-letter queue each is in.

        A topic: from all of its subscriptions; ``/topic/name#subscription``: from that one.
        """
        source = self.canonical(destination)
        return {
            e.key: e.queue
            for e in self._events
            if e.kind == ACCEPTED and e.source and (e.source == source or e.source.startswith(f"{source}#"))
        }

    def held(self, target: str) -> set[str]:
        """Ids of the messages that a queue holds: ready, delayed and unacked."""
        entries: dict[int, str] = {}
        for event in self._events:
            if event.queue != target:
                continue
            if event.kind == ACCEPTED:
                entries[event.entry] = event.key
            elif event.kind in (ACKED, DROPPED, DEAD_LETTERED):
                entries.pop(event.entry, None)
        delayed = {
            message.key
            for queues, scheduled in ((b.broker.queues, b.broker.scheduled) for b in self._brokers.values())
            for _, _, name, message in scheduled
            if name in queues and queues[name].label == target
        }
        return set(entries.values()) | delayed

    def has_consumer(self, target: str) -> bool:
        """Whether a live subscription takes from ``target``."""
        return any(
            queue.consumers and queue.label == target
            for b in self._brokers.values()
            for queue in b.broker.queues.values()
        )

    def flags_redelivery(self, target: str) -> bool:
        """Whether each message that comes again from ``target`` is flagged, on every broker that has a queue of that name."""
        return all(
            queue.type.honest
            for b in self._brokers.values()
            for queue in b.broker.queues.values()
            if queue.label == target
        )

    # -- what processes ask -------------------------------------------------------------------------------------------------

    def provide_queue(
        self,
        profile: str,
        *,
        tier: str | None,
        process: Process | None,
        options: Mapping[str, Any],
        exposed: bool = True,
    ) -> QueueProtocol:
        """A queue provider for ``process``, or for the test itself."""
        broker = self.broker(profile)
        tier = tier_of(broker.profile, tier or self.tier)
        if tier == API:
            provider = self._api.queue(broker, exposed=process is None and exposed, options=options)
        elif tier == WIRE:
            host = "localhost" if process is None else process.host
            provider = self._wire.queue(broker, host=host, exposed=process is None and exposed, options=options)
        else:
            from factflow_infra_testing.broker.provider import SimulatedQueueProvider

            client = self._laboratory.name if process is None else process.client
            host = "localhost" if process is None else process.host
            provider = SimulatedQueueProvider(
                broker, client=client, exposed=process is not None or exposed, host=host, **options
            )
        if process is not None:
            self._providers.append((process, process.lives, provider))
        return RecordedQueue(provider, process or self._laboratory, self.canonical)

    def provide_storage(
        self,
        kind: str,
        *,
        process: Process | None,
        host: str | None = None,
        profile: str | None = None,
        exposed: bool = True,
    ) -> StorageProtocol:
        """A storage provider for ``process``, or for the test itself."""
        where = host or (process.host if process is not None else "localhost")
        met = process is not None or exposed
        if met:
            self.parts[kind] = None
        if kind == "s3":
            provider = self._session.s3_provider(where, exposed=met, profile=profile)
        elif kind != "filesystem":
            raise SettingsError(f"there is no simulated storage {kind!r}; known: 'filesystem', 's3'")
        elif profile is not None:
            raise SettingsError(f"profile={profile!r} is a kind of S3 server; the filesystem has no profiles")
        else:
            provider = self._session.filesystem_provider(where)
            if self.disk_faults is not None:
                self.disk_faults.exposed |= process is None and exposed
        return RecordedStorage(provider, process or self._laboratory, kind, self.store_name(kind, where, profile))

    def provide_disk(self, host: str, *, process: Process | None) -> str:
        """The folder of ``host``, for ``process`` or for the test itself."""
        if process is not None:
            self.parts["filesystem"] = None
        return self._session.folder(host)

    @property
    def decisions(self) -> Decisions:
        """Where every choice of this run comes from."""
        return self._decisions

    def struck(self, target: str, fault: str) -> None:
        """A fault of storage strikes the process whose code is running."""
        owner = current_owner()
        name = owner.process.name if isinstance(owner, Incarnation) else self._laboratory.name
        self.history.note(self.time(), name, "fault", target, detail=fault)

    @staticmethod
    def store_name(kind: str, host: str, profile: str | None) -> str:
        """What tells one store from the others of a run: disks belong to hosts, and each S3 profile has a bucket."""
        return f"s3 ({profile or 'aws'})" if kind == "s3" else f"{kind} of {host}"

    async def read_back(
        self, kind: str = "filesystem", *, host: str = "localhost", profile: str | None = None
    ) -> dict[str, bytes]:
        """List and read all that ``sim.storage(kind, ...)`` holds, and look for every key that was written, for the checks."""
        storage = self.storage(kind, host=host, profile=profile)
        held = {key: await storage.read(key) async for key in storage.list()}
        store = self.store_name(kind, host, profile)
        written = {op.key for op in self.history.of("write") if op.call is not None and op.call.store == store}
        for key in sorted(written - held.keys()):
            await storage.exists(key)
        return held

    def log(self, level: str, text: str) -> None:
        """A provider logged something."""
        owner = current_owner()
        name = owner.process.name if isinstance(owner, Incarnation) else self._laboratory.name
        self.history.note(self.time(), name, "log", level, detail=text)

    def excuses(self, error: BaseException) -> bool:
        """Whether a crash may be put down to the faults of this run."""
        return (self._parted or bool(self._decisions.deviations)) and not isinstance(error, AssertionError)

    def fail(self, error: BaseException) -> None:
        """End the run with ``error``."""
        self.loop.abort(error)

    def drop_client(self, client: str, *, silent: bool) -> None:
        """A process is gone: its connections are reset, or fall silent."""
        for broker in self._brokers.values():
            broker.drop_client(client, silent=silent)

    def stall_client(self, client: str, seconds: float) -> None:
        """A process stands still for ``seconds``."""
        for broker in self._brokers.values():
            broker.stall_client(client, seconds)

    def watch_disk(self, files: SimulatedFilesystem) -> None:
        """From here on the run uses the simulated disk."""
        faults = self.disk_faults = DiskFaults(self._decisions, files.root, self._power_lost_within)
        if faults.live:
            files.watch.on_step = faults.on_step

    # -- faults of processes --------------------------------------------------------------------------------------------------

    def _before_step(self, owner: Any, _: Any) -> None:
        if not isinstance(owner, Incarnation):
            return
        pick, activity = self._decisions.pick, owner.aim
        struck, how = "", 0
        for kind, n in self._step_faults:
            # All are asked for at every step, so that no answer shifts the ordinals of another kind; the first one happens.
            choice = pick(n, kind, activity)
            if choice and not how:
                struck, how = kind, choice
        if how:
            self._strike(owner.process, struck, how)

    def _strike(self, process: Process, kind: str, choice: int) -> None:
        if kind == "kill":
            process.kill(silent=choice == KILL_SILENT)
        elif kind == POWER_LOSS:
            self._lose_power(process.host, choice)
        elif kind == "terminate":
            process.terminate()
        elif kind == "pause":
            process.pause()
        else:
            seconds = JUMP_SECONDS[choice - 1]
            self.history.note(self.time(), process.host, "clock-jump", process.host, detail=f"{seconds:+g} s")
            self.loop.clock.jump(seconds, host=process.host)

    def _lose_power(self, host: str, choice: int) -> None:
        for process in self._processes.values():
            if process.host == host:
                process.lose_power()
        lost = [line for files in self._session.disks() for line in files.lose_power(host, choice)]
        told = f": {'; '.join(lost)}" if lost else ", nothing was lost"
        self.history.note(self.time(), host, POWER_LOSS, host, detail=f"unsynced {described(choice)}{told}")

    def _power_lost_within(self, owner: Owner, choice: int) -> None:
        """The machine of ``owner``, in the middle of whose code this is, loses its power."""
        world = active_world()
        if world is not None and world.job is not None:
            self.loop.jobs.end(world.job, lambda: self._lose_power(owner.host, choice))
        self._lose_power(owner.host, choice)

    # -- what a run leaves --------------------------------------------------------------------------------------------------------

    def lines(self) -> Iterator[str]:
        """Everything that happened, a line each: equal runs have equal lines."""
        for op in self.history.operations:
            yield f"{op.invoked!r} {op.completed!r} {op.process} {op.kind} {op.target} {op.key} {op.outcome} {op.detail}"
        for e in self._events:
            yield f"{e.time!r} {e.kind} {e.queue} {e.key} {e.entry} {e.client} {e.redelivered} {e.count} {e.source} {e.reason}"

    def digest(self) -> str:
        """32 hexadecimal digits over ``lines``."""
        digest = blake2b(digest_size=16)
        for line in self.lines():
            digest.update(line.encode("utf-8", "surrogatepass") + b"\n")
        return digest.hexdigest()


def _check_name(what: str, name: object) -> None:
    if not isinstance(name, str) or not name.strip(".") or not name.isprintable() or set(name) & set(_NOT_IN_NAMES):
        raise KitUsageError(
            f"the name of a {what} is a text without {' '.join(_NOT_IN_NAMES)} and line breaks, got {name!r}"
        )


@lru_cache(maxsize=1024)
def _spelled(destination: str) -> str:
    try:
        parsed = parse_destination(destination)
    except InfraError:
        return destination  # no destination: the provider says so
    return parsed.name if parsed.kind is DestinationKind.QUEUE else f"/topic/{parsed.name}"


def _restless(explanation: str) -> CheckFailedError:
    return CheckFailedError(Verdict("convergence", Judgement.FAIL, explanation))


def _kinds() -> tuple[str, ...]:
    from factflow_infra_testing.search.faults import known_kinds

    return tuple(known_kinds())
