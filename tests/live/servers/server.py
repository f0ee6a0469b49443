"""What throw-away servers on 127.0.0.1 have in common: started, stopped, killed, frozen and restarted at will.

Everything that one writes is below one folder. Only processes that it started are ended, by their id.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pathlib import Path


class ServerError(RuntimeError):
    """The server did not do what was asked of it; the message ends with the tail of its log."""


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on at the moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@dataclass
class Server:
    """One process, and what it starts. A kind of server says what to run, and how one sees that it is ready."""

    folder: Path

    NAME: ClassVar[str]
    START_SECONDS: ClassVar[float] = 90.0
    STOP_SECONDS: ClassVar[float] = 30.0

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()
        self._process: subprocess.Popen[bytes] | None = None

    # --- what a kind of server says ---------------------------------------------------------------------------------

    @property
    def command(self) -> list[str]:
        raise NotImplementedError

    @property
    def environment(self) -> dict[str, str]:
        """Of the process, in place of this one's."""
        return {**os.environ, "HOME": str(self.folder)}

    def prepare(self) -> None:
        """Write what the next start reads."""

    def answers(self) -> bool:
        """Whether a client could log in."""
        raise NotImplementedError

    @property
    def logs(self) -> list[Path]:
        """What to show of a server that did not start, beside its output."""
        return []

    # --- what all of them do ----------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and return once a client could log in."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.prepare()
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                self.command,
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + self.START_SECONDS
        while not self.answers():
            if self._process.poll() is not None:
                raise ServerError(f"{self.NAME} ended with code {self._process.returncode}\n{self._log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServerError(f"{self.NAME} was not ready within {self.START_SECONDS:g} s\n{self._log_tail()}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop in an orderly way."""
        if self._process is not None and self._process.poll() is None:
            self._signal(signal.SIGTERM)
            try:
                self._process.wait(self.STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        self._process = None

    def kill(self) -> None:
        """End at once, as ``kill -9`` does."""
        if self._process is not None and self._process.poll() is None:
            self._signal(signal.SIGKILL)
            self._process.wait(30)
        self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop answering while the sockets stay open: what a partition looks like. ``thaw`` undoes it."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def says(self, port: int, greeting: bytes, answer: bytes) -> bool:
        """Whether what listens on ``port`` begins its answer to ``greeting`` with ``answer``."""
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2) as probe:
                probe.sendall(greeting)
                return probe.recv(len(answer)) == answer
        except OSError:
            return False

    @property
    def _output(self) -> Path:
        return self.folder / "out"

    def _signal(self, which: signal.Signals) -> None:
        # The start script and the server, which are a session of their own.
        assert self._process is not None
        os.killpg(self._process.pid, which)

    def _log_tail(self) -> str:
        shown = [log for log in (self._output, *self.logs) if log.exists()]
        return "\n".join(f"{log}:\n{log.read_text(errors='replace')[-1500:]}" for log in shown)
