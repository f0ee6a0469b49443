"""Searched runs of a storage provider: several clients at once on a few keys, under every fault; S1 to S10 are judged by what they saw.

Each client makes its calls one after the other, and goes on after a kill. What each call returned or raised is kept outside the
processes; a call that never ended may have happened or not. In the end each key's calls must fit into one order in which it
behaves as a register (Wing and Gong's search), whatever crashed in between.
"""

from __future__ import annotations

import random
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
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
ANY = "any"
EXPECTED = {
    StorageFullError: False,
    StoragePermissionError: False,
    StorageAuthenticationError: False,
    StorageUnreachableError: True,
    ThrottledError: True,
    WriteUnconfirmedError: True,
    StorageIOError: None,
    CorruptObjectError: False,
}
"""What a fault may surface as (S10), and whether that is retryable; None: it depends on the cause.
Damage that no fault has done is found by ``whole_objects``."""


@dataclass
class Call:
    """One call as its client saw it. ``outcome``: ``ok``, ``refused`` (its condition did not hold), or None: nobody knows.

    ``value`` is what was written, or seen; None is no object. ``match`` is the value that ``if_match`` names.
    """

    kind: str
    key: str
    value: object
    invoked: int
    match: object = None
    completed: float = float("inf")
    outcome: str | None = None


class Log:
    """What all clients did, in one order of moments."""

    def __init__(self):
        self.calls = []
        self.clock = 0
        self.wrong = []

    def begin(self, kind, key, value=None, match=None):
        self.clock += 1
        call = Call(kind, key, value, self.clock, match)
        self.calls.append(call)
        return call

    def end(self, call, outcome, value=None):
        self.clock += 1
        call.completed, call.outcome = self.clock, outcome
        if call.kind in ("read", "listed"):
            call.value = value

    def drop(self, call):
        """It surely did not happen."""
        self.calls.remove(call)


def content(value, size):
    """Bytes that tell which write they are of."""
    return f"{value}:".encode() + b"x" * size


def is_whole(stored):
    """The value of an object, if its bytes and its metadata are of one write, and all there."""
    value, size = stored.info.metadata["value"], stored.info.metadata["size"]
    assert stored.data == content(value, size), "bytes and metadata are of different writes, or not whole"
    assert stored.info.size == len(stored.data)
    return value


class Client:
    """A process that uses the storage. ``plan`` is what it has still to do; what it is doing is lost with it."""

    def __init__(self, name, log, kind, plan):
        self.name, self.log, self.kind, self.plan, self.made = name, log, kind, plan, 0

    async def main(self, process):
        storage = process.storage(self.kind)
        while self.plan:
            action, key, size = self.plan.pop(0)
            await getattr(self, action)(storage, key, size)
        await storage.close()

    def value(self):
        self.made += 1
        return f"{self.name}.{self.made}"

    async def attempt(self, call, made):
        """``made``, and the call's end; what was refused or failed for sure is told by None."""
        try:
            result = await made
        except PreconditionFailedError as error:
            self.judge(error, retryable=False)
            self.log.end(call, "refused")
        except ObjectNotFoundError as error:
            self.judge(error, retryable=False)
            self.log.end(call, "ok", None)
        except StorageError as error:
            if type(error) not in EXPECTED or EXPECTED[type(error)] not in (None, error.retryable):
                self.log.wrong.append(f"{call}: {type(error).__name__}, retryable={error.retryable}: {error}")
            if not isinstance(error, WriteUnconfirmedError):
                self.log.drop(call)
        else:
            return result
        return None

    def judge(self, error, *, retryable):
        if error.retryable is not retryable:
            self.log.wrong.append(f"{error!r} says retryable={error.retryable}")

    async def write(self, storage, key, size, *, match=None, **conditions):
        value = self.value()
        call = self.log.begin("write", key, value, match)
        if conditions.get("if_absent"):
            call.match = ANY
            call.kind = "create"
        data = content(value, size)
        made = storage.write(key, data, {"value": value, "size": size}, **conditions)
        if await self.attempt(call, made) is not None:
            self.log.end(call, "ok")

    async def stream(self, storage, key, size):
        value = self.value()
        data = content(value, size)

        async def pieces():
            for start in range(0, len(data), 100):
                yield data[start : start + 100]

        call = self.log.begin("write", key, value)
        if await self.attempt(call, storage.write(key, pieces(), {"value": value, "size": size})) is not None:
            self.log.end(call, "ok")

    async def create(self, storage, key, size):
        await self.write(storage, key, size, if_absent=True)

    async def replace(self, storage, key, size):
        found = await self.read(storage, key, size)
        if found is not None:
            await self.write(storage, key, size, match=is_whole(found), if_match=found.info.etag)

    async def read(self, storage, key, _size):
        call = self.log.begin("read", key)
        found = await self.attempt(call, storage.get(key))
        if found is not None:
            self.log.end(call, "ok", is_whole(found))
        return found

    async def download(self, storage, key, _size):
        pieces = []

        async def collect():
            pieces.extend([piece async for piece in storage.stream(key, chunk_size=64)])
            return True

        call = self.log.begin("read", key)
        if await self.attempt(call, collect()):
            data = b"".join(pieces)
            value = data.partition(b":")[0].decode()
            assert data.strip(b"x") in (f"{value}:".encode(), data), "a stream of two versions"
            self.log.end(call, "ok", value)

    async def delete(self, storage, key, _size):
        call = self.log.begin("write", key, None)
        if await self.attempt(call, done(storage.delete(key))):
            self.log.end(call, "ok")

    async def copy(self, storage, key, _size):
        read, write = self.log.begin("read", key), self.log.begin("write", COPIED, ANY)
        info = await self.attempt(read, storage.copy(key, COPIED))
        if info is not None:
            write.value = info.metadata["value"]
            self.log.end(read, "ok", info.metadata["value"])
            self.log.end(write, "ok")
        elif read not in self.log.calls or read.outcome is not None:
            self.log.drop(write)

    async def list(self, storage, _key, _size):
        calls = [self.log.begin("listed", key) for key in KEYS]
        listing = self.log.begin("listing", "")
        keys = await self.attempt(listing, gathered(storage.list()))
        if listing in self.log.calls:
            self.log.drop(listing)
        for call in calls:
            if keys is None:
                self.log.drop(call)
            else:
                self.log.end(call, "ok", call.key in keys)
        if keys is not None and (keys != sorted(keys) or not set(keys) <= {*KEYS, COPIED}):
            self.log.wrong.append(f"listed {keys}")

    async def tidy(self, storage, _key, _size):
        if not hasattr(storage, "remove_leftovers"):
            return
        call = self.log.begin("tidy", "")
        await self.attempt(call, storage.remove_leftovers(older_than=3600))
        if call in self.log.calls:
            self.log.drop(call)


async def done(awaitable):
    await awaitable
    return True


async def gathered(keys):
    return [key async for key in keys]


ACTIONS = ("write", "write", "stream", "create", "replace", "read", "download", "delete", "copy", "list", "tidy")


def planned(rng):
    return [(rng.choice(ACTIONS), rng.choice(KEYS), rng.choice(SIZES)) for _ in range(CALLS)]


def scenario(kind):
    async def run(sim):
        log = Log()
        rng = random.Random(random.getrandbits(64))  # from the run's seed
        for number in range(CLIENTS):
            client = Client(f"client-{number}", log, kind, planned(rng))
            sim.start(client.main, name=client.name)
        await sim.drain()
        await final_look(log, sim.storage(kind))
        assert not log.wrong, log.wrong
        sim.check.storage(kind)
        for key in (*KEYS, COPIED):
            calls = [call for call in log.calls if call.key == key]
            assert is_linearizable(calls), [key, *calls]

    return run


async def final_look(log, storage):
    client = Client("test", log, "", [])
    await client.list(storage, "", 0)
    for key in (*KEYS, COPIED):
        await client.read(storage, key, 0)


def is_linearizable(calls):
    """Whether there is one order of ``calls``, each between its beginning and its end, in which a register does what was seen."""
    calls = [call for call in calls if not (call.outcome is None and call.kind in ("read", "listed"))]
    everything = frozenset(range(len(calls)))

    @cache
    def fits(left, state):
        if all(calls[index].outcome is None for index in left):
            return True
        first_end = min(calls[index].completed for index in left)
        for index in left:
            call = calls[index]
            if call.invoked > first_end:
                continue
            for after in outcomes(call, state):
                if fits(left - {index}, after):
                    return True
        return False

    return fits(everything, None)


def outcomes(call, state):
    """The states that a register in ``state`` may be in after ``call``; none where it could not have gone so."""
    if call.kind == "read":
        return [call.value] if state in (call.value, ANY) else []
    if call.kind == "listed":
        return [state] if state == ANY or (state is not None) == call.value else []
    holds = {"create": state in (None, ANY), "write": call.match is None or state in (call.match, ANY)}[call.kind]
    if call.outcome == "refused":
        return [] if holds and state != ANY else [state]
    if call.outcome is None:  # it happened, or never will
        return [call.value, state] if holds else [state]
    return [call.value] if holds else []


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
