"""What the runs of one search share: patches and fakes that are dear to set up, and cheap to begin anew."""

from __future__ import annotations

import gc
import logging
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from factflow_infra_testing.simulation import patches
from factflow_infra_testing.simulation.entropy import outside
from factflow_infra_testing.simulation.runner import hushed
from factflow_infra_testing.storage.files import fenced

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Self

    from factflow_infra.protocols import StorageProtocol
    from factflow_infra_testing.simulation.simulation import Simulation
    from factflow_infra_testing.storage.files import SimulatedFilesystem
    from factflow_infra_testing.storage.s3 import SimulatedS3

FAILURES_BETWEEN_FULL_COLLECTIONS = 32
"""A run that failed is looked at while others run, and so outlives the quick collections."""
RUNS_BETWEEN_FULL_COLLECTIONS = 1024
"""So does one that storage, or the code under test, refers to until the next run."""
_CLIENTS = ("aiormq", "aio_pika")


class SimulationSession:
    """Open it once a search. Storage is set up when a run first asks for it, and empty in each new run."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._run = ExitStack()
        self._runs = self._failures = 0
        self._simulation: Simulation | None = None
        self._files: SimulatedFilesystem | None = None
        self._files_active = False
        self._s3: SimulatedS3 | None = None
        self._s3_active = False

    def __enter__(self) -> Self:
        self._stack.enter_context(patches.session())
        self._stack.enter_context(_captured_log(self._log))
        self._stack.enter_context(_collected_by_hand())
        return self

    def _log(self, record: logging.LogRecord) -> None:
        if self._simulation is not None:
            self._simulation.log(record.levelname.lower(), record.getMessage())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def run(self) -> AbstractContextManager[object]:
        """Around each run: what it takes from the session is given back at its end."""
        self._tidy()
        self._run = ExitStack()
        self._run.enter_context(fenced())
        self._run.callback(self.serve, None)
        self._files_active = self._s3_active = False
        return self._run

    def serve(self, simulation: Simulation | None) -> None:
        """The run that is under way: what the providers log goes into its history."""
        self._simulation = simulation

    def failed(self) -> None:
        """A run has failed: whoever called for it may keep all of it for a while, by the traceback."""
        self._failures += 1

    def _tidy(self) -> None:
        """Collect what the last run left: it is cyclic (tasks, frames, exceptions), and still in the processor's caches.

        Before a run, when nothing refers to the last one any more: what is still in use is not looked at again but in a full collection.
        """
        self._runs += 1
        full = self._failures >= FAILURES_BETWEEN_FULL_COLLECTIONS or self._runs % RUNS_BETWEEN_FULL_COLLECTIONS == 0
        if full:
            self._failures = 0
        with hushed():
            gc.collect(2 if full else 1)

    def filesystem_provider(self, host: str) -> StorageProtocol:
        """A provider on the disk of ``host``."""
        from factflow_infra.storage.filesystem import FilesystemStorageProvider

        return FilesystemStorageProvider(self.folder(host))

    def folder(self, host: str) -> str:
        """The folder of ``host`` on the simulated disk, which the run uses from here on."""
        with outside():
            if self._files is None:
                from factflow_infra_testing.storage.files import SimulatedFilesystem

                self._files = self._stack.enter_context(SimulatedFilesystem())
            if not self._files_active:
                self._run.enter_context(self._files.run())
                self._files_active = True
                if self._simulation is not None:
                    self._simulation.watch_disk(self._files)
            return self._files.folder(host)

    def s3_provider(self, host: str, *, exposed: bool, profile: str | None) -> StorageProtocol:
        """A provider on the bucket that all machines share; each profile has one. ``exposed``: it meets the run's faults,
        as code on ``host`` does.
        """
        with outside():
            if self._s3 is None:
                from factflow_infra_testing.storage.s3 import SimulatedS3

                with self._real_disk():
                    self._s3 = self._stack.enter_context(SimulatedS3())
            if not self._s3_active:
                self._s3.reset()
                if self._simulation is not None:
                    self._s3.expose(self._simulation.decisions, self._simulation.struck)
                self._s3_active = True
            if exposed and host not in self._s3.hosts:
                with self._real_disk():  # where botocore's own files lie
                    return self._s3.provider(exposed=True, host=host, profile=profile)
            return self._s3.provider(exposed=exposed, host=host, profile=profile)

    def importing(self) -> AbstractContextManager[None]:
        """Around an import in the middle of a run: the library lies on the real disk, and starts outside the run's time."""
        return self._off_the_disk() if self._files_active else outside()

    @contextmanager
    def _off_the_disk(self) -> Generator[None, None, None]:
        with outside(), self._real_disk():
            yield

    @contextmanager
    def _real_disk(self) -> Generator[None, None, None]:
        """Take the simulated disk away for a moment: libraries that are imported inside lie on the real one."""
        if not self._files_active or self._files is None:
            yield
            return
        simulation = self._simulation
        self._run.pop_all().close()
        try:
            yield
        finally:
            self._run.enter_context(fenced())
            self.serve(simulation)
            self._run.callback(self.serve, None)
            self._run.enter_context(self._files.run(fresh=False))

    def disks(self) -> Iterator[SimulatedFilesystem]:
        """The disk, if this run has used it."""
        if self._files is not None and self._files_active:
            yield self._files


class _Handler(logging.Handler):
    def __init__(self, take: Callable[[logging.LogRecord], None]) -> None:
        super().__init__(logging.WARNING)
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        self._take(record)


@contextmanager
def _captured_log(take: Callable[[logging.LogRecord], None]) -> Generator[None, None, None]:
    """What the providers log belongs to a run's history, not to the terminal, a thousand runs at a time."""
    logger = logging.getLogger("factflow_infra")
    handler = _Handler(take)
    # What client libraries say about lost connections names addresses in memory, and would differ from run to run.
    clients = [logging.getLogger(name) for name in _CLIENTS]
    nothing = logging.NullHandler()
    before = [(one, one.propagate) for one in (logger, *clients)]
    logger.addHandler(handler)
    for one in clients:
        one.addHandler(nothing)
    for one, _ in before:
        one.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        for one in clients:
            one.removeHandler(nothing)
        for one, propagate in before:
            one.propagate = propagate


@contextmanager
def _collected_by_hand() -> Generator[None, None, None]:
    """No collection between runs but ``_tidy``'s: what killed processes left complains when it is collected."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        with hushed():
            gc.collect(1)
        if was_on:
            gc.enable()
