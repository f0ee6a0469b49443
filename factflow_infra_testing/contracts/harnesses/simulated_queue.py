"""The harness of ``SimulatedQueueProvider``: a simulated broker in virtual time, with every fault on demand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from factflow_infra_testing.broker import SimulatedBroker, SimulatedQueueProvider, profile_named
from factflow_infra_testing.broker.entries import Message
from factflow_infra_testing.broker.faults import CONFIRM_LOST, PUBLISH_REFUSED
from factflow_infra_testing.contracts.pace import VIRTUAL_PACE
from factflow_infra_testing.contracts.queue import (
    ALL_QUEUE_CAPABILITIES,
    PlainQueueBackend,
    QueueBackend,
    QueueCapability,
    QueueEnvironment,
    exercise_queue,
)
from factflow_infra_testing.simulation.runner import run

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from factflow_infra.protocols import QueueProtocol
    from factflow_infra_testing.search.decisions import Fault

_LET_THROUGH = (GeneratorExit, KeyboardInterrupt, SystemExit)
_HOUR = 3600.0
_LONG = 1e9
"""Seconds: longer than any run."""


class ArmedDecisions:
    """``Decisions`` that deviate once at the next opportunity of a kind and target, after ``arm``."""

    def __init__(self) -> None:
        self._armed: list[tuple[str, str]] = []

    def arm(self, kind: str, target: str) -> None:
        self._armed.append((kind, target))

    @property
    def armed(self) -> list[str]:
        """What has not struck yet."""
        return [f"{kind} of {target!r}" for kind, target in self._armed]

    def pick(self, n: int, kind: str, target: str = "") -> int:
        if n > 1 and (kind, target) in self._armed:
            self._armed.remove((kind, target))
            return 1
        return 0

    def enabled(self, kind: str) -> bool:
        return kind in {CONFIRM_LOST, PUBLISH_REFUSED}

    @property
    def deviations(self) -> Sequence[Fault]:
        return ()

    def quiet(self) -> None:
        self._armed.clear()


class MortalBroker:
    """The broker as one client sees it: after ``die`` there is no connecting any more, as for a process that is gone."""

    def __init__(self, broker: SimulatedBroker, client: str) -> None:
        self._broker = broker
        self._client = client
        self._dead = False

    def die(self) -> None:
        self._dead = True
        self._broker.drop_client(self._client)

    def sever(self) -> None:
        self._broker.disconnect(self._client)

    def fall_silent(self) -> None:
        self._broker.stall_client(self._client, _HOUR)

    async def connect(self, *args: Any, **kwargs: Any) -> Any:
        if self._dead:
            await asyncio.get_running_loop().create_future()
        return await self._broker.connect(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)


class SimulatedQueueBackend(PlainQueueBackend):
    """Providers on one simulated broker of ``profile``.

    ``make`` builds a provider from a broker and the name of its client.
    """

    def __init__(
        self,
        profile: str,
        make: Callable[[SimulatedBroker, str], QueueProtocol],
    ) -> None:
        self._decisions = ArmedDecisions()
        self.broker = SimulatedBroker(profile, self._decisions)
        self._make = make
        self._clients: dict[QueueProtocol, MortalBroker] = {}

    async def provider(self) -> QueueProtocol:
        client = f"client-{len(self._clients) + 1}"
        mortal = MortalBroker(self.broker, client)
        provider = self._make(cast("SimulatedBroker", mortal), client)
        self._clients[provider] = mortal
        return provider

    async def sever(self, provider: QueueProtocol) -> None:
        self._clients[provider].sever()
        await asyncio.sleep(0.001)  # long enough for the client to notice

    async def stall(self, provider: QueueProtocol) -> None:
        self._clients[provider].fall_silent()

    async def kill(self, provider: QueueProtocol) -> None:
        self._clients[provider].die()
        await asyncio.sleep(0.001)  # what it had sent arrives

    async def stop_broker(self) -> None:
        self.broker.downtime = _LONG
        self.broker.restart()
        await asyncio.sleep(0.001)

    async def start_broker(self) -> None:
        self.broker.up_at = self.broker.loop.time()
        self.broker.flush()  # its alarm was set for the end of the downtime

    async def lose_confirm(self, destination: str) -> None:
        self._decisions.arm(CONFIRM_LOST, destination.removeprefix("/queue/"))

    async def refuse(self, destination: str) -> None:
        self._decisions.arm(PUBLISH_REFUSED, destination.removeprefix("/queue/"))

    async def inject(self, destination: str) -> None:
        self.broker.enqueue(destination.removeprefix("/queue/"), Message("foreign", b"\xff written by another program"))

    def unmet(self) -> list[str]:
        """The faults that were asked for and that nothing has met."""
        return self._decisions.armed

    async def close(self) -> None:
        assert not self.unmet(), f"nothing met the faults that were asked for: {self.unmet()}; so they tested nothing"


def simulated_provider(broker: SimulatedBroker, client: str) -> QueueProtocol:
    """The provider that the harness makes unless it is told otherwise. Exposed: a broker that is down refuses it."""
    return SimulatedQueueProvider(broker, client=client, exposed=True)


class SimulatedQueueHarness:
    """Runs each behaviour in virtual time, on a new broker of ``profile``.

    ``make``: another provider over the same broker; ``capabilities``: fewer than all. What asyncio would only have logged,
    an exception that nobody took, fails the behaviour too.
    """

    def __init__(
        self,
        profile: str = "rabbitmq-quorum",
        *,
        make: Callable[[SimulatedBroker, str], QueueProtocol] = simulated_provider,
        capabilities: frozenset[QueueCapability] | None = None,
    ) -> None:
        if capabilities is None:
            known = profile_named(profile).queue_type()
            able = {
                QueueCapability.DELIVERY_COUNT: known.counts and not known.forgets_counts,
                QueueCapability.REDELIVERED_FLAG: known.honest,
                QueueCapability.REMEMBERS_DELIVERIES: not known.forgets_counts,
            }
            capabilities = ALL_QUEUE_CAPABILITIES - {capability for capability, has in able.items() if not has}
        self.capabilities = frozenset(capabilities)
        self._profile = profile
        self._make = make

    def backend(self) -> QueueBackend:
        """The backend of one behaviour, made on its loop: to be overridden for another way to the simulated broker."""
        return SimulatedQueueBackend(self._profile, self._make)

    def run(self, check: Callable[[QueueEnvironment], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            await exercise_queue(check, self.backend(), capabilities=self.capabilities, pace=VIRTUAL_PACE)

        outcome = run(main)
        outcome.result()
        # What ends an interpreter or a coroutine is let through and reported when a handler raises it.
        lost = [one for one in outcome.unhandled if not isinstance(one.error, _LET_THROUGH)]
        assert not lost, f"nobody took these errors: {lost}"
