"""Faults of the network on the wire: struck at the very frame that the plan names, suffered by the production provider."""

import asyncio

import pytest

from factflow_infra.protocols import QueueMessage
from factflow_infra_testing import Fault, Faults
from factflow_infra_testing.errors import KitUsageError
from factflow_infra_testing.search.decisions import PlannedDecisions
from factflow_infra_testing.search.network_faults import NETWORK_FAULTS
from factflow_infra_testing.search.run import RunOptions
from factflow_infra_testing.search.search import search
from factflow_infra_testing.simulation.execution import execute
from factflow_infra_testing.simulation.session import SimulationSession

TIERS = ("model", "wire")


@pytest.fixture(scope="module")
def session():
    with SimulationSession() as opened:
        yield opened


async def worker(process):
    """Passes on what comes."""
    queue = process.queue("rabbitmq")

    async def handle(message):
        await queue.publish("done", message)

    await queue.subscribe("orders", handle)
    await asyncio.Event().wait()


async def scenario(sim):
    sim.start(worker, name="worker")
    await sim.sleep(1)
    queue = sim.queue("rabbitmq")
    for n in range(3):
        await queue.publish("orders", QueueMessage(b"x", message_id=f"m{n}"))
    await sim.drain()
    sim.check.queue("orders")
    sim.found = sorted({message.message_id for message in sim.broker().messages("done")})
    sim.copies = sim.broker().depth("done")


def planned(session, *plan, tier="wire", play=scenario):
    seen = {}

    async def main(sim):
        sim.tier = tier
        await play(sim)
        seen["copies"], seen["found"] = sim.copies, sim.found
        seen["redelivered"] = [e.key for e in sim.queue_events() if e.kind == "delivered" and e.redelivered]
        seen["faults"] = [op.detail or op.kind for op in sim.history.operations if op.kind == "fault"]

    decisions = PlannedDecisions(plan)
    record = execute(
        main, decisions=decisions, seed=0, faults=Faults.all(), session=session, options=RunOptions(digest=True)
    )
    assert record.failure is None, record.failure
    assert decisions.unmatched == (), {f.kind: decisions.occurred(f.kind) for f in decisions.unmatched}
    return seen | {"time": record.virtual_seconds, "digest": record.digest}


STRIKES = {
    # the copies on "done" (a publish that was taken and not known to be makes one more), whether something came again
    Fault("link-loss", "ack orders", 2, 1): (4, True),
    Fault("link-loss", "ack orders", 2, 2): (4, True),
    Fault("link-loss", "publish done", 2, 1): (3, True),
    Fault("link-loss", "publish done", 2, 3): (4, True),
    Fault("link-loss", "deliver orders", 2, 1): (3, True),
    Fault("link-loss", "deliver orders", 2, 2): (3, True),
    Fault("link-loss", "subscribe orders", 1, 1): (3, False),
    Fault("link-loss", "subscribe orders", 1, 3): (3, False),
    Fault("link-delay", "publish done", 1, 3): (3, False),
    Fault("link-delay", "ack orders", 1, 3): (3, False),
    Fault("link-delay", "deliver orders", 1, 3): (3, False),
    Fault("link-silent", "ack orders", 1, 1): (4, True),
    Fault("link-silent", "deliver orders", 1, 3): (3, True),
    Fault("partition", "ack orders", 1, 1): (3, False),
    Fault("partition", "ack orders", 1, 3): (4, True),
    Fault("failover", "orders", 2): (3, True),
    Fault("connect-refused", "worker>rabbitmq-quorum", 1, 1): (3, False),
    Fault("connect-refused", "worker>rabbitmq-quorum", 1, 2): (3, False),
    Fault("connect-cut", "worker>rabbitmq-quorum", 1, 1): (3, False),
    Fault("connect-cut", "worker>rabbitmq-quorum", 1, 2): (3, False),
    Fault("connect-cut", "worker>rabbitmq-quorum", 1, 3): (3, False),
    Fault("dns-failure", "worker>rabbitmq-quorum", 1, 1): (3, False),
    Fault("dns-failure", "worker>rabbitmq-quorum", 1, 2): (3, False),
}


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("fault", STRIKES, ids=repr)
def test_a_fault_strikes_where_the_plan_says(session, fault, tier):
    copies, again = STRIKES[fault]
    seen = planned(session, fault, tier=tier)
    assert (seen["found"], seen["faults"]) == (["m0", "m1", "m2"], [fault.kind])
    assert (seen["copies"], bool(seen["redelivered"])) == (copies, again)


@pytest.mark.parametrize("tier", TIERS)
def test_an_ack_that_arrived_before_the_loss_counts(session, tier):
    """On the model the client sends one ack a frame, and the third was behind the second; on the wire all have arrived."""
    seen = planned(session, Fault("link-loss", "ack orders", 3, 3), tier=tier)
    assert (seen["copies"], seen["redelivered"]) == (3, [])


@pytest.mark.parametrize("choice", range(1, 5))
def test_a_client_that_reads_frames_in_parts_sees_the_same(session, choice):
    whole = planned(session)
    split = planned(session, *(Fault("link-split", "deliver orders", n, choice) for n in (1, 2, 3)))
    assert {key: split[key] for key in ("found", "copies", "redelivered")} == {
        key: whole[key] for key in ("found", "copies", "redelivered")
    }


def test_a_delay_holds_up_what_is_behind_it_and_keeps_its_order(session):
    async def play(sim):
        got = []

        async def producer(process):
            queue = process.queue("rabbitmq")
            await asyncio.gather(*(queue.publish("orders", QueueMessage(b"x", message_id=f"m{n}")) for n in range(3)))

        async def handle(message):
            got.append((message.message_id, sim.time() // 1))

        await sim.queue("rabbitmq").subscribe("orders", handle)
        sim.start(producer, name="producer")
        await sim.drain()
        sim.found, sim.copies = got, 0

    assert planned(session, play=play)["found"] == [("m0", 0), ("m1", 0), ("m2", 0)]
    late = planned(session, Fault("link-delay", "publish orders", 2, 3), play=play)
    assert late["found"] == [("m0", 0), ("m1", 1), ("m2", 1)]


@pytest.mark.parametrize("tier", TIERS)
def test_a_partition_by_hand(session, tier):
    async def play(sim):
        sim.start(worker, name="worker", host="a")
        await sim.sleep(1)
        sim.partition("a", "rabbitmq")
        queue = sim.queue("rabbitmq")
        await queue.publish("orders", QueueMessage(b"x", message_id="m0"))
        await sim.sleep(1000)
        assert sim.broker().depth("orders") == 1
        assert sim.broker().depth("done") == 0
        sim.heal("a", "rabbitmq")
        await sim.sleep(60)
        assert sim.broker().depth("done") == 1
        sim.partition("rabbitmq-quorum", "a", seconds=10)
        await queue.publish("orders", QueueMessage(b"x", message_id="m1"))
        await sim.sleep(9)
        assert sim.broker().depth("done") == 1
        await sim.sleep(2)
        assert sim.broker().depth("done") == 2
        sim.partition("a", "rabbitmq")
        await queue.publish("orders", QueueMessage(b"x", message_id="m2"))
        await sim.drain()  # heals
        with pytest.raises(KitUsageError, match="no host called 'b'; known: 'a', "):
            sim.partition("a", "b")
        with pytest.raises(KitUsageError, match="between two hosts"):
            sim.partition("a", "a")
        sim.found, sim.copies = sorted(m.message_id for m in sim.broker().messages("done")), 0

    assert planned(session, tier=tier, play=play)["found"] == ["m0", "m1", "m2"]


@pytest.mark.parametrize("tier", TIERS)
def test_a_host_that_is_cut_off_is_passed_over_for_the_next(session, tier):
    """The partition of five minutes is between two hosts; the broker's other one is reached."""

    async def play(sim):
        sim.start(worker, name="worker")
        await sim.sleep(1)
        await sim.queue("rabbitmq").publish("orders", QueueMessage(b"x", message_id="m0"))
        await sim.sleep(200)
        sim.found, sim.copies = sorted(line.hosts[1] for line in sim.broker().attached() if line.exposed), 0

    seen = planned(session, Fault("partition", "ack orders", 1, 3), tier=tier, play=play)
    assert set(seen["found"]) == {"rabbitmq-quorum-2"}


@pytest.mark.parametrize("tier", TIERS)
def test_each_host_that_refuses_is_asked_in_turn(session, tier):
    plan = [Fault("connect-refused", f"worker>{host}", 1) for host in ("rabbitmq-quorum", "rabbitmq-quorum-2")]
    seen = planned(session, *plan, tier=tier)
    assert (seen["found"], seen["faults"]) == (["m0", "m1", "m2"], ["connect-refused"] * 2)


def test_an_unplanned_frame_is_no_occasion(session):
    """What a person may aim at is what the mismatch lists: no link, no segment, no heartbeat."""
    decisions = PlannedDecisions([Fault("link-loss", "ack orders", 99), Fault("connect-cut", "nobody>nowhere", 1)])
    record = execute(
        scenario_on_wire, decisions=decisions, seed=0, faults=Faults.all(), session=session, options=RunOptions()
    )
    assert record.failure is None
    assert decisions.occurred("link-loss") == {
        "declare done": 1,
        "publish done": 3,
        "declare orders": 1,
        "qos worker": 1,
        "subscribe orders": 1,
        "confirms worker": 1,
        "ack orders": 3,
        "deliver orders": 3,
    }
    assert decisions.occurred("connect-cut") == {"worker>rabbitmq-quorum": 1}


async def scenario_on_wire(sim):
    sim.tier = "wire"
    await scenario(sim)


@pytest.mark.parametrize("tier", TIERS)
def test_the_search_draws_them_and_a_correct_service_survives(tier):
    async def main(sim):
        sim.tier = tier
        await scenario(sim)

    result = search(main, faults=Faults.only(*NETWORK_FAULTS, "failover"), max_examples=120, seed=3)
    assert result.finding is None, (result.finding.plan, result.finding.failure)
    assert result.coverage.never_fired == (("link-split",) if tier == "model" else ())
