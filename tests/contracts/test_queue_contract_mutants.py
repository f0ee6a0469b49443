"""The queue contract is no rubber stamp: each provider with a fault fails the behaviours that are about it."""

import pytest
import queue_mutants
import queue_mutants_surface

from factflow_infra_testing.contracts import QUEUE_BEHAVIOURS, check_queue
from factflow_infra_testing.contracts.harnesses import SimulatedQueueHarness

MUTANTS = queue_mutants.MUTANTS | queue_mutants_surface.MUTANTS
OF_THE_TYPES = {"q10-messages-check-themselves", "q10-error-handling-checks-itself"}
"""Rows that are about the types of the contract, which every provider shares: no provider fails them."""


@pytest.mark.parametrize(
    ("mutant", "behaviour_id"),
    [pytest.param(mutant, row, id=f"{mutant.__name__}-{row}") for mutant, rows in MUTANTS.items() for row in rows],
)
def test_mutant_is_caught(mutant, behaviour_id):
    harness = SimulatedQueueHarness("rabbitmq-quorum", make=queue_mutants.make(mutant))
    with pytest.raises(Exception) as caught:
        check_queue(harness, QUEUE_BEHAVIOURS[behaviour_id])
    assert any(note.startswith(f"{behaviour_id} promises:") for note in caught.value.__notes__)


def test_every_row_catches_somebody():
    """So that a row that cannot fail is not taken for one that holds."""
    caught = {row for rows in MUTANTS.values() for row in rows}
    assert {row.id for row in QUEUE_BEHAVIOURS if row.id not in caught} == OF_THE_TYPES
