"""The checks on whole runs: what is right is not called broken, whichever way the messages came and went."""

import pytest
from simulated_runs import forever, message, passing

from factflow_infra.protocols import ErrorHandling
from factflow_infra_testing.history.checkers import Judgement

AT_ONCE = ErrorHandling(max_retries=0, dead_letter_queue="orders.dead")


@pytest.mark.parametrize("asked", [None, "workers"])
def test_a_named_subscriber_of_a_queue_handles_the_queues_messages(asked):
    async def worker(process):
        async def handle(received):
            if received.message_id == "bad":
                raise OSError

        await process.queue().subscribe("orders", handle, subscription="workers", error_handling=AT_ONCE)
        await forever()

    async def scenario(sim):
        sim.start(worker, name="worker")
        for name in ("good", "bad"):
            await sim.queue().publish("orders", message(name))
        await sim.drain()
        assert [op.target for op in sim.history.of("handle")] == ["orders", "orders"]
        assert sim.check.no_loss("orders", subscription=asked).judgement is Judgement.PASS
        assert sim.check.bounded_redelivery("orders", max_retries=0, subscription=asked).judgement is Judgement.PASS
        sim.check.queue("orders", subscription=asked)

    passing(scenario)
