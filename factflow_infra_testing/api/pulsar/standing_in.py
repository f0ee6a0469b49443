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

        services, address = world.loop.network.services, _address(service_url)
        return ApiClient(world.loop, configuration, lambda: services.get(address))

    return make


def _address(service_url: str) -> tuple[str, int]:
    parts = urlsplit(service_url.split(",", maxsplit=1)[0])
    return parts.hostname or "", parts.port or DEFAULT_PORT


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
