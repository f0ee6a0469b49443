"""What the kit exports, and that asking for it is all that loads anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import factflow_infra_testing

HEAVY = (
    "boto3",
    "botocore",
    "aio_pika",
    "stompman",
    "pulsar",
    "moto",
    "pyfakefs",
    "hypothesis",
    "pydantic_settings",
    "rich",
    "typer",
)


def python(code):
    root = str(Path(factflow_infra_testing.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_exports_are_pinned():
    assert factflow_infra_testing.__all__ == [
        "Fault",
        "Faults",
        "Process",
        "QueueContract",
        "SimulatedQueueProvider",
        "Simulation",
        "SimulationSession",
        "StorageContract",
        "simulate",
    ]


@pytest.mark.parametrize("name", factflow_infra_testing.__all__)
def test_each_export_is_there(name):
    assert getattr(factflow_infra_testing, name).__name__ == name


def test_what_is_not_exported_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'simulat'"):
        factflow_infra_testing.simulat  # noqa: B018


def test_importing_the_kit_and_its_plugin_loads_nothing_heavy():
    code = f"""
import sys
import factflow_infra_testing
assert not [name for name in {HEAVY!r} if name in sys.modules]
assert not [name for name in sys.modules if name.startswith("factflow_infra")][1:]
import factflow_infra_testing.plugin, factflow_infra_testing.fixtures
from factflow_infra_testing import Fault, Faults, simulate
Faults.all()
print(sorted(name for name in {HEAVY!r} if name in sys.modules))
"""
    assert python(code).strip() == "[]"
