import os
from pathlib import Path

import pytest
from factflow_infra_testing.storage.exploring import Crash, explore


def save(folder: str) -> None:
    temporary = Path(folder, "report.tmp")
    with temporary.open("w") as file:
        file.write("all is well")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(Path(folder, "report"))


def check(folder: str, crash: Crash) -> None:
    report = Path(folder, "report")
    whole = report.exists() and report.read_text() == "all is well"
    assert whole or (not report.exists() and not crash.done)


def test_the_folder_must_be_synced_too() -> None:
    with pytest.raises(AssertionError) as caught:
        explore(save, check)
    assert "power lost after the workload" in caught.value.__notes__[0]  # what was saved is gone


def test_the_whole_way() -> None:
    def save_durably(folder: str) -> None:
        save(folder)
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    explored = explore(save_durably, check)
    assert explored.states > explored.checked > 5
