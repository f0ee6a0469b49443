"""What the fuzzers share: inputs cut into parts, and a front end that is spoken to without a socket."""

from __future__ import annotations

import asyncio
import importlib
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pamqp import commands as spec
from pamqp import frame as pamqp_frame

from factflow_infra_testing.broker import SimulatedBroker

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_WRITTEN = 4_000_000
"""Bytes of answers: more than any input of libFuzzer's usual size may ask for."""

LOGGED_IN_STOMP = b"CONNECT\naccept-version:1.2\nhost:h\nlogin:artemis\npasscode:artemis\nclient-id:c\n\n\0"
LOGGED_IN_AMQP = b"AMQP\x00\x00\x09\x01" + b"".join(
    pamqp_frame.marshal(value, channel)
    for channel, value in (
        (0, spec.Connection.StartOk({"product": "fuzz"}, "PLAIN", "\0guest\0guest", "en_US")),
        (0, spec.Connection.TuneOk(2047, 131_072, 0)),
        (0, spec.Connection.Open("/")),
        (1, spec.Channel.Open()),
        (1, spec.Queue.Declare(queue="q")),
    )
)


def arguments(argv: list[str], tests: str) -> list[str]:
    """``argv`` with a corpus to begin with, where it names none: the frames of the session in the module ``tests``."""
    if any(not argument.startswith("-") for argument in argv[1:]):
        return argv
    path = Path(__file__).parents[1] / "wire" / tests
    sys.path.insert(0, str(path.parent))
    session: Any = importlib.import_module(path.stem)
    frames = session.FRAMES if hasattr(session, "FRAMES") else session.SESSION
    corpus = Path(tempfile.mkdtemp())
    for number, frame in enumerate(frames):
        (corpus / f"{number}").write_bytes(b"\x02\x03" + frame)
    (corpus / "all").write_bytes(b"\x02\x03" + b"".join(frames))
    return [*argv, str(corpus)]


def parts_of(data: bytes) -> list[Any]:
    """How to use an input (a number), and the input in up to four parts."""
    how, at, rest = data[0], data[1] if len(data) > 1 else 0, data[2:]
    step = max(1, len(rest) * (1 + at % 4) // 4)
    return [how, *(rest[start : start + step] for start in range(0, len(rest), step))]


class Loop(asyncio.SelectorEventLoop):
    """Runs what is due, and never waits."""

    def rounds(self, count: int) -> None:
        for _ in range(count):
            self.call_soon(self.stop)
            self.run_forever()


class Wire(asyncio.Transport):
    """Counts what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.written = 0

    def write(self, data: Any) -> None:
        self.written += len(data)
        if self.written > MOST_WRITTEN:
            raise MemoryError(f"{self.written} bytes of answers")

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close


LOOP = Loop()


class Served:
    """A connection to a new simulated broker."""

    def __init__(self, profile: str, front_end: Callable[[SimulatedBroker], Any]) -> None:
        self.errors: list[Any] = []
        LOOP.set_exception_handler(lambda _, context: self.errors.append(context))
        self.connection = front_end(SimulatedBroker(profile, loop=LOOP)).connection(exposed=False)
        self.wire = Wire()
        self.connection.connection_made(self.wire)

    def talk(self, parts: list[bytes]) -> None:
        """Send all of it. Raises what the front end should not have."""
        for part in parts:
            if not self.wire.closed:
                self.connection.data_received(part)
                LOOP.rounds(2)
        self.connection.connection_lost(None)
        LOOP.rounds(2)
        if self.errors:
            raise RuntimeError(self.errors)
