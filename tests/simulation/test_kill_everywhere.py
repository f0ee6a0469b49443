"""A process is killed before each of its steps in turn: the run goes on, nothing complains, and it is the same twice."""

import asyncio
import contextlib
import time

import pytest
from scenario_for_digest import echo, ticks
from test_loop_owners import spawn

from factflow_infra_testing.simulation.owners import Owner
from factflow_infra_testing.simulation.runner import run
from factflow_infra_testing.simulation.trace import Trace

STEPS = 90


async def serve(reader, writer):
    with contextlib.suppress(ConnectionError):
        await echo(reader, writer)


async def worker(log):
    async def talk():
        reader, writer = await asyncio.open_connection("broker", 1)
        try:
            for _ in range(3):
                writer.write(b"line\n")
                await writer.drain()
                await reader.readline()
        finally:
            log.append("finally")
            writer.close()

    async def listen():
        async for _ in ticks():
            await asyncio.to_thread(time.sleep, 0.1)
            if asyncio.get_running_loop().time() > 2:
                return

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(talk())
        group.create_task(listen())


def killed_at(fatal, how):
    log, steps = [], 0
    trace = Trace()

    async def main():
        def before(owner, _):
            nonlocal steps
            steps += 1
            if steps == fatal:
                log.append("killed")
                loop.kill(owner, connections=how)

        loop = asyncio.get_running_loop()
        await asyncio.start_server(serve, "broker", 1)
        loop.on_step = before
        spawn(Owner("worker"), worker(log))
        await asyncio.sleep(60)
        return list(log)

    outcome = run(main, trace=trace)
    assert outcome.unhandled == ()
    assert outcome.leftovers == ()
    return outcome.result(), steps, trace.digest()


@pytest.mark.parametrize("how", ["reset", "eof", "silent"])
def test_killed_before_any_step(how):
    undisturbed, steps, _ = killed_at(0, how)
    assert undisturbed == ["finally"]
    assert steps < STEPS
    seen = set()
    for fatal in range(1, steps + 1):
        log, taken, digest = killed_at(fatal, how)
        assert log in (["killed"], ["finally", "killed"])
        assert taken == fatal
        assert killed_at(fatal, how)[2] == digest
        seen.add(tuple(log))
    assert len(seen) == 2
