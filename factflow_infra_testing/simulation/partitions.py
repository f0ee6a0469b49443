"""Which pairs of hosts a partition of two names is about: a broker may be reached at several."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from factflow_infra.errors import SettingsError
from factflow_infra_testing.errors import KitUsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from factflow_infra_testing.broker.server import SimulatedBroker


def pairs_between(
    hosts: Iterable[str], broker: Callable[[str], SimulatedBroker], one: str, other: str
) -> list[tuple[str, str]]:
    """The pairs of hosts that ``one`` and ``other`` stand for: each one of ``hosts``, or the profile of a ``broker``.

    Raises ``KitUsageError`` for an unknown name, and where both stand for the same.
    """
    known = tuple(hosts)
    here, there = _hosts_of(known, broker, one), _hosts_of(known, broker, other)
    if here == there:
        raise KitUsageError(f"a partition is between two hosts, got {one!r} and {other!r}")
    return list(product(here, there))


def _hosts_of(hosts: tuple[str, ...], broker: Callable[[str], SimulatedBroker], name: str) -> tuple[str, ...]:
    if name in hosts:
        return (name,)
    try:
        return broker(name).hosts
    except SettingsError:
        from factflow_infra_testing.broker.profiles import PROFILES

        known = ", ".join(map(repr, (*hosts, *sorted(PROFILES))))
        raise KitUsageError(f"there is no host called {name!r}; known: {known}") from None
