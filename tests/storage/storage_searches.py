"""Searched runs of a storage provider: several clients at once on a few keys, under every fault; S1 to S10 are judged.

Each client makes its calls one after the other, and goes on after a kill. What they saw is in the run's history, which
``sim.check.storage`` judges (S1, S2, S4, S5, S7, as far as they were looked at); here are the rest: what a stream gave (S8), and
which errors faults surface as (S10).
"""

from __future__ import annotations

import random
from contextlib import contextmanager
from unittest.mock import patch

from factflow_infra.errors import (
    CorruptObjectError,
    ObjectNotFoundError,
    PreconditionFailedError,
    StorageAuthenticationError,
    StorageError,
    StorageFullError,
    StorageIOError,
    StoragePermissionError,
    StorageUnreachableError,
    ThrottledError,
    WriteUnconfirmedError,
)
from factflow_infra.storage.filesystem import provider
from factflow_infra.storage.minio import S3Options, options
from factflow_infra_testing.search.faults import Faults
from factflow_infra_testing.search.search import MINIMISE_RUNS, search

KEYS = ("a", "d/b", "d/c")
COPIED = "d/copy"
CLIENTS = 3
CALLS = 7
SIZES = (0, 30, 150, 700)
EXPECTED = {
    ObjectNotFoundError: False,
    PreconditionFailedError: False,
    StorageFullError: False,
    StoragePermissionError: False,
    StorageAuthenticationError: False,
    StorageUnreachableError: True,
    ThrottledError: True,
    WriteUnconfirmedError: True,
    StorageIOError: None,
}
"""What a call may raise here, and whether that is retryable; None: it depends on the cause."""
ON_THE_WAY = {CorruptObjectError: False}
"""What it may raise besides where content comes over a network: damage there is told, as damage at rest is."""
ACTIONS = ("write", "write", "stream", "create", "replace", "read", "download", "delete", "copy", "list", "tidy")


def content(value, size):
    """Bytes that tell which write they are of."""
    return f"{value}:".encode() + b"x" * size


class Client:
    """A process that uses the storage. ``plan`` is what it has still to do; what it is doing is lost with it."""

    def __init__(self, name, kind, plan, wrong):
        self.name, self.kind, self.plan, self.wrong, self.made = name, kind, plan, wrong, 0
        self.expected = {**EXPECTED, **(ON_THE_WAY if kind == "s3" else {})}

    async def main(self, process):
        storage = process.storage(self.kind)
        while self.plan:
            action, key, size = self.plan.pop(0)
            try:
                await getattr(self, action)(storage, key, size)
            except StorageError as error:
                if type(error) not in self.expected or self.expected[type(error)] not in (None, error.retryable):
                    self.wrong.append(f"{action} {key}: {type(error).__name__}, retryable={error.retryable}: {error}")
        await storage.close()

    def next_value(self):
        self.made += 1
        return f"{self.name}.{self.made}"

    async def write(self, storage, key, size, **conditions):
        value = self.next_value()
        await storage.write(key, content(value, size), {"value": value, "size": size}, **conditions)

    async def stream(self, storage, key, size):
        value = self.next_value()
        data = content(value, size)

        async def pieces():
            for start in range(0, len(data), 100):
                yield data[start : start + 100]

        await storage.write(key, pieces(), {"value": value, "size": size})

    async def create(self, storage, key, size):
        await self.write(storage, key, size, if_absent=True)

    async def replace(self, storage, key, size):
        await self.write(storage, key, size, if_match=(await storage.stat(key)).etag)

    async def read(self, storage, key, _size):
        stored = await storage.get(key)
        if stored.data != content(stored.info.metadata["value"], stored.info.metadata["size"]):
            self.wrong.append(f"bytes and metadata of {key} are of different writes, or not whole")

    async def download(self, storage, key, _size):
        data = b"".join([piece async for piece in storage.stream(key, chunk_size=64)])
        value, _, rest = data.partition(b":")
        if rest.strip(b"x") or len(rest) not in SIZES:
            self.wrong.append(f"a stream of {key} is of two versions, or not whole: {value!r} {len(rest)}")

    async def delete(self, storage, key, _size):
        await storage.delete(key)

    async def copy(self, storage, key, _size):
        await storage.copy(key, COPIED)

    async def list(self, storage, _key, _size):
        keys = [key async for key in storage.list()]
        if not set(keys) <= {*KEYS, COPIED}:
            self.wrong.append(f"listed {keys}")

    async def tidy(self, storage, _key, _size):
        if hasattr(storage.provider, "remove_leftovers"):
            await storage.remove_leftovers(older_than=3600)


def scenario(kind):
    async def run(sim):
        wrong = []
        for number in range(CLIENTS):
            plan = [(random.choice(ACTIONS), random.choice(KEYS), random.choice(SIZES)) for _ in range(CALLS)]
            client = Client(f"client-{number}", kind, plan, wrong)
            sim.start(client.main, name=client.name)
        await sim.drain()
        reader = Client("test", kind, [("list", "", 0), *(("read", key, 0) for key in (*KEYS, COPIED))], wrong)
        await reader.main(Laboratory(sim))
        assert not wrong, wrong
        sim.check.storage(kind)

    return run


class Laboratory:
    """The test itself, in a process's place."""

    def __init__(self, sim):
        self.storage = sim.storage


def storage_search(kind, *, examples, seed=0, faults=None, minimise=MINIMISE_RUNS):
    """Search for a run that breaks a promise, all faults on unless told otherwise.

    Objects of a few hundred bytes go the ways of large ones, on S3 in parts, so that all of the provider's ways are met.
    """
    with patch.object(provider, "DEFAULT_CHUNK_SIZE", 120), patch.object(provider, "LARGE", 500), small_parts():
        return search(
            scenario(kind), faults=faults or Faults.all(), max_examples=examples, seed=seed, minimise_budget=minimise
        )


@contextmanager
def small_parts():
    """Uploads in parts of 256 bytes: the provider's own bounds, and the simulated server's."""
    from moto.s3 import models

    defaults = {**S3Options.__init__.__kwdefaults__, "part_size": 256, "multipart_threshold": 256}
    with (
        patch.object(options, "MIN_PART_SIZE", 1),
        patch.object(models, "S3_UPLOAD_PART_MIN_SIZE", 1),
        patch.object(S3Options.__init__, "__kwdefaults__", defaults),
    ):
        yield
