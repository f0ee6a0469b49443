"""What a storage behaviour is given: providers over one store, keys of its own, faults on demand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from factflow_infra.protocols import StorageProtocol
    from factflow_infra_testing.contracts.pace import Pace
    from factflow_infra_testing.contracts.storage.capabilities import StorageCapability


class StorageBackend(Protocol):
    """One store and its providers: what a harness implements. Only ``provider`` is needed by every behaviour; the rest
    belongs to the capability of the same name. ``PlainStorageBackend`` has all but ``provider``.
    """

    async def provider(self) -> StorageProtocol:
        """A new provider over the same store: another process."""
        ...

    async def corrupt(self, key: str) -> None: ...
    async def corrupt_answer(self) -> None: ...
    async def lose_answer(self) -> None: ...

    async def residue(self) -> list[str]:
        """What is in the store beside finished objects and their sidecars, by name."""
        ...

    async def symlink(self, key: str) -> bytes:
        """Put a link at ``key`` to the file ``secret`` in a folder outside the root, and return that file's content."""
        ...

    async def symlink_folder(self, key: str) -> None:
        """Put a link at ``key`` to that folder."""
        ...

    async def outside(self) -> dict[str, bytes]:
        """What is in that folder now: each file's name and content."""
        ...

    async def deny(self) -> None:
        """Refuse every write from now on, until ``allow``."""
        ...

    async def allow(self) -> None: ...

    async def fill(self) -> None:
        """Have every write meet a full disk, until ``allow``."""
        ...

    async def throttle(self) -> None:
        """Have every request told to slow down, until ``allow``."""
        ...

    async def rootless(self) -> StorageProtocol: ...
    async def unreachable(self) -> StorageProtocol: ...
    async def unauthenticated(self) -> StorageProtocol: ...
    async def close(self) -> None: ...


class PlainStorageBackend:
    """A backend without faults: derive from it, write ``provider``, and add what your harness can do."""

    async def provider(self) -> StorageProtocol:
        raise NotImplementedError("a storage backend must implement provider()")

    async def corrupt(self, key: str) -> None:
        raise NotImplementedError(f"declared CORRUPT, but corrupt({key!r}) is not implemented")

    async def corrupt_answer(self) -> None:
        raise NotImplementedError("declared CORRUPT_ANSWER, but corrupt_answer() is not implemented")

    async def lose_answer(self) -> None:
        raise NotImplementedError("declared LOSE_ANSWER, but lose_answer() is not implemented")

    async def residue(self) -> list[str]:
        raise NotImplementedError("declared RESIDUE, but residue() is not implemented")

    async def symlink(self, key: str) -> bytes:
        raise NotImplementedError(f"declared SYMLINK, but symlink({key!r}) is not implemented")

    async def symlink_folder(self, key: str) -> None:
        raise NotImplementedError(f"declared SYMLINK, but symlink_folder({key!r}) is not implemented")

    async def outside(self) -> dict[str, bytes]:
        raise NotImplementedError("declared SYMLINK, but outside() is not implemented")

    async def deny(self) -> None:
        raise NotImplementedError("declared DENY, but deny() is not implemented")

    async def allow(self) -> None:
        raise NotImplementedError("declared DENY, FULL or THROTTLE, but allow() is not implemented")

    async def fill(self) -> None:
        raise NotImplementedError("declared FULL, but fill() is not implemented")

    async def throttle(self) -> None:
        raise NotImplementedError("declared THROTTLE, but throttle() is not implemented")

    async def rootless(self) -> StorageProtocol:
        raise NotImplementedError("declared MISSING_ROOT, but rootless() is not implemented")

    async def unreachable(self) -> StorageProtocol:
        raise NotImplementedError("declared UNREACHABLE, but unreachable() is not implemented")

    async def unauthenticated(self) -> StorageProtocol:
        raise NotImplementedError("declared CREDENTIALS, but unauthenticated() is not implemented")

    async def close(self) -> None:
        return


class StorageHarness(Protocol):
    """What a ``StorageContract`` needs: the capabilities, and a way to run a behaviour on a loop of the harness' choice."""

    @property
    def capabilities(self) -> frozenset[StorageCapability]: ...

    def run(self, check: Callable[[StorageEnvironment], Coroutine[Any, Any, None]]) -> None:
        """Run ``check`` to its end in a fresh environment; ``exercise_storage`` makes and closes it."""
        ...


class StorageEnvironment:
    """The world of one behaviour. All providers it hands out are closed at the end."""

    def __init__(self, backend: StorageBackend, *, capabilities: frozenset[StorageCapability], pace: Pace) -> None:
        self.capabilities = capabilities
        self.pace = pace
        self.faults = backend
        self.prefix = f"c{uuid4().hex[:12]}/"
        self._providers: list[StorageProtocol] = []

    def has(self, capability: StorageCapability) -> bool:
        return capability in self.capabilities

    async def provider(self) -> StorageProtocol:
        return self.owned(await self.faults.provider())

    def owned(self, provider: StorageProtocol) -> StorageProtocol:
        """``provider``, to be closed at the end too."""
        self._providers.append(provider)
        return provider

    def key(self, name: str) -> str:
        """A key below a prefix that no other test uses: buckets outlive tests."""
        return self.prefix + name

    async def keys(self, provider: StorageProtocol, prefix: str = "") -> list[str]:
        """What ``list`` gives below this test's prefix, without it."""
        return [key.removeprefix(self.prefix) async for key in provider.list(self.prefix + prefix)]

    async def within_patience(self, call: Awaitable[Any], what: str) -> Any:
        """The result of ``call``; fails with ``what`` where it never ends."""
        try:
            async with asyncio.timeout(self.pace.patience):
                return await call
        except TimeoutError:
            raise AssertionError(f"{what} (waited {self.pace.patience:g} s)") from None

    async def close(self) -> None:
        """Close every provider, within bounds, and the backend whatever becomes of them."""
        try:
            closes = (provider.close() for provider in self._providers)
            await self.within_patience(asyncio.gather(*closes), "close() of a provider never returned")
        finally:
            await self.faults.close()


async def exercise_storage(
    check: Callable[[StorageEnvironment], Coroutine[Any, Any, None]],
    backend: StorageBackend,
    *,
    capabilities: frozenset[StorageCapability],
    pace: Pace,
) -> None:
    """Run ``check`` in a fresh environment over ``backend``, and close it: what a harness' ``run`` runs on its loop."""
    env = StorageEnvironment(backend, capabilities=capabilities, pace=pace)
    try:
        await check(env)
    except BaseException as error:
        try:
            await env.close()
        except Exception as closing:  # noqa: BLE001 - told as a note: the first error is the one to read
            error.add_note(f"and then closing the environment failed: {closing!r}")
        raise
    await env.close()


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    """``parts`` as a stream that gives way between them."""
    for part in parts:
        await asyncio.sleep(0)
        yield part


async def collected(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([part async for part in stream])
