import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from factflow_infra import create_storage_provider
from factflow_infra.protocols import StorageProtocol
from factflow_infra_testing.contracts import (
    LIVE_PACE,
    PlainStorageBackend,
    StorageCapability,
    StorageContract,
    StorageEnvironment,
    exercise_storage,
)
from metered_storage import MeteredStorage


class Backend(PlainStorageBackend):
    """How to get at the store behind the provider. Each capability that is declared needs its method here."""

    def __init__(self, root: Path) -> None:
        self.root = root

    async def provider(self) -> StorageProtocol:
        return MeteredStorage(create_storage_provider(f"file://{self.root}"))

    async def corrupt(self, key: str) -> None:
        path = self.root / key
        data = bytearray(path.read_bytes())
        data[0] ^= 1
        with path.open("r+b") as file:
            file.write(data)


class Harness:
    """How to run one behaviour: here in real time, each in a folder of its own."""

    capabilities = frozenset(
        {
            StorageCapability.CONDITIONAL_CREATE,
            StorageCapability.CONDITIONAL_WRITE,
            StorageCapability.CONDITIONAL_DELETE,
            StorageCapability.CORRUPT,
        }
    )

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, check: Callable[[StorageEnvironment], Coroutine[Any, Any, None]]) -> None:
        asyncio.run(exercise_storage(check, Backend(self.folder), capabilities=self.capabilities, pace=LIVE_PACE))


class TestMeteredStorage(StorageContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> Harness:
        return Harness(tmp_path)
