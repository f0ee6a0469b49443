"""Where the stand-in takes the place of the C++ client: at its constructors, and only inside a run."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from factflow_infra_testing.simulation.patches import Patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


DEFAULT_PORT = 6650


def patches() -> Iterator[Patch]:
    """The constructors of ``_pulsar`` that start threads, read a clock, or give what only those can give."""
    if importlib.util.find_spec("_pulsar") is None:
        return
    library: Any = importlib.import_module("_pulsar")
    yield Patch(library, "Client", _client)
    yield Patch(library, "MessageBuilder", _builder)
    yield Patch(library, "Error", _error)


def _client(original: Any) -> Callable[[str, Any], Any]:
    from factflow_infra_testing.simulation.entropy import active_world

    def make(service_url: str, configuration: Any) -> Any:
        world = active_world()
        if world is None:
            return original(service_url, configuration)
        from factflow_infra_testing.api.pulsar.client import ApiClient

        return ApiClient(world.loop, configuration, addresses_of(service_url), world.loop.network.services)

    return make


def addresses_of(service_url: str) -> list[tuple[str, int]]:
    """The hosts and ports in a service URL, which may name several with commas between."""
    scheme, _, hosts = service_url.partition("://")
    split = [urlsplit(f"{scheme}://{host}") for host in hosts.split(",")]
    return [(parts.hostname or "", parts.port or DEFAULT_PORT) for parts in split]


def _builder(original: Any) -> Callable[[], Any]:
    from factflow_infra_testing.simulation.entropy import active_world

    def make() -> Any:
        if active_world() is None:
            return original()
        from factflow_infra_testing.api.pulsar.values import MessageBuilder

        return MessageBuilder()

    return make


def _error(original: Any) -> Any:
    from factflow_infra_testing.api.pulsar.results import ClientError

    return original | ClientError  # it is only ever asked whether something is one
