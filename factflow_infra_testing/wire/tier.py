"""The tiers of a simulation's queue providers: which brokers listen in it, and the production providers that connect to them.

``model`` is the production engine straight on the simulated broker. ``wire`` is the production provider with its client
library, over the frames of a real protocol; it is what a profile gives that has a front end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from factflow_infra.errors import SettingsError
from factflow_infra_testing.wire.protocols import protocol_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from factflow_infra.protocols import QueueProtocol
    from factflow_infra_testing.broker.queue_types import Profile
    from factflow_infra_testing.broker.server import SimulatedBroker
    from factflow_infra_testing.simulation.session import SimulationSession

MODEL: Final = "model"
WIRE: Final = "wire"
API: Final = "api"


def tiers_of(profile: Profile) -> tuple[str, ...]:
    """The tiers that a profile has, the one that is meant first: on Pulsar, whose client cannot live in virtual time, ``api``.

    Brokers that no provider is for have the model, and a wire for clients of one's own (``sim.uri``).
    """
    if profile.name == "pulsar":
        return API, MODEL
    return (WIRE, MODEL) if protocol_of(profile).provided else (MODEL,)


def tier_of(profile: Profile, asked: str | None) -> str:
    """The tier that is meant where ``asked`` is; ``None`` is as much of a production provider as there can be.

    Raises ``SettingsError``: the profile has none such. The model is only given to those who ask for it.
    """
    known = tiers_of(profile)
    asked = asked or WIRE
    if asked in known:
        return asked
    if asked == WIRE and API in known:
        return API
    if asked == WIRE:
        raise SettingsError(
            f"no provider of factflow_infra is for {profile.name!r}: a client of your own connects to sim.uri({profile.name!r}), "
            f"and the test publishes and looks with sim.queue({profile.name!r}, tier='model')"
        )
    raise SettingsError(
        f"there is no tier {asked!r} for {profile.name!r}; this version has: {', '.join(map(repr, known))}"
    )


class WireTier:
    """One a run. What the libraries need is imported when it is first asked for something."""

    def __init__(self, session: SimulationSession) -> None:
        self._session = session
        self._listening: dict[SimulatedBroker, Any] = {}

    def uri(self, broker: SimulatedBroker) -> str:
        """Where any client in the simulation reaches ``broker``, which listens from now on."""
        return self._provider(broker).broker_uris(broker)[0]

    def queue(self, broker: SimulatedBroker, *, host: str, exposed: bool, options: Mapping[str, Any]) -> QueueProtocol:
        """The production provider for code on ``host``; ``exposed``: the test's own meets the faults too."""
        module = self._provider(broker)
        with self._session.importing():
            return module.wire_provider(broker, host=host, exposed=exposed, options=options)

    def _provider(self, broker: SimulatedBroker) -> Any:
        module = self._listening.get(broker)
        if module is None:
            with self._session.importing():
                module = self._listening[broker] = protocol_of(broker.profile).provider
            module.listening(broker)
        return module
