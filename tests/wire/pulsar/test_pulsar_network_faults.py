"""Faults of the network on the API tier: struck at the very command that the plan names, suffered by the production provider."""

from __future__ import annotations

import asyncio

import pytest

from factflow_infra.protocols import QueueMessage
from factflow_infra_testing import Fault, Faults
from factflow_infra_testing.search.decisions import PlannedDecisions
from factflow_infra_testing.search.run import RunOptions
from factflow_infra_testing.simulation.execution import execute
from factflow_infra_testing.simulation.session import SimulationSession


@pytest.fixture(scope="module")
def session():
    with SimulationSession() as opened:
        yield opened


async def worker(process):
    """Passes on what comes."""
    queue = process.queue("pulsar")

    async def handle(message):
        await queue.publish("done", message)

    await queue.subscribe("orders", handle)
    await asyncio.Event().wait()


def planned(session, *plan):
    seen = {}

    async def main(sim):
        sim.tier = "api"
        sim.start(worker, name="worker")
        await sim.sleep(1)
        queue = sim.queue("pulsar")
        for n in range(3):
            await queue.publish("orders", QueueMessage(b"x", message_id=f"m{n}"))
        await sim.drain()
        sim.check.queue("orders")
        seen["found"] = sorted({message.message_id for message in sim.broker("pulsar").messages("done")})
        seen["copies"] = sim.broker("pulsar").depth("done")
        delivered = [event.key for event in sim.queue_events() if event.kind == "delivered" and event.queue == "orders"]
        seen["again"] = len(delivered) > len(set(delivered))
        seen["faults"] = [op.detail or op.kind for op in sim.history.operations if op.kind == "fault"]

    decisions = PlannedDecisions(plan)
    record = execute(
        main, decisions=decisions, seed=0, faults=Faults.all(), session=session, options=RunOptions(digest=True)
    )
    assert record.failure is None, record.failure
    assert decisions.unmatched == (), {fault.kind: decisions.occurred(fault.kind) for fault in decisions.unmatched}
    seen["asked"] = decisions.asked
    return seen


STRIKES = {
    # the copies on "done", and whether one of "orders" came again
    Fault("link-loss", "publish done", 2, 1): (4, True),
    Fault("link-loss", "publish done", 2, 3): (4, True),
    Fault("link-loss", "ack orders", 1, 1): (6, True),
    Fault("link-loss", "ack orders", 1, 3): (3, False),
    Fault("link-loss", "deliver orders", 2, 1): (3, True),
    Fault("link-loss", "deliver orders", 2, 2): (3, True),
    Fault("link-loss", "subscribe orders", 1, 1): (3, False),
    Fault("link-loss", "subscribe orders", 1, 3): (3, False),
    Fault("link-delay", "publish done", 1, 3): (3, False),
    Fault("link-delay", "ack orders", 1, 3): (3, False),
    Fault("link-delay", "deliver orders", 1, 3): (3, False),
    Fault("link-silent", "publish done", 1, 1): (3, True),
    Fault("link-silent", "publish done", 2, 3): (5, True),
    Fault("link-silent", "ack orders", 1, 1): (6, True),
    Fault("link-silent", "deliver orders", 1, 3): (3, True),
    Fault("partition", "publish done", 1, 1): (3, False),
    Fault("partition", "ack orders", 1, 3): (3, False),
    Fault("connect-refused", "worker>pulsar", 1, 1): (3, False),
    Fault("connect-refused", "worker>pulsar", 1, 2): (3, False),
    Fault("connect-cut", "worker>pulsar", 1, 1): (3, False),
    Fault("connect-cut", "worker>pulsar", 1, 3): (3, False),
    Fault("dns-failure", "worker>pulsar", 1, 1): (3, False),
}


@pytest.mark.parametrize("fault", STRIKES, ids=repr)
def test_a_fault_strikes_where_the_plan_says(session, fault):
    seen = planned(session, fault)
    assert (seen["found"], seen["faults"]) == (["m0", "m1", "m2"], [fault.kind])
    assert (seen["copies"], seen["again"]) == STRIKES[fault]


def test_acks_that_are_sent_together_are_lost_together(session):
    """One frame has all acks of 100 ms: one fault may strike it, not one each."""
    seen = planned(session, Fault("ack-lost", "orders", 1))
    assert seen["found"] == ["m0", "m1", "m2"]
    assert seen["copies"] == 6
    assert seen["asked"]["ack-lost"] == 2  # the list, and the list once more
