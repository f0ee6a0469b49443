"""The part of the loop that faces the world: network, threads, signals, and what there is none of here."""

# pyright: reportPrivateUsage=false
# ruff: noqa: ARG001, ARG002, A002 - the signatures are asyncio's; options that mean nothing in memory are accepted and ignored
from __future__ import annotations

import asyncio
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, cast

from factflow_infra_testing.simulation.entropy import active_world
from factflow_infra_testing.simulation.errors import NotSimulatedError
from factflow_infra_testing.simulation.owners import OWNER, Owner

if TYPE_CHECKING:
    from collections.abc import Callable

    from factflow_infra_testing.simulation.executor import JobRunner
    from factflow_infra_testing.simulation.loop import DeterministicLoop
    from factflow_infra_testing.simulation.network import Network


class LoopSurface(asyncio.BaseEventLoop):
    """Network and threads of a deterministic loop, each made on first use."""

    if TYPE_CHECKING:  # asyncio's own, of which the stubs say nothing
        _closed: bool
        _task_factory: Any

        def _check_closed(self) -> None: ...
        def _check_running(self) -> None: ...

    def __init__(self) -> None:
        super().__init__()
        self._network: Network | None = None
        self._jobs: JobRunner | None = None
        self._signal_handlers: dict[
            tuple[Owner | None, int], tuple[Callable[..., object], tuple[Any, ...], Context]
        ] = {}

    @property
    def network(self) -> Network:
        """The hosts, links and connections of this run."""
        if self._network is None:
            from factflow_infra_testing.simulation.network import Network

            self._network = Network(cast("DeterministicLoop", self))
        return self._network

    @property
    def jobs(self) -> JobRunner:
        """What runs the thread jobs of this run."""
        if self._jobs is None:
            from factflow_infra_testing.simulation.executor import JobRunner

            self._jobs = JobRunner(cast("DeterministicLoop", self))
        return self._jobs

    @property
    def has_jobs(self) -> bool:
        """Whether there ever was a thread job."""
        return self._jobs is not None

    def runs_here(self) -> bool:
        """Whether the calling thread runs simulated code of this loop."""
        world = active_world()
        return world is not None and world.loop is self

    def close_surface(self) -> None:
        """End the threads and forget the connections."""
        if self._jobs is not None:
            self._jobs.close()
        if self._network is not None:
            self._network.close()
        self._signal_handlers.clear()
        self._default_executor = None

    # -- threads ------------------------------------------------------------------------------------------------------

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Run ``func`` on a real thread while every other one stands still; see ``executor``."""
        return self.jobs.run_in_executor(self._default_executor if executor is None else executor, func, args)

    def set_default_executor(self, executor: Any) -> None:
        """Its bound on threads is kept to; its threads are not used."""
        self._default_executor: Any = executor

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait until no thread job is left."""
        if self._jobs is not None:
            await self._jobs.join()

    # -- network ------------------------------------------------------------------------------------------------------

    async def create_connection(
        self,
        protocol_factory: Callable[[], Any],
        host: str | None = None,
        port: int | None = None,
        *,
        ssl: Any = None,
        sock: Any = None,
        server_hostname: str | None = None,
        **options: Any,
    ) -> Any:
        _refuse_options(ssl=ssl, sock=sock)
        if host is None or port is None:
            raise ValueError("host and port was not specified and no sock specified")
        return await self.network.connect(protocol_factory, host, int(port))

    async def create_server(
        self,
        protocol_factory: Callable[[], Any],
        host: Any = None,
        port: int | None = None,
        *,
        ssl: Any = None,
        sock: Any = None,
        start_serving: bool = True,
        **options: Any,
    ) -> Any:
        _refuse_options(ssl=ssl, sock=sock)
        hosts: list[str | None] = [host] if host is None or isinstance(host, str) else list(host)
        return self.network.serve(protocol_factory, hosts, int(port or 0), start=start_serving)

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        return self.network.getaddrinfo(host, port)

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> Any:
        return self.network.getnameinfo(sockaddr)

    async def start_tls(self, transport: Any, protocol: Any, sslcontext: Any, **options: Any) -> Any:
        _refuse_options(ssl=sslcontext, sock=None)

    # -- signals ------------------------------------------------------------------------------------------------------

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: Any) -> None:
        """Remember it for the running owner; ``deliver_signal`` calls it. No real signal ever arrives."""
        self._signal_handlers[OWNER.get(), int(sig)] = (callback, args, copy_context())

    def remove_signal_handler(self, sig: int) -> bool:
        return self._signal_handlers.pop((OWNER.get(), int(sig)), None) is not None

    def deliver_signal(self, sig: int, owner: Owner | None = None) -> bool:
        """Have ``owner`` receive ``sig``. False when it has no handler: a real process would take the default action."""
        found = self._signal_handlers.get((owner, int(sig)))
        if found is None:
            return False
        callback, args, context = found
        self.call_soon(callback, *args, context=context)
        return True

    def drop_signal_handlers(self, owner: Owner) -> None:
        """The owner is gone."""
        for key in [key for key in self._signal_handlers if key[0] is owner]:
            del self._signal_handlers[key]

    # -- what there is none of ----------------------------------------------------------------------------------------

    def _process_events(self, event_list: Any) -> None:
        """There is no selector."""

    def _write_to_self(self) -> None:
        """There is no selector to wake."""


def _refuse_options(*, ssl: Any, sock: Any) -> None:
    if ssl:
        raise NotSimulatedError(
            "TLS is not simulated: connect without ssl= in the simulation (e.g. amqp:// not amqps://)."
        )
    if sock is not None:
        raise NotSimulatedError("A ready-made socket cannot be used in the simulation: give host and port.")


def _refusal(name: str) -> Callable[..., Any]:
    def refuse(self: LoopSurface, *args: Any, **options: Any) -> Any:
        raise NotSimulatedError(f"loop.{name}() reaches the operating system; the simulation does not offer it.")

    refuse.__name__ = refuse.__qualname__ = name
    return refuse


for _name in [
    "add_reader",
    "remove_reader",
    "add_writer",
    "remove_writer",
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendto",
    "sock_connect",
    "sock_accept",
    "sock_sendfile",
    "sendfile",
    "create_datagram_endpoint",
    "create_unix_connection",
    "create_unix_server",
    "connect_accepted_socket",
    "connect_read_pipe",
    "connect_write_pipe",
    "subprocess_shell",
    "subprocess_exec",
]:
    setattr(LoopSurface, _name, _refusal(_name))
