"""Nothing in a run reaches the world outside unnoticed."""

# ruff: noqa: PLW0108 - looked up when it is called, as the guards come and go

import asyncio
import os
import socket
import subprocess
import threading

import pytest

from factflow_infra_testing.simulation import guards, patches
from factflow_infra_testing.simulation.errors import NotSimulatedError, SimulationEscapeError
from factflow_infra_testing.simulation.owners import OWNER, Owner
from factflow_infra_testing.simulation.runner import run

ESCAPES = {
    "socket": lambda: socket.socket(),
    "socketpair": lambda: socket.socketpair(),
    "create_connection": lambda: socket.create_connection(("127.0.0.1", 9)),
    "getaddrinfo": lambda: socket.getaddrinfo("localhost", 80),
    "gethostbyname": lambda: socket.gethostbyname("localhost"),
    "subprocess": lambda: subprocess.run(["true"], check=False),
    "system": lambda: os.system("true"),
    "fork": lambda: os.fork(),
    "kill": lambda: os.kill(os.getpid(), 0),
    "exit": lambda: os._exit(1),
    "thread": lambda: threading.Thread(target=int).start(),
    "timer": lambda: threading.Timer(1, int).start(),
    "loop": lambda: asyncio.new_event_loop(),
}


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("in_thread", [False, True])
def test_reaching_out_ends_the_run(name, in_thread):
    async def main():
        try:
            if in_thread:
                await asyncio.to_thread(ESCAPES[name])
            else:
                ESCAPES[name]()
        except SimulationEscapeError:
            await asyncio.sleep(5)  # as code does that retries on any exception
        return "hidden"

    outcome = run(main)
    assert isinstance(outcome.error, SimulationEscapeError)
    assert outcome.time == 0


def test_a_host_knows_its_own_name():
    async def main():
        here = socket.gethostname(), socket.getfqdn()
        OWNER.set(Owner("worker", host="worker-host"))
        return *here, socket.gethostname(), socket.getfqdn()

    assert run(main).result() == ("localhost", "localhost", "worker-host", "worker-host")


def test_asyncio_subprocesses_are_refused():
    async def main():
        await asyncio.create_subprocess_exec("true")

    assert isinstance(run(main).error, NotSimulatedError)


def test_a_foreign_thread_cannot_call_in():
    errors = []

    async def main():
        loop = asyncio.get_running_loop()

        def call():
            try:
                loop.call_soon_threadsafe(int)
            except SimulationEscapeError as error:
                errors.append(error)

        from factflow_infra_testing.simulation.entropy import outside

        with outside():
            thread = threading.Thread(target=call)
            thread.start()
            thread.join()
        await asyncio.sleep(5)

    assert run(main).error is errors[0]


def test_outside_a_run_everything_works():
    with patches.session():
        one, other = socket.socketpair()
        one.close()
        other.close()
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()


def test_without_the_guards_a_socket_opens(monkeypatch):
    monkeypatch.setattr(guards, "patches", lambda: ())

    async def main():
        with socket.socket() as one:
            return one.fileno() >= 0

    assert run(main).result()
