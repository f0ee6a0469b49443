"""The simulated RabbitMQ does what the real one was seen to do; ``tests/live/test_live_amqp_front_end.py`` asks the real one."""

import amqp_facts
import pytest

from factflow_infra_testing.broker import SimulatedBroker
from factflow_infra_testing.simulation.runner import run
from factflow_infra_testing.wire.amqp import AmqpFrontEnd


@pytest.mark.parametrize("name", amqp_facts.FACTS)
def test_the_simulation_does_as_was_seen(name):
    async def main():
        AmqpFrontEnd(SimulatedBroker("rabbitmq-quorum")).listen("broker")
        return await amqp_facts.observe("amqp://guest:guest@broker:5672/", name, 0.1)

    assert run(main).result() == amqp_facts.FACTS[name][2]
