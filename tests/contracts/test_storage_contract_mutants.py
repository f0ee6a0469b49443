"""The storage contract is no rubber stamp: each provider with a fault fails the behaviours that are about it."""

import pytest
from storage_mutants import MUTANTS

from factflow_infra_testing.contracts import STORAGE_BEHAVIOURS, StorageCapability, check_storage
from factflow_infra_testing.contracts.harnesses import FilesystemStorageHarness, SimulatedFilesystemHarness
from factflow_infra_testing.storage.files import SimulatedFilesystem


@pytest.fixture(scope="module")
def files():
    with SimulatedFilesystem() as files:
        yield files


@pytest.mark.parametrize(
    ("mutant", "behaviour_id"),
    [pytest.param(mutant, row, id=f"{mutant.__name__}-{row}") for mutant, rows in MUTANTS.items() for row in rows],
)
def test_mutant_is_caught(mutant, behaviour_id, files, tmp_path):
    behaviour = STORAGE_BEHAVIOURS[behaviour_id]
    if StorageCapability.REAL_LOOP in behaviour.needs:
        harness = FilesystemStorageHarness(tmp_path, make=mutant)
    else:
        harness = SimulatedFilesystemHarness(files, make=mutant)
    assert not behaviour.missing(harness.capabilities)
    with pytest.raises(Exception) as caught:
        check_storage(harness, behaviour)
    assert any(note.startswith(f"{behaviour_id} promises:") for note in caught.value.__notes__)
