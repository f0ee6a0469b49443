"""Play generated sequences of STOMP operations on a real Artemis and on the simulated one, and compare all that is seen.

``python tests/live/compare_stomp.py [COUNT] [FIRST]`` starts an Artemis of its own (see ``servers/artemis.py``), plays the
sequences with the seeds from FIRST (0) on, and tells those that differ; it ends with 1 where there are any.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factflow_infra_testing.wire.serving import serve

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "wire" / "stomp"))


@contextlib.contextmanager
def simulated() -> Iterator[int]:
    """The port of a simulated Artemis, which a thread serves."""
    ready, port = threading.Event(), 0
    loop = asyncio.new_event_loop()

    async def main() -> None:
        nonlocal port
        async with await serve(profile="artemis") as server:
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


def differences(server: Any, stomp: Any, seeds: range) -> Iterator[tuple[int, list[str]]]:
    """Each seed, and the first step that differs, as lines: none where all is the same."""
    import stomp_sequences

    with simulated() as port:

        def real(**headers: str) -> Any:
            return stomp.Stomp(server.port, server.user, server.password, **headers)

        def ours(**headers: str) -> Any:
            return stomp.Stomp(port, "artemis", "artemis", **headers)

        for seed in seeds:
            theirs, mine = stomp_sequences.compare(real, ours, seed)
            at = next((n for n, (one, other) in enumerate(zip(theirs, mine, strict=True)) if one != other), None)
            yield seed, [] if at is None else [*map(str, mine[:at]), f"real: {theirs[at]}", f"ours: {mine[at]}"]


def tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(count: int = 500, first: int = 0) -> int:
    artemis, stomp = importlib.import_module("servers.artemis"), importlib.import_module("servers.stomp")
    missing = artemis.missing()
    if missing:
        tell(missing)
        return 2
    different, begin = [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        server = artemis.Artemis(Path(folder) / "artemis")
        server.start()
        try:
            for seed, lines in differences(server, stomp, range(first, first + count)):
                if lines:
                    different.append(seed)
                    tell("\n  ".join([f"sequence {seed}:", *lines]))
        finally:
            server.kill()
    tell(f"{count} sequences, {len(different)} differ {different}, {time.monotonic() - begin:.0f} s")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
