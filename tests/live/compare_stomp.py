"""Play generated sequences of STOMP operations on a real broker and on the simulated one, and compare all that is seen.

``python tests/live/compare_stomp.py [COUNT] [FIRST] [PROFILE]`` starts a broker of its own (an Artemis, or that of the PROFILE
``activemq-classic`` or ``rabbitmq-stomp``; see ``servers``), plays the sequences with the seeds from FIRST (0) on, and tells those
that differ; it ends with 1 where there are any.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import signal
import sys
import tempfile
import threading
import time
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from factflow_infra_testing.wire.serving import serve
from factflow_infra_testing.wire.stomp.dialects import DIALECTS

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "wire" / "stomp"))


@contextlib.contextmanager
def simulated(profile: str = "artemis") -> Iterator[int]:
    """The port of a simulated broker of ``profile``, which a thread serves."""
    ready, port = threading.Event(), 0
    loop = asyncio.new_event_loop()

    async def main() -> None:
        nonlocal port
        async with await serve(profile=profile) as server:
            port = server.port
            ready.set()
            await server.serve_forever()

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.run_until_complete(asyncio.sleep(0.05))  # for the connections that were cut
        loop.close()

    task = loop.create_task(main())
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)


class Broker(NamedTuple):
    """Where the server of a profile is, and how one connects to it."""

    module: str
    kind: str
    headers: dict[str, str]
    port: str = "port"


BROKERS = {
    "artemis": Broker("artemis", "Artemis", {}),
    "activemq-classic": Broker("activemq", "ActiveMq", {}),
    "rabbitmq-stomp": Broker("rabbitmq", "RabbitMq", {"host": "/"}, "stomp_port"),
}


def connector(server: Any, profile: str) -> Any:
    """``connect(**headers)``: a bare connection to a running server of ``profile``."""
    stomp, row = importlib.import_module("servers.stomp"), BROKERS[profile]

    def connect(**headers: str) -> Any:
        return stomp.Stomp(getattr(server, row.port), server.user, server.password, **row.headers, **headers)

    return connect


def simulated_connector(port: int, profile: str) -> Any:
    """The same, to a simulated one."""
    stomp, row, dialect = importlib.import_module("servers.stomp"), BROKERS[profile], DIALECTS[profile]

    def connect(**headers: str) -> Any:
        return stomp.Stomp(port, dialect.user, dialect.password, **row.headers, **headers)

    return connect


def differences(server: Any, seeds: range, profile: str = "artemis") -> Iterator[tuple[int, list[str]]]:
    """Each seed, and the first step that differs, as lines: none where all is the same."""
    import stomp_sequences

    with simulated(profile) as port:
        real, ours = connector(server, profile), simulated_connector(port, profile)
        for seed in seeds:
            theirs, mine = stomp_sequences.compare(real, ours, seed, profile=profile)
            pairs = list(zip_longest(theirs, mine))
            at = next((n for n, (one, other) in enumerate(pairs) if one != other), None)
            yield seed, [] if at is None else [*map(str, mine[:at]), f"real: {pairs[at][0]}", f"ours: {pairs[at][1]}"]


def tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(count: int = 500, first: int = 0, profile: str = "artemis") -> int:
    row = BROKERS[profile]
    module = importlib.import_module(f"servers.{row.module}")
    missing = module.missing()
    if missing:
        tell(missing)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the broker ends with it
    different, begin = [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        server = getattr(module, row.kind)(Path(folder) / row.module)
        server.start()
        try:
            for seed, lines in differences(server, range(first, first + count), profile):
                if lines:
                    different.append(seed)
                    tell("\n  ".join([f"sequence {seed}:", *lines]))
        finally:
            server.kill()
    tell(f"{profile}: {count} sequences, {len(different)} differ {different}, {time.monotonic() - begin:.0f} s")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3]), *sys.argv[3:]))
