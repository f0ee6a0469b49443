"""A run that uses every part; prints the digest of its trace. Run as a script, or imported."""

import asyncio
import sys
import time
import uuid
from datetime import UTC, datetime

from factflow_infra_testing.simulation.owners import OWNER, Owner
from factflow_infra_testing.simulation.runner import run
from factflow_infra_testing.simulation.trace import Trace


async def echo(reader, writer):
    async for line in reader:
        writer.write(line.upper())
    writer.close()


async def client(n):
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("broker", 5672)
    for _ in range(3):
        writer.write(f"{uuid.uuid4()} {datetime.now(UTC)} {time.time()}\n".encode())
        loop.note((await reader.readline()).decode())
        await asyncio.sleep(int.from_bytes(uuid.uuid4().bytes[:1]) / 100)
    await asyncio.to_thread(time.sleep, n)
    writer.close()
    await writer.wait_closed()


async def in_sets(n):
    done, _ = await asyncio.wait({asyncio.create_task(asyncio.sleep(0, k)) for k in range(n)})
    for task in done:
        asyncio.get_running_loop().note(f"{task.get_name()} {task.result()}")


async def ticks():
    while True:
        yield 1
        await asyncio.sleep(0.7)


async def consume():
    async for _ in ticks():
        asyncio.get_running_loop().note("tick")


async def main():
    loop = asyncio.get_running_loop()
    loop.network.links.default.latency = 0.003
    await asyncio.start_server(echo, "broker", 5672)
    owner = Owner("victim")
    token = OWNER.set(owner)
    victim = asyncio.create_task(consume())
    OWNER.reset(token)
    async with asyncio.TaskGroup() as group:
        for n in range(4):
            group.create_task(client(n))
        group.create_task(in_sets(30))
        loop.call_later(2, loop.kill, owner)
    return victim


def digest(seed):
    trace = Trace()
    run(main, seed=seed, trace=trace).result()
    return trace.digest()


if __name__ == "__main__":
    sys.stdout.write(digest(int(sys.argv[1])))
