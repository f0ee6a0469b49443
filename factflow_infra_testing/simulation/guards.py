"""What refuses inside a run: everything whose outcome is up to the world outside.

A refusal also ends the run, so that code which retries on any exception cannot hide it.
"""

from __future__ import annotations

import asyncio
import multiprocessing.process
import os
import socket
import subprocess
import threading
from typing import TYPE_CHECKING, Any

from factflow_infra_testing.simulation.clock import LOCAL_HOST
from factflow_infra_testing.simulation.entropy import World, active_world
from factflow_infra_testing.simulation.errors import SimulationEscapeError
from factflow_infra_testing.simulation.owners import OWNER
from factflow_infra_testing.simulation.patches import Patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOCKET = "opens a real socket. Use asyncio.open_connection() or loop.create_connection(), which are simulated"
NAME = (
    "asks a real name server, as blocking clients do before they connect. Use asyncio.open_connection() or loop.getaddrinfo(), "
    "which are simulated; instead of a client of S3 that was made from a URI, process.storage('s3')"
)
PROCESS = "starts a real process. Move it out of the simulated code"
SIGNAL = "ends or replaces a real process, this one perhaps. In the simulation, processes are killed from outside"
LOOP = "makes an event loop of its own. Hand coroutines to the running one: asyncio.run_coroutine_threadsafe()"
THREAD = "starts a thread of its own. Use asyncio.to_thread() or loop.run_in_executor(), which are simulated"


def escape(world: World, what: str) -> SimulationEscapeError:
    """The error for reaching out; it also ends the run."""
    error = SimulationEscapeError(f"Inside the simulation, code {what}.")
    world.loop.abort(error)
    return error


def _refusing(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **options: Any) -> Any:
            world = active_world()
            if world is not None:
                raise escape(world, f"called {original.__qualname__}, which {what}")
            return original(*args, **options)

        guarded.__name__, guarded.__qualname__ = original.__name__, original.__qualname__
        return guarded

    return make


def _own_host() -> str:
    owner = OWNER.get()
    return owner.host if owner is not None else LOCAL_HOST


def _host_name(original: Callable[[], str]) -> Callable[[], str]:
    def gethostname() -> str:
        return original() if active_world() is None else _own_host()

    return gethostname


def _full_host_name(original: Callable[[str], str]) -> Callable[[str], str]:
    def getfqdn(name: str = "") -> str:
        return original(name) if active_world() is None else name or _own_host()

    return getfqdn


def patches() -> Iterator[Patch]:
    """Sockets, name servers, processes, threads."""
    yield Patch(socket.socket, "__init__", _refusing(SOCKET))
    yield Patch(socket, "socketpair", _refusing(SOCKET))
    for module in (asyncio, asyncio.events):
        yield Patch(module, "new_event_loop", _refusing(LOOP))
    yield Patch(socket, "gethostname", _host_name)
    yield Patch(socket, "getfqdn", _full_host_name)
    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo"):
        yield Patch(socket, name, _refusing(NAME))
    yield Patch(subprocess.Popen, "__init__", _refusing(PROCESS))
    yield Patch(multiprocessing.process.BaseProcess, "start", _refusing(PROCESS))
    for name in ("system", "popen", "fork", "forkpty", "posix_spawn", "posix_spawnp"):
        yield Patch(os, name, _refusing(PROCESS))
    for name in ("kill", "killpg", "abort", "_exit", "execv", "execve"):
        yield Patch(os, name, _refusing(SIGNAL))
    yield Patch(threading.Thread, "start", _refusing(THREAD))
