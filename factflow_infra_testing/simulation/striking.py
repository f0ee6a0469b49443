"""The faults of processes and machines: asked for at each step of a process, and carried out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from factflow_infra_testing.simulation.entropy import active_world
from factflow_infra_testing.simulation.oversights import whereabouts
from factflow_infra_testing.simulation.processes import JUMP_SECONDS, KILL_SILENT, Incarnation
from factflow_infra_testing.simulation.providing import Providing
from factflow_infra_testing.storage.disk_faults import POWER_CHOICES, POWER_LOSS, DiskFaults
from factflow_infra_testing.storage.power import described

if TYPE_CHECKING:
    from collections.abc import Container

    from factflow_infra_testing.search.decisions import Decisions, Fault
    from factflow_infra_testing.search.surroundings import Place
    from factflow_infra_testing.simulation.loop import DeterministicLoop
    from factflow_infra_testing.simulation.owners import Owner
    from factflow_infra_testing.simulation.processes import Process
    from factflow_infra_testing.simulation.session import SimulationSession
    from factflow_infra_testing.storage.files import SimulatedFilesystem

STEP_FAULTS: Final = (
    ("pause", 2),
    ("clock-jump", 1 + len(JUMP_SECONDS)),
    ("terminate", 2),
    ("kill", 3),
    (POWER_LOSS, POWER_CHOICES),
)


class Striking(Providing):
    """The processes of a run, and what befalls them."""

    def __init__(self, *, decisions: Decisions, session: SimulationSession, loop: DeterministicLoop) -> None:
        super().__init__(decisions=decisions, session=session, loop=loop)
        self._processes: dict[str, Process] = {}
        loop.on_exit = _exits
        self.places: dict[Fault, Place] = {}
        """Where the code under test stood when a fault struck a process."""
        self._step_faults = tuple((kind, n) for kind, n in STEP_FAULTS if decisions.enabled(kind))
        if self._step_faults:
            loop.on_step = self._before_step

    def process_names(self) -> Container[str]:
        return self._processes

    def watch_disk(self, files: SimulatedFilesystem) -> None:
        """From here on the run uses the simulated disk."""
        faults = self.disk_faults = DiskFaults(self._decisions, files.root, self._power_lost_within, self.struck)
        if faults.live:
            files.watch.on_step = faults.on_step

    def _before_step(self, owner: Any, handle: Any) -> None:
        if not isinstance(owner, Incarnation):
            return
        pick, activity = self._decisions.pick, owner.activity
        struck, how = "", 0
        fault: Fault | None = None
        for kind, n in self._step_faults:
            # All are asked for at every step, so that no answer shifts the ordinals of another kind; the first one happens.
            choice = pick(n, kind, activity)
            if choice and not how:
                struck, how = kind, choice
                fault = self._decisions.deviations[-1]
        if fault is not None:
            self._note_place(owner, handle, fault)
            self._strike(owner.process, struck, how)

    def _note_place(self, life: Incarnation, handle: Any, fault: Fault) -> None:
        place = whereabouts(handle._callback, life.main)  # noqa: SLF001 - see pins.INTERNALS
        if place is not None:
            self.places[fault] = place

    def _strike(self, process: Process, kind: str, choice: int) -> None:
        if kind == "kill":
            process.kill(silent=choice == KILL_SILENT)
        elif kind == POWER_LOSS:
            self._lose_power(process.host, choice)
        elif kind == "terminate":
            process.terminate()
        elif kind == "pause":
            process.pause()
        else:
            seconds = JUMP_SECONDS[choice - 1]
            self.history.note(self.time(), process.host, "clock-jump", process.host, detail=f"{seconds:+g} s")
            self.loop.clock.jump(seconds, host=process.host)

    def _lose_power(self, host: str, choice: int) -> None:
        for process in self._processes.values():
            if process.host == host:
                process.lose_power()
        lost = [line for files in self._session.disks() for line in files.lose_power(host, choice)]
        told = f": {'; '.join(lost)}" if lost else ", nothing was lost"
        self.history.note(self.time(), host, POWER_LOSS, host, detail=f"unsynced {described(choice)}{told}")

    def _power_lost_within(self, owner: Owner, choice: int) -> None:
        """The machine of ``owner``, in the middle of whose code this is, loses its power."""
        world = active_world()
        if world is not None and world.job is not None:
            self.loop.jobs.end(world.job, lambda: self._lose_power(owner.host, choice))
        self._lose_power(owner.host, choice)


def _exits(owner: Owner, error: SystemExit) -> bool:
    """Some task of ``owner`` has left its process by ``sys.exit``."""
    if not isinstance(owner, Incarnation):
        return False
    owner.process.exited(owner, error)
    return True
