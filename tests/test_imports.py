"""Importing either package loads nothing heavy, and gives exactly the names that it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import factflow_infra
from factflow_infra.queue.factory import create_queue_provider
from factflow_infra.storage.factory import create_storage_provider

ROOT = Path(__file__).parents[1]
HEAVY = (
    "aio_pika",
    "aiofiles",
    "aiormq",
    "boto3",
    "botocore",
    "hypothesis",
    "moto",
    "pulsar",
    "pydantic",
    "pydantic_settings",
    "pyfakefs",
    "pytest",
    "rich",
    "stompman",
    "typer",
)


def loaded_by(code: str) -> set[str]:
    """The modules, by their first names, that a fresh interpreter has loaded after ``code`` and not before."""
    script = (
        f"import json, sys\nbefore = set(sys.modules)\n{code}\nprint(json.dumps(sorted(set(sys.modules) - before)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    output = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    ).stdout
    return {name.partition(".")[0] for name in json.loads(output)}


@pytest.mark.parametrize("package", ["factflow_infra", "factflow_infra_testing", "factflow_infra.protocols"])
def test_importing_a_package_loads_nothing_heavy(package):
    loaded = loaded_by(f"import {package}")
    assert loaded & set(HEAVY) == set()
    assert "factflow_infra" in {name.removesuffix("_testing") for name in loaded}


def test_the_production_package_never_loads_the_kit():
    loaded = loaded_by(
        "from factflow_infra import create_queue_provider, create_storage_provider\n"
        "create_queue_provider('amqp://localhost'); create_storage_provider('file:///x')"
    )
    assert "factflow_infra_testing" not in loaded
    assert {"aio_pika", "pydantic_settings"} <= loaded  # the watch works: what is used is loaded
    assert loaded & {"boto3", "stompman", "pulsar", "hypothesis", "pytest"} == set()


def test_each_provider_loads_its_own_library_and_no_other():
    bucket = loaded_by("from factflow_infra import create_storage_provider as c; c('s3://bucket', region='us-east-1')")
    assert bucket & {"aio_pika", "stompman", "pulsar", "moto"} == set()
    simulated = loaded_by("from factflow_infra_testing import Simulation, SimulatedQueueProvider, Fault, Faults")
    assert simulated & set(HEAVY) == set()


def test_the_root_gives_exactly_the_two_functions():
    assert sorted(factflow_infra.__all__) == ["create_queue_provider", "create_storage_provider"]
    assert factflow_infra.create_queue_provider is create_queue_provider
    assert factflow_infra.create_storage_provider is create_storage_provider
    assert sorted(dir(factflow_infra)) >= sorted(factflow_infra.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'QueueMessage'"):
        factflow_infra.QueueMessage  # noqa: B018
