"""The storage contract is no rubber stamp: each provider with a fault fails the behaviours that are about it."""

import pytest
import storage_mutants
import storage_mutants_s3

from factflow_infra_testing.contracts import STORAGE_BEHAVIOURS, StorageCapability, check_storage
from factflow_infra_testing.contracts.harnesses import (
    FilesystemStorageHarness,
    SimulatedFilesystemHarness,
    SimulatedS3Harness,
)
from factflow_infra_testing.storage.files import SimulatedFilesystem
from factflow_infra_testing.storage.s3 import SimulatedS3


@pytest.fixture(scope="module")
def files():
    with SimulatedFilesystem() as files:
        yield files


@pytest.fixture(scope="module")
def s3():
    with SimulatedS3() as s3:
        yield s3


def cases(mutants):
    pairs = [(mutant, row) for mutant, rows in mutants.items() for row in rows]
    return pytest.mark.parametrize(
        ("mutant", "behaviour_id"), [pytest.param(*pair, id=f"{pair[0].__name__}-{pair[1]}") for pair in pairs]
    )


def catch(harness, behaviour_id):
    behaviour = STORAGE_BEHAVIOURS[behaviour_id]
    assert not behaviour.missing(harness.capabilities)
    with pytest.raises(Exception) as caught:
        check_storage(harness, behaviour)
    assert any(note.startswith(f"{behaviour_id} promises:") for note in caught.value.__notes__)


@cases(storage_mutants.MUTANTS)
def test_mutant_is_caught(mutant, behaviour_id, files, tmp_path):
    if StorageCapability.REAL_LOOP in STORAGE_BEHAVIOURS[behaviour_id].needs:
        catch(FilesystemStorageHarness(tmp_path, make=mutant), behaviour_id)
    else:
        catch(SimulatedFilesystemHarness(files, make=mutant), behaviour_id)


@cases(storage_mutants_s3.MUTANTS)
def test_mutant_on_s3_is_caught(mutant, behaviour_id, s3):
    catch(SimulatedS3Harness(s3, make=lambda bucket, client: mutant(bucket, client=client)), behaviour_id)


def test_every_row_catches_somebody():
    """So that a row that cannot fail is not taken for one that holds."""
    caught = {
        row
        for mutants in (storage_mutants.MUTANTS, storage_mutants_s3.MUTANTS)
        for rows in mutants.values()
        for row in rows
    }
    assert [row.id for row in STORAGE_BEHAVIOURS if row.id not in caught] == []
