"""What processes and the test are given: brokers, queue and storage providers, disks, each made for its owner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from factflow_infra.errors import SettingsError
from factflow_infra_testing.api.tier import ApiTier
from factflow_infra_testing.history.recording import RecordedQueue
from factflow_infra_testing.history.recording_storage import RecordedStorage
from factflow_infra_testing.history.storage_calls import disk_of
from factflow_infra_testing.simulation.names import LABORATORY, check_known
from factflow_infra_testing.simulation.observing import Observing
from factflow_infra_testing.wire.protocols import protocol_of
from factflow_infra_testing.wire.tier import API, MODEL, WIRE, WireTier, tier_of, tiers_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from factflow_infra.protocols import QueueProtocol, StorageProtocol
    from factflow_infra_testing.broker.server import SimulatedBroker
    from factflow_infra_testing.search.decisions import Decisions
    from factflow_infra_testing.simulation.loop import DeterministicLoop
    from factflow_infra_testing.simulation.processes import Process
    from factflow_infra_testing.simulation.session import SimulationSession
    from factflow_infra_testing.storage.disk_faults import DiskFaults


_UNEXPOSED: Final = {"heartbeat": 3600.0}
"""Settings of the test's own provider unless it has others: what no fault meets needs no heart-beats, which are half of a run's."""


class Laboratory:
    """The test itself, as an owner of operations: outside the faults."""

    name = LABORATORY
    host = "localhost"

    def __init__(self, sim: Observing) -> None:
        self.history = sim.history
        self.time = sim.time

    def busy(self, activity: str) -> None:
        """The test is never aimed at."""


class Providing(Observing):
    """The brokers of a run, one a profile, and the providers on them and on its storage."""

    def __init__(self, *, decisions: Decisions, session: SimulationSession, loop: DeterministicLoop) -> None:
        super().__init__(decisions=decisions, loop=loop)
        self.tier: str | None = None
        """Of the queue providers that do not say; None is each profile's own."""
        self.parts: dict[str, None] = {}
        """What is exposed to faults of its own (``FaultKind.part``), in the order of its first use."""
        self.libraries: dict[str, None] = {}
        """Those that clients of this run's brokers are made with, whose steps its faults may count."""
        self.disk_faults: DiskFaults | None = None
        self._session = session
        self._laboratory = Laboratory(self)
        self._wire = WireTier(session)
        self._api = ApiTier(session)
        self._providers: list[tuple[Process, int, QueueProtocol]] = []

    def broker(self, profile: str = "rabbitmq") -> SimulatedBroker:
        """The simulated broker of ``profile``, for looking inside it; there is one a profile and run."""
        from factflow_infra_testing.broker.profiles import profile_named

        row = profile_named(profile)
        broker = self._brokers.get(row.name)
        if broker is None:
            from factflow_infra_testing.broker.server import SimulatedBroker

            broker = self._brokers[row.name] = SimulatedBroker(row, self._decisions, number=len(self._brokers))
            broker.observe(self._observe)
        return broker

    def uri(self, profile: str = "rabbitmq") -> str:
        """Where any client in the simulation reaches the broker of ``profile``, over AMQP or with Pulsar's library: processes
        meet the faults there.

        What such a client handles is not in the history: checks that need it say ``UNKNOWN`` from here on.
        """
        self.unrecorded = True
        broker = self.broker(profile)
        self.names.brokers[broker.profile.name] = None
        self.libraries |= dict.fromkeys(protocol_of(broker.profile).libraries)
        return self._api.uri(broker) if API in tiers_of(broker.profile) else self._wire.uri(broker)

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
        self.names.brokers[broker.profile.name] = None
        tier = tier_of(broker.profile, tier or self.tier)
        if tier != MODEL:
            self.libraries |= dict.fromkeys(protocol_of(broker.profile).libraries)
        if tier != MODEL and process is None and not exposed:
            options = {**_UNEXPOSED, **options}
        if tier == API:
            provider = self._api.queue(broker, exposed=process is None and exposed, options=options)
        elif tier == WIRE:
            host = "localhost" if process is None else process.host
            provider = self._wire.queue(broker, host=host, exposed=process is None and exposed, options=options)
        else:
            from factflow_infra_testing.broker.provider import model_provider

            client = self._laboratory.name if process is None else process.client
            host = "localhost" if process is None else process.host
            exposes = process is not None or exposed
            provider = model_provider(broker, options, client=client, exposed=exposes, host=host)
        if process is not None:
            self._providers.append((process, process.lives, provider))
        return RecordedQueue(
            provider,
            process or self._laboratory,
            self.canonical,
            self.names.expect,
            self.handler_failed,
            broker.profile.name,
        )

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
        store = self.store_name(kind, where, profile)
        self.names.stores[store] = None
        if kind != "s3":
            self._has_disk(where, store, process)
        met = process is not None or exposed
        if met:
            self.parts[kind] = None
        if kind == "s3":
            provider = self._session.s3_provider(where, exposed=met, profile=profile)
        else:
            provider = self._session.filesystem_provider(where)
            if self.disk_faults is not None:
                self.disk_faults.exposed |= process is None and exposed
        return RecordedStorage(provider, process or self._laboratory, kind, store)

    def provide_disk(self, host: str, *, process: Process | None) -> str:
        """The folder of ``host``, for ``process`` or for the test itself."""
        self._has_disk(host, disk_of(host), process)
        if process is not None:
            self.parts["filesystem"] = None
        return self._session.folder(host)

    def _has_disk(self, host: str, store: str, process: Process | None) -> None:
        self.names.hosts[host] = None
        if process is None:
            self.names.looked_at[store] = host

    @staticmethod
    def store_name(kind: str, host: str, profile: str | None) -> str:
        """What tells one store from the others of a run: disks belong to hosts, and each S3 profile has a bucket.

        Raises ``SettingsError`` for a kind or a profile that there is not, and for a profile of the filesystem.
        """
        if kind == "s3":
            if profile is not None:
                from factflow_infra_testing.storage.s3_profiles import s3_profile

                s3_profile(profile)
            return f"s3 ({profile or 'aws'})"
        if kind != "filesystem":
            raise SettingsError(f"there is no simulated storage {kind!r}; known: 'filesystem', 's3'")
        if profile is not None:
            raise SettingsError(f"profile={profile!r} is a kind of S3 server; the filesystem has no profiles")
        return disk_of(host)

    def known_store(self, kind: str, host: str, profile: str | None) -> str:
        """``store_name``, for looking back: in a run that nothing has struck somebody must have a provider for it.

        Raises ``KitUsageError`` else.
        """
        store = self.store_name(kind, host, profile)
        if self.unhurt():
            check_known("storage in this run", store, self.names.stores)
        return store

    def drop_client(self, client: str, *, silent: bool) -> None:
        """A process is gone: its connections are reset, or fall silent."""
        for broker in self._brokers.values():
            broker.drop_client(client, silent=silent)

    def stall_client(self, client: str, seconds: float) -> None:
        """A process stands still for ``seconds``."""
        for broker in self._brokers.values():
            broker.stall_client(client, seconds)
