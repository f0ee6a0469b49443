"""Play generated sequences of AMQP operations on a real RabbitMQ and on the simulated one, and compare all that is seen.

``python tests/live/compare_amqp.py [COUNT] [FIRST]`` starts a RabbitMQ of its own (see ``servers/rabbitmq.py``), plays COUNT (500)
sequences with the seeds from FIRST (0) on, the kinds of queues in turn, and tells those that differ; it ends with 1 where there are any.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "wire" / "amqp")]

import amqp_sequences  # noqa: E402 - beside the tests of the front end
from compare_stomp import tell  # noqa: E402 - beside this file

from factflow_infra_testing.wire.serving import serve  # noqa: E402 - after the path is set

if TYPE_CHECKING:
    from collections.abc import Iterable

VHOST = "sequences"
PAUSES = (0.02, 0.1, 0.5)
"""Seconds of silence after which a broker has said all: a busy machine may be too slow, so that a difference is asked for again."""


async def differences(real: str, numbers: Iterable[int]) -> dict[str, list[str]]:
    """The sequences that differ, each with its lines up to the first difference. ``real``: the URI of the real broker."""
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # it tells of each consumer that the broker cancels
    kinds = list(amqp_sequences.KINDS)
    by_kind: dict[str, list[int]] = {kind: [] for kind in kinds}
    for number in numbers:
        by_kind[kinds[number % len(kinds)]].append(number)
    found: dict[str, list[str]] = {}

    async def play(simulated: str, kind: str) -> None:
        for number in by_kind[kind]:
            lines = await _compared(real, simulated, kind, number)
            if lines:
                found[f"{number} ({kind})"] = lines

    async with await serve() as server:
        simulated = f"amqp://guest:guest@127.0.0.1:{server.port}/"
        await asyncio.gather(*(play(simulated, kind) for kind in kinds))  # each has a queue of its own
    return found


async def _compared(real: str, simulated: str, kind: str, seed: int) -> list[str]:
    theirs: list[str] = []
    ours: list[str] = []
    for pause in PAUSES:
        theirs, ours = await amqp_sequences.compare(real, simulated, kind, seed, pause=pause)
        if theirs == ours:
            return []
    pairs = enumerate(zip(theirs, ours, strict=False))
    at = next((n for n, (one, other) in pairs if one != other), min(len(theirs), len(ours)))
    return [*theirs[:at], *(f"real: {one}" for one in theirs[at:]), *(f"ours: {one}" for one in ours[at:])]


def main(count: int = 500, first: int = 0) -> int:
    rabbitmq: Any = importlib.import_module("servers.rabbitmq")
    if missing := rabbitmq.missing():
        tell(missing)
        return 2
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        server = rabbitmq.RabbitMq(Path(folder) / "rabbitmq")
        server.start()
        try:
            server.ensure_vhost(VHOST)
            found = asyncio.run(differences(server.uri + VHOST, range(first, first + count)))
        finally:
            server.kill()
    for name, lines in found.items():
        tell("\n  ".join([f"sequence {name}:", *lines]))
    tell(f"{count} sequences, {len(found)} differ {list(found)}, {time.monotonic() - begin:.0f} s")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
