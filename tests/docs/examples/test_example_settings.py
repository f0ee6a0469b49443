import asyncio
from pathlib import Path

from factflow_infra import create_queue_provider, create_storage_provider
from factflow_infra.protocols import StorageProtocol
from factflow_infra.storage.factory import StorageProviderFactory
from factflow_infra.storage.settings import StorageSettings
from metered_storage import MeteredStorage


def test_three_ways(monkeypatch):
    monkeypatch.setenv("FACTFLOW_QUEUE_URI", "amqp://guest:guest@localhost/")
    # [three-ways]
    queue = create_queue_provider()  # FACTFLOW_QUEUE_*
    queue = create_queue_provider("amqp://broker/", prefetch=50)
    storage = create_storage_provider(StorageSettings(uri="file:///var/lib/invoices", create_root=True))
    # [/three-ways]
    assert queue
    assert storage


# [own-scheme]
def build(settings: StorageSettings) -> StorageProtocol:
    path = settings.uri.removeprefix("metered:")
    return MeteredStorage(create_storage_provider(f"file:{path}", create_root=True))


def make_storage(uri: str) -> StorageProtocol:
    factory = StorageProviderFactory()
    factory.register("metered", build)
    return factory.create(uri)


# [/own-scheme]
async def _write(storage: StorageProtocol) -> bytes:
    await storage.write("a", b"1")
    try:
        return await storage.read("a")
    finally:
        await storage.close()


def test_a_scheme_of_your_own(tmp_path: Path):
    assert asyncio.run(_write(make_storage(f"metered://{tmp_path}/new"))) == b"1"
