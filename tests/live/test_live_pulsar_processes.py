"""The Pulsar provider and what is around it: event loops that end, processes that end or fork, threads and descriptors.

Each test is a program in a process of its own, for what it shows is how that process ends.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

pytestmark = pytest.mark.live

SECONDS = 120.0
AT_ONCE = 4
PRELUDE = """
    import asyncio, gc, os, signal, sys, threading, time
    from factflow_infra import create_queue_provider
    from factflow_infra.errors import QueueError
    from factflow_infra.queue.messages import QueueMessage
    import factflow_infra.queue.pulsar.client as client
    import factflow_infra.queue.pulsar.session as session

    uri, name = {uri!r}, {name!r}

    async def handle(message):
        pass

    def threads():
        return len(os.listdir("/proc/self/task"))

    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    def publish_from_elsewhere():
        async def publish():
            async with create_queue_provider(uri) as provider:
                await provider.publish(name, QueueMessage(b"x"))
        asyncio.run(publish())
        time.sleep(0.5)
"""


def run(server: Any, program: str, *, seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
    prelude = textwrap.dedent(PRELUDE).format(uri=server.uri, name=f"q-{uuid4().hex[:10]}")
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", prelude + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def said(ended: subprocess.CompletedProcess[str]) -> str:
    """What it printed last. It must have ended well."""
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended.stdout.splitlines()[-1]


FORGOTTEN = """
    async def main():
        provider = create_queue_provider(uri)
        await provider.subscribe(name, handle, prefetch=1)
        return provider
{ablation}
    loop = asyncio.new_event_loop()
    provider = loop.run_until_complete(main())
    loop.close()
    publish_from_elsewhere()
    print("alive")
"""


UNCONTAINED = """
    def add(self, answer):
        self._loop.call_soon_threadsafe(answer.take)

    client._Arrivals.add = add
"""


@pytest.mark.parametrize("contained", [True, False])
def test_a_message_for_a_closed_loop(pulsar_server: Any, *, contained: bool) -> None:
    """PUL-14: the process lives on; where the answer goes to the loop regardless it is aborted."""
    ended = run(pulsar_server, FORGOTTEN.format(ablation="" if contained else UNCONTAINED))
    if contained:
        assert said(ended) == "alive"
    else:
        assert ended.returncode == -6
        assert "Event loop is closed" in ended.stderr


def test_a_loop_that_ends_without_stop_takes_its_client_with_it(pulsar_server: Any) -> None:
    ended = run(
        pulsar_server,
        """
        async def main():
            provider = create_queue_provider(uri)
            await provider.subscribe(name, handle)
            await provider.publish(name, QueueMessage(b"x"))
            return provider

        provider = asyncio.run(main())
        alive = len(session._alive)
        publish_from_elsewhere()
        print(alive)
        """,
    )
    assert said(ended) == "0"


def test_exit_with_pending_sends(own_pulsar_server: Any) -> None:
    """The broker is frozen, the loop is left without a word: the interpreter ends, and ends well."""
    own_pulsar_server.start()
    ended = run(
        own_pulsar_server,
        f"""
        async def main():
            provider = create_queue_provider(uri)
            await provider.subscribe(name, handle)
            await provider.publish(name, QueueMessage(b"x"))
            os.killpg({own_pulsar_server.pid}, signal.SIGSTOP)
            sending = [asyncio.ensure_future(provider.publish(name, QueueMessage(b"x"))) for _ in range(100)]
            await asyncio.sleep(0.2)
            return provider, sending

        loop = asyncio.new_event_loop()
        left = loop.run_until_complete(main())
        print("left", flush=True)
        """,
    )
    own_pulsar_server.thaw()
    assert said(ended) == "left"


ON_THEIR_WAY = """
    class Nothing(set):
        def add(self, _):
            pass

    async def main():
        provider = create_queue_provider(uri)
        await provider.subscribe(name, handle)
        sending = [asyncio.ensure_future(provider.publish(name, QueueMessage(b"x"))) for _ in range(900)]
        await asyncio.sleep({seconds})
        return provider, sending

    {ablation}
    loop = asyncio.new_event_loop()
    left = loop.run_until_complete(main())
"""


STOPPED = """
    async def main():
        async with create_queue_provider(uri) as provider:
            await provider.subscribe(name, handle)
            await asyncio.gather(*[provider.publish(name, QueueMessage(b"x")) for _ in range(300)])

    {ablation}
    asyncio.run(main())
"""


def exits(server: Any, program: str, ablation: str, tries: int) -> list[int]:
    """How the processes ended, a few at a time (which makes their threads late) until one ended badly."""

    def ended(number: int) -> int:
        return run(server, program.format(ablation=ablation, seconds=0.01 * (1 + number % 5))).returncode

    codes: list[int] = []
    with ThreadPoolExecutor(AT_ONCE) as several:
        while len(codes) < tries and not any(codes):
            codes += several.map(ended, range(len(codes), len(codes) + AT_ONCE))
    return codes


@pytest.mark.parametrize("program", [ON_THEIR_WAY, STOPPED], ids=["left", "stopped"])
def test_exit_ends_well(pulsar_server: Any, program: str) -> None:
    """PUL-29: whoever is alive is closed, and given time to end."""
    assert exits(pulsar_server, program, "", 12) == [0] * 12


def test_exit_aborts_without_closing(pulsar_server: Any) -> None:
    """PUL-29: an answer comes while the interpreter ends."""
    assert -6 in exits(pulsar_server, ON_THEIR_WAY, "session._alive = Nothing()", 100)


def test_exit_aborts_without_waiting(pulsar_server: Any) -> None:
    """PUL-29: a thread that has not ended yet. One exit of 40 on one machine, one of hundreds on another."""
    codes = exits(pulsar_server, STOPPED, "session.EXIT_SECONDS = 0.0", 100)
    if not any(codes):
        pytest.skip(f"none of {len(codes)} exits met the moment in which it aborts")
    assert codes[-AT_ONCE:].count(-6), codes


def test_the_client_keeps_quiet(pulsar_server: Any) -> None:
    """PUL-16: and writes to standard output where it is given no logger."""
    program = """
        import pulsar.asyncio

        async def main():
            async with create_queue_provider(uri) as provider:
                await provider.publish(name, QueueMessage(b"x"))

        {ablation}
        asyncio.run(main())
        """
    assert run(pulsar_server, program.format(ablation="")).stdout == ""
    talking = "made = pulsar.asyncio.Client; pulsar.asyncio.Client = lambda *a, logger, **k: made(*a, **k)"
    assert "ClientConnection" in run(pulsar_server, program.format(ablation=talking)).stdout


@pytest.mark.parametrize("forgets", [True, False])
def test_a_closed_reader_leaves_no_thread(pulsar_server: Any, *, forgets: bool) -> None:
    """PUL-25: the future that told of its making is made to forget it."""
    ended = run(
        pulsar_server,
        f"""
        import factflow_infra.queue.pulsar.ephemeral as ephemeral
        if not {forgets}:
            ephemeral.made_reader = lambda call: call

        async def main():
            for number in range(8):
                async with create_queue_provider(uri) as provider:
                    await provider.subscribe("/topic/" + name, handle)
                gc.collect()
                await asyncio.sleep(0.1)
                if number == 2:
                    before = threads()
            print(threads() - before)

        asyncio.run(main())
        """,
    )
    assert int(said(ended)) == (0 if forgets else 5)


@pytest.mark.parametrize("told", [True, False])
def test_a_forked_child_on_the_same_loop(pulsar_server: Any, *, told: bool) -> None:
    """PUL-23: an error at once, instead of an answer that never comes."""
    ended = run(
        pulsar_server,
        f"""
        from types import SimpleNamespace
        import factflow_infra.queue.engine as engine
        if not {told}:
            engine.process = SimpleNamespace(forks=0)
        provider = create_queue_provider(uri)

        async def child():
            try:
                async with asyncio.timeout(5):
                    await provider.publish(name, QueueMessage(b"x"))
            except (QueueError, TimeoutError) as error:
                print(type(error).__name__, error, flush=True)

        loop = asyncio.new_event_loop()
        loop.run_until_complete(provider.publish(name, QueueMessage(b"x")))
        if (pid := os.fork()) == 0:
            loop.run_until_complete(child())
            os._exit(0)
        os.waitpid(pid, 0)
        loop.run_until_complete(provider.stop())
        """,
    )
    assert said(ended).startswith("QueueError this provider was made before a fork" if told else "TimeoutError")


def test_a_forked_child(pulsar_server: Any) -> None:
    """PUL-23: the old provider says what is wrong, a new one works, and the child ends."""
    ended = run(
        pulsar_server,
        """
        provider = create_queue_provider(uri)

        async def main():
            await provider.subscribe(name, handle)

        async def child():
            try:
                await provider.publish(name, QueueMessage(b"x"))
            except QueueError as error:
                print(error)
            async with create_queue_provider(uri) as new:
                await new.publish(name, QueueMessage(b"x"))
            print("published", flush=True)

        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        if (pid := os.fork()) == 0:
            asyncio.run(child())
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        loop.run_until_complete(provider.stop())
        """,
    )
    assert said(ended) == "0"
    assert "made before a fork" in ended.stdout
    assert "published" in ended.stdout


def test_cycles_leave_nothing(pulsar_server: Any) -> None:
    """Made, used and closed again and again: as many threads and descriptors after the last as after the first few."""
    ended = run(
        pulsar_server,
        """
        async def cycle():
            got = asyncio.Event()
            async def take(message):
                got.set()
            async with create_queue_provider(uri) as provider:
                await provider.subscribe(name, take)
                await provider.subscribe("/topic/" + name, handle)
                await provider.publish(name, QueueMessage(b"x"))
                async with asyncio.timeout(10):
                    await got.wait()

        async def main():
            counts = []
            for number in range(40):
                await cycle()
                gc.collect()
                await asyncio.sleep(0.01)
                counts.append((threads(), descriptors()))
            print(counts)
            print(max(counts[5:10]), max(counts[-5:]))

        asyncio.run(main())
        """,
    )
    early, late = said(ended).split(") (")
    assert early.strip("()") == late.strip("()"), ended.stdout


FLOOD = """
import os, pulsar
client = pulsar.Client({uri!r}, logger=pulsar.FileLogger(pulsar.LoggerLevel.Error, os.devnull))
producer = client.create_producer({name!r}, batching_enabled=False)
while True:
    producer.send(b"x")
"""
ENDING = """
    import faulthandler, pulsar.asyncio
    logger = pulsar.FileLogger(pulsar.LoggerLevel.Error, os.devnull)

    async def receive(consumer):
        while True:
            await consumer.receive()

    async def cycle():
        client = pulsar.asyncio.Client(uri, logger=logger)
        consumers = [await client.subscribe({flooded!r}, f"s{{n}}", receiver_queue_size=10) for n in range(8)]
        receiving = [asyncio.ensure_future(receive(consumer)) for consumer in consumers]
        await asyncio.sleep(0.2)
        faulthandler.dump_traceback_later(5, exit=True)
        {end}
        faulthandler.cancel_dump_traceback_later()
        for task in receiving:
            task.cancel()
        await asyncio.gather(*receiving, return_exceptions=True)

    for _ in range({count}):
        asyncio.run(cycle())
    print("all ended")
    sys.stdout.flush()
    os._exit(0)
"""


@pytest.mark.parametrize(
    ("end", "count"),
    [
        ("client.shutdown()", 60),
        ("await asyncio.gather(*[consumer.close() for consumer in consumers]); await client.close()", 20),
    ],
    ids=["shutdown", "close"],
)
def test_ending_a_client_under_a_flood_of_messages(pulsar_server: Any, end: str, count: int) -> None:
    """PUL-15: beside a message on its way to a receive ``shutdown`` hangs the process, and ``close`` does not."""
    flooded = f"persistent://public/default/q-{uuid4().hex[:10]}"
    flood = subprocess.Popen(
        [sys.executable, "-c", FLOOD.format(uri=pulsar_server.uri, name=flooded)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        ended = run(pulsar_server, ENDING.format(flooded=flooded, end=end, count=count))
    finally:
        flood.kill()
        flood.wait()
    if "shutdown" in end:
        assert ended.returncode == 1
        assert "Timeout" in ended.stderr
        assert "in shutdown" in ended.stderr
    else:
        assert said(ended) == "all ended"
