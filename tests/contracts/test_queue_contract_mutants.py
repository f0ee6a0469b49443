"""The queue contract is no rubber stamp: each provider with a fault fails the behaviours that are about it."""

import pytest
from queue_mutants import MUTANTS, make

from factflow_infra_testing.contracts import QUEUE_BEHAVIOURS, check_queue
from factflow_infra_testing.contracts.harnesses import SimulatedQueueHarness


@pytest.mark.parametrize(
    ("mutant", "behaviour_id"),
    [pytest.param(mutant, row, id=f"{mutant.__name__}-{row}") for mutant, rows in MUTANTS.items() for row in rows],
)
def test_mutant_is_caught(mutant, behaviour_id):
    harness = SimulatedQueueHarness("rabbitmq-quorum", make=make(mutant))
    with pytest.raises(Exception) as caught:
        check_queue(harness, QUEUE_BEHAVIOURS[behaviour_id])
    assert any(note.startswith(f"{behaviour_id} promises:") for note in caught.value.__notes__)


def test_every_promise_catches_somebody():
    caught = {row.split("-")[0] for rows in MUTANTS.values() for row in rows}
    assert caught == {f"q{n}" for n in range(1, 12)}
