import asyncio
from pathlib import Path

from factflow_infra_testing import Process, Simulation, simulate


def save(folder: str) -> None:
    temporary = Path(folder, "report.tmp")
    temporary.write_text("all is well")
    temporary.replace(Path(folder, "report"))  # atomic, but nothing was synced


def load(folder: str) -> str:
    return Path(folder, "report").read_text()


async def careless(process: Process) -> None:
    folder = process.disk()
    await asyncio.to_thread(save, folder)


@simulate(plan=[])
async def test_a_rename_without_fsync_may_leave_an_empty_file(sim: Simulation) -> None:
    folder = sim.disk()
    sim.start(careless, name="reporter", restart=False)
    await sim.sleep(1)
    assert load(folder) == "all is well"
    sim.power_loss(unsynced="contents-lost")
    assert load(folder) == ""  # the zero-length file that people find after a reboot
