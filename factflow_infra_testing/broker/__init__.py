"""The simulated broker: a pure state machine with profiles, and the model tier straight on it.

``SimulatedBroker`` runs it in a loop's time; ``SimulatedQueueProvider`` is the production queue engine on that.
"""

from factflow_infra_testing.broker.events import BrokerEvent
from factflow_infra_testing.broker.faults import BROKER_FAULTS, faults_of
from factflow_infra_testing.broker.profiles import PROFILES, profile_named
from factflow_infra_testing.broker.provider import SimulatedQueueProvider
from factflow_infra_testing.broker.queue_types import Profile
from factflow_infra_testing.broker.server import SimulatedBroker

__all__ = [
    "BROKER_FAULTS",
    "PROFILES",
    "BrokerEvent",
    "Profile",
    "SimulatedBroker",
    "SimulatedQueueProvider",
    "faults_of",
    "profile_named",
]
