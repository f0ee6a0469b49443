"""Workloads of up to three storage operations, what each must leave, and the exploration of all their crashes."""

from __future__ import annotations

import itertools
from contextlib import nullcontext
from dataclasses import dataclass

from factflow_infra.errors import ObjectNotFoundError, PreconditionFailedError
from factflow_infra.storage.filesystem import FilesystemStorageProvider
from factflow_infra_testing.storage.exploring import Explorer

SECTOR = 256
KEYS = ("d/k", "d/l")
A, B, C = (letter * 600 for letter in (b"a", b"b", b"c"))  # three sectors


@dataclass(frozen=True)
class Operation:
    """One call of the storage, and what it makes of a dict of key to (data, version)."""

    name: str
    key: str
    data: bytes = b""
    version: int = 0
    source: str = ""
    condition: str = ""

    async def perform(self, storage):
        try:
            match = (await storage.stat(self.key)).etag if self.condition == "if_match" else None
            if self.name == "write":
                await storage.write(
                    self.key, self.data, {"v": self.version}, if_absent=self.condition == "if_absent", if_match=match
                )
            elif self.name == "copy":
                await storage.copy(self.source, self.key)
            else:
                await storage.delete(self.key, if_match=match)
        except (ObjectNotFoundError, PreconditionFailedError):
            pass

    def after(self, objects):
        there = self.key in objects
        if (self.condition == "if_absent" and there) or (self.condition == "if_match" and not there):
            return objects
        if self.name == "delete":
            return {key: value for key, value in objects.items() if key != self.key}
        if self.name == "copy":
            return {**objects, self.key: objects[self.source]} if self.source in objects else objects
        return {**objects, self.key: (self.data, self.version)}

    def __str__(self):
        if self.name == "copy":
            return f"copy {self.source} to {self.key}"
        return " ".join(filter(None, (self.name, self.key, f"v{self.version}" if self.version else "", self.condition)))


OPERATIONS = (
    Operation("write", "d/k", A, 1),
    Operation("write", "d/k", B, 2),
    Operation("write", "d/k", A, 3),  # equal bytes, other metadata
    Operation("write", "d/l", C, 4),
    Operation("write", "d/k", C, 5, condition="if_absent"),
    Operation("write", "d/k", B, 6, condition="if_match"),
    Operation("copy", "d/l", source="d/k"),
    Operation("copy", "d/k", source="d/l"),
    Operation("delete", "d/k"),
    Operation("delete", "d/k", condition="if_match"),
)


def workloads(length):
    """Every sequence of ``length`` operations. A crash amid an earlier one of a sequence is that of a shorter sequence."""
    return itertools.product(OPERATIONS, repeat=length)


def explorer(files):
    return Explorer(files, sector=SECTOR, opaque=lambda name: name.startswith(".factflow"))


def explore(explorer, operations, *, provider=FilesystemStorageProvider, during=nullcontext):
    """All crashes amid the last of ``operations`` and after it: S1 and S2, listing, and the store goes on.

    ``during()`` is entered for the last operation: what is taken out there was in place before.
    """
    before = {}
    for operation in operations[:-1]:
        before = operation.after(before)
    after = operations[-1].after(before)

    async def prepare(folder):
        storage = provider(folder)
        for operation in operations[:-1]:
            await operation.perform(storage)
        return storage

    async def workload(_folder, storage):
        with during():
            await operations[-1].perform(storage)

    def allowed(crash):
        return [after] if crash.done else [before, after]

    async def check(folder, crash):
        await look(FilesystemStorageProvider(folder), allowed(crash))

    def claim(crash):
        return tuple(tuple(sorted(objects.items())) for objects in allowed(crash))

    return explorer.explore(workload, check, prepare=prepare, claim=claim)


async def look(storage, allowed):
    """A new process on what is left: old or new, whole; nothing else is listed; leftovers can be removed; and it goes on."""
    objects = await contents(storage)
    assert objects in allowed
    assert [key async for key in storage.list()] == sorted(objects)
    await storage.remove_leftovers(older_than=0)
    assert await storage.remove_leftovers(older_than=0) == 0
    assert await contents(storage) == objects
    for key in KEYS:
        await storage.write(key, b"afterwards", {"v": 99}, if_absent=key not in objects)
    assert await contents(storage) == dict.fromkeys(KEYS, (b"afterwards", 99))
    for key in KEYS:
        await storage.delete(key)
    assert [key async for key in storage.list()] == []
    await storage.close()


async def contents(storage):
    objects = {}
    for key in KEYS:
        try:
            stored = await storage.get(key)
        except ObjectNotFoundError:
            continue
        assert stored.info.size == len(stored.data)
        objects[key] = (stored.data, stored.info.metadata.get("v"))
    return objects
