"""Pulsar's commands and metadata: field names and numbers as in its ``PulsarApi.proto`` (protocol version 19).

A command's type number is also the number of its field in ``BaseCommand``. Left out are transactions, topic watchers and
migration, which the client library of the production provider does not use.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from factflow_infra_testing.wire.pulsar.answers import ANSWERS
from factflow_infra_testing.wire.pulsar.parts import PARTS
from factflow_infra_testing.wire.pulsar.protobuf import Codec
from factflow_infra_testing.wire.pulsar.requests import REQUESTS

if TYPE_CHECKING:
    from collections.abc import Mapping

_COMMANDS: Final = {**REQUESTS, **ANSWERS}

TYPES: Final[Mapping[str, int]] = MappingProxyType({name: number for name, (number, _) in _COMMANDS.items()})
"""Type numbers by command."""

NAMES: Final[Mapping[int, str]] = MappingProxyType({number: name for name, number in TYPES.items()})

CODEC: Final = Codec(
    {
        **PARTS,
        **{name: fields for name, (_, fields) in _COMMANDS.items()},
        "BaseCommand": "\n".join(("1! type uint", *(f"{number} {name} {name}" for name, number in TYPES.items()))),
    }
)
"""Reads and writes all of them."""
