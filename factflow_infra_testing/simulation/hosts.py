"""The hosts of a run: their names and addresses, and what name servers answer."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING, Any

from factflow_infra_testing.simulation.clock import LOCAL_HOST
from factflow_infra_testing.simulation.owners import OWNER

if TYPE_CHECKING:
    from factflow_infra_testing.simulation.transports import Address

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Hosts:
    """Who is where. Everybody is on ``localhost`` unless its owner says otherwise."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {LOCAL_HOST: "127.0.0.1"}
        self._by_address: dict[str, str] = {}

    def add_host(self, name: str) -> str:
        """Make ``name`` known; its address. A host that connects or listens is known by itself."""
        name = name.lower()
        if name not in self._names:
            number = len(self._names)
            self._names[name] = address = f"10.0.{number // 250}.{number % 250 + 1}"
            self._by_address[address] = name
        return self._names[name]

    def resolve(self, host: str) -> str:
        """The name of the host that ``host`` (a name or an address) means to the running code."""
        name = host.lower()
        if name in LOOPBACK:
            return self._here()
        if name in self._names:
            return name
        if name in self._by_address:
            return self._by_address[name]
        try:
            ipaddress.ip_address(name)
        except ValueError:
            raise socket.gaierror(socket.EAI_NONAME, f"Name or service not known: {host!r} in the simulation") from None
        return name

    def _here(self) -> str:
        owner = OWNER.get()
        host = owner.host.lower() if owner is not None else LOCAL_HOST
        self.add_host(host)
        return host

    def getaddrinfo(self, host: Any, port: Any) -> list[tuple[Any, ...]]:
        """As ``loop.getaddrinfo``: one TCP address."""
        name = host.decode() if isinstance(host, bytes) else host
        found = "127.0.0.1" if name is None or name.lower() in LOOPBACK else self._address(self.resolve(name))
        number = int(port) if port is not None else 0
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (found, number))]

    def getnameinfo(self, address: Address) -> tuple[str, str]:
        """As ``loop.getnameinfo``."""
        return self._by_address.get(address[0], address[0]), str(address[1])

    def _address(self, name: str) -> str:
        return self._names.get(name, name)
