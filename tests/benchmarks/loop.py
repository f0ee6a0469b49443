"""What the deterministic loop costs. ``python tests/benchmarks/loop.py``: prints, asserts nothing."""

# ruff: noqa: ASYNC110 - heartbeats are what is measured

import asyncio
import sys
import time

from factflow_infra_testing.simulation import patches
from factflow_infra_testing.simulation.entropy import outside
from factflow_infra_testing.simulation.owners import OWNER, Owner
from factflow_infra_testing.simulation.runner import run
from factflow_infra_testing.simulation.trace import Trace


async def nothing():
    pass


async def callbacks(n):
    loop = asyncio.get_running_loop()
    for _ in range(n // 100):
        for _ in range(100):
            loop.call_soon(int)
        await asyncio.sleep(0)


async def timers(n):
    loop = asyncio.get_running_loop()
    for k in range(n):
        loop.call_later(k % 97, int)
    await asyncio.sleep(100)


async def sleeps(n):
    for _ in range(n):
        await asyncio.sleep(1)


async def switches(n):
    for _ in range(n):
        await asyncio.sleep(0)


async def tasks(n):
    for _ in range(n // 100):
        await asyncio.gather(*[nothing() for _ in range(100)])


async def owned_switches(n):
    OWNER.set(Owner("worker"))
    asyncio.get_running_loop().on_step = lambda *_: None
    await asyncio.create_task(switches(n))


async def jobs(n):
    for _ in range(n):
        await asyncio.to_thread(int)


async def sleeping_jobs(n):
    def job():
        for _ in range(n // 8):
            time.sleep(0.001)

    await asyncio.gather(*[asyncio.to_thread(job) for _ in range(8)])


async def echoes(n):
    async def serve(reader, writer):
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    await asyncio.start_server(serve, "broker", 1)
    reader, writer = await asyncio.open_connection("broker", 1)
    for _ in range(n):
        writer.write(b"line\n")
        await reader.readline()
    writer.close()


async def heartbeats(n):
    async def beat():
        while True:
            await asyncio.sleep(10)

    beating = [asyncio.create_task(beat()) for _ in range(10)]
    await asyncio.sleep(n)
    return beating


def measure(title, program, n, *, trace=None):
    with outside():
        began = time.perf_counter()
        run(lambda: program(n), trace=trace, livelock_limit=10**9).result()
        seconds = time.perf_counter() - began
    sys.stdout.write(f"{title:<34}{seconds / n * 1e6:>9.2f} us each{n / seconds:>12,.0f}/s\n")


def main():
    sys.stdout.write(f"Python {sys.version.split()[0]}\n")
    with patches.session():
        for _ in range(2):  # the first round warms up
            began = time.perf_counter()
            for _ in range(2000):
                run(nothing)
            seconds = time.perf_counter() - began
        sys.stdout.write(
            f"{'whole run of a trivial coroutine':<34}{seconds / 2000 * 1e6:>9.2f} us each{2000 / seconds:>12,.0f}/s\n"
        )
        measure("call_soon and run", callbacks, 200_000)
        measure("call_later and run", timers, 100_000)
        measure("task switch, sleep(0)", switches, 100_000)
        measure("task switch of an owner, hooked", owned_switches, 100_000)
        measure("task switch, traced", switches, 50_000, trace=Trace())
        measure("sleep(1)", sleeps, 50_000)
        measure("task made, run and gathered", tasks, 30_000)
        measure("thread job", jobs, 3_000)
        measure("thread job's time.sleep", sleeping_jobs, 8_000)
        measure("line echoed over the network", echoes, 10_000)
        measure("virtual second, 10 heartbeats", heartbeats, 3_600)


if __name__ == "__main__":
    main()
