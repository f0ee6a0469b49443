"""What a queue behaviour is given: providers of one broker, unique names, faults on demand, patience."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from factflow_infra.errors import InfraError
from factflow_infra.queue.messages import DEAD_LETTER_HEADER_PREFIX, ErrorHandling
from factflow_infra_testing.contracts.queue.inbox import Inbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from factflow_infra.protocols import MessageHandler, MessageStatus, QueueMessage, QueueProtocol
    from factflow_infra_testing.contracts.pace import Pace
    from factflow_infra_testing.contracts.queue.capabilities import QueueCapability


class QueueBackend(Protocol):
    """One broker and its providers: what a harness implements. Only ``provider`` is needed by every behaviour; the rest
    belongs to the capability of the same name. ``PlainQueueBackend`` has all but ``provider``.
    """

    async def provider(self) -> QueueProtocol:
        """A new provider with a connection of its own: another instance of the service."""
        ...

    async def sever(self, provider: QueueProtocol) -> None: ...
    async def stall(self, provider: QueueProtocol) -> None: ...
    async def kill(self, provider: QueueProtocol) -> None: ...
    async def stop_broker(self) -> None: ...
    async def start_broker(self) -> None: ...

    async def lose_confirm(self, destination: str) -> None:
        """The next message published to ``destination`` is taken, its confirmation never arrives."""
        ...

    async def refuse(self, destination: str) -> None:
        """The next message published to ``destination`` is refused."""
        ...

    async def inject(self, destination: str) -> None:
        """Put a message into ``destination`` that the provider cannot decode."""
        ...

    async def close(self) -> None:
        """Release what the backend holds; the providers are stopped already."""
        ...


class PlainQueueBackend:
    """A backend without faults: derive from it, write ``provider``, and add what your harness can do."""

    async def provider(self) -> QueueProtocol:
        raise NotImplementedError("a queue backend must implement provider()")

    async def sever(self, provider: QueueProtocol) -> None:
        raise NotImplementedError("declared SEVER, but sever() is not implemented")

    async def stall(self, provider: QueueProtocol) -> None:
        raise NotImplementedError("declared STALL, but stall() is not implemented")

    async def kill(self, provider: QueueProtocol) -> None:
        raise NotImplementedError("declared KILL, but kill() is not implemented")

    async def stop_broker(self) -> None:
        raise NotImplementedError("declared RESTART, but stop_broker() is not implemented")

    async def start_broker(self) -> None:
        raise NotImplementedError("declared RESTART, but start_broker() is not implemented")

    async def lose_confirm(self, destination: str) -> None:
        raise NotImplementedError("declared LOSE_CONFIRM, but lose_confirm() is not implemented")

    async def refuse(self, destination: str) -> None:
        raise NotImplementedError("declared REFUSE, but refuse() is not implemented")

    async def inject(self, destination: str) -> None:
        raise NotImplementedError("declared INJECT, but inject() is not implemented")

    async def close(self) -> None:
        return


class QueueHarness(Protocol):
    """What a ``QueueContract`` needs: the capabilities, and a way to run a behaviour on a loop of the harness' choice."""

    @property
    def capabilities(self) -> frozenset[QueueCapability]: ...

    def run(self, check: Callable[[QueueEnvironment], Coroutine[Any, Any, None]]) -> None:
        """Run ``check`` to its end in a fresh environment; ``exercise_queue`` makes and closes it."""
        ...


class QueueEnvironment:
    """The world of one behaviour. All providers it hands out are stopped at the end."""

    def __init__(self, backend: QueueBackend, *, capabilities: frozenset[QueueCapability], pace: Pace) -> None:
        self.capabilities = capabilities
        self.pace = pace
        self._backend = backend
        self._providers: list[QueueProtocol] = []
        self._broker_stopped = False

    def has(self, capability: QueueCapability) -> bool:
        return capability in self.capabilities

    async def provider(self) -> QueueProtocol:
        provider = await self._backend.provider()
        self._providers.append(provider)
        return provider

    def name(self, stem: str = "orders") -> str:
        """A bare name that no other test uses: queues of a real broker outlive the test."""
        return f"{stem}-{uuid4().hex[:12]}"

    def seconds(self, nominal: float) -> float:
        return self.pace.seconds(nominal)

    @property
    def patience(self) -> float:
        return self.pace.patience

    def inbox(self, then: MessageHandler | MessageStatus | None = None) -> Inbox:
        """A handler that records what it gets and answers with ``then``."""
        return Inbox(then, patience=self.patience)

    def handling(
        self,
        *,
        max_retries: int | None = 3,
        retry_delay: float = 5.0,
        dead_letter_queue: str | None = None,
        max_deliveries: int | None = None,
    ) -> ErrorHandling:
        """``ErrorHandling`` with a delay of ``retry_delay`` nominal seconds."""
        return ErrorHandling(
            max_retries=max_retries,
            retry_delay_seconds=self.seconds(retry_delay),
            dead_letter_queue=dead_letter_queue,
            max_deliveries=max_deliveries,
        )

    # Faults

    async def sever(self, provider: QueueProtocol) -> None:
        await self._backend.sever(provider)

    async def stall(self, provider: QueueProtocol) -> None:
        await self._backend.stall(provider)

    async def kill(self, provider: QueueProtocol) -> None:
        self._providers.remove(provider)
        await self._backend.kill(provider)

    async def stop_broker(self) -> None:
        self._broker_stopped = True
        await self._backend.stop_broker()

    async def start_broker(self) -> None:
        await self._backend.start_broker()
        self._broker_stopped = False

    async def restart_broker(self) -> None:
        await self.stop_broker()
        await self.start_broker()

    async def lose_confirm(self, destination: str) -> None:
        await self._backend.lose_confirm(destination)

    async def refuse(self, destination: str) -> None:
        await self._backend.refuse(destination)

    async def inject(self, destination: str) -> None:
        await self._backend.inject(destination)

    # Waiting

    async def settle(self, nominal: float = 60.0) -> None:
        """Let time pass in which what must not happen would have happened."""
        await asyncio.sleep(self.seconds(nominal))

    async def eventually(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until ``holds()``, which nothing announces; fail with ``what`` when patience is over."""
        deadline = asyncio.get_running_loop().time() + self.patience
        while not holds():
            assert asyncio.get_running_loop().time() < deadline, f"{what} (waited {self.patience:g} s)"
            await asyncio.sleep(self.seconds(0.5))

    async def within_patience(self, call: Awaitable[Any], what: str) -> Any:
        """The result of ``call``; fails with ``what`` where it never ends."""
        try:
            async with asyncio.timeout(self.patience):
                return await call
        except TimeoutError:
            raise AssertionError(f"{what} (waited {self.patience:g} s)") from None

    async def publish_until_taken(self, provider: QueueProtocol, destination: str, message: QueueMessage) -> None:
        """Publish, and again after every error that says it may help: a service's loop across an outage."""
        deadline = asyncio.get_running_loop().time() + self.patience
        while True:
            try:
                await provider.publish(destination, message)
            except InfraError as error:
                if not error.retryable or asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(self.seconds(2))
            else:
                return

    # Looking

    async def take(self, destination: str, count: int, *, subscription: str | None = None) -> list[QueueMessage]:
        """The next ``count`` messages of ``destination``, acked, by a provider of their own."""
        provider, inbox = await self.provider(), self.inbox()
        await provider.subscribe(destination, inbox, subscription=subscription)
        messages = await inbox.until(count)
        await provider.stop()
        return messages

    async def left_in(self, destination: str, *, subscription: str | None = None) -> list[QueueMessage]:
        """All that is still in ``destination`` or comes back to it within a settling time, acked."""
        provider, inbox = await self.provider(), self.inbox()
        await provider.subscribe(destination, inbox, subscription=subscription)
        await self.settle()
        await provider.stop()
        return inbox.messages

    async def dead_letters(self, queue: str, count: int = 1) -> list[QueueMessage]:
        """The next ``count`` messages of the dead-letter queue; fails on one that does not say why it is there."""
        letters = await self.take(queue, count)
        for letter in letters:
            assert f"{DEAD_LETTER_HEADER_PREFIX}reason" in letter.headers, f"no reason on dead letter {letter!r}"
        return letters

    async def close(self) -> None:
        """Stop what is left, within bounds, and close the backend whatever becomes of it."""
        try:
            if self._broker_stopped:
                await self.start_broker()
            stops = (provider.stop(timeout=self.seconds(1)) for provider in self._providers)
            await self.within_patience(asyncio.gather(*stops), "stop() of a provider never returned")
        finally:
            await self._backend.close()


async def exercise_queue(
    check: Callable[[QueueEnvironment], Coroutine[Any, Any, None]],
    backend: QueueBackend,
    *,
    capabilities: frozenset[QueueCapability],
    pace: Pace,
) -> None:
    """Run ``check`` in a fresh environment over ``backend``, and close it: what a harness' ``run`` runs on its loop."""
    env = QueueEnvironment(backend, capabilities=capabilities, pace=pace)
    try:
        await check(env)
    except BaseException as error:
        try:
            await env.close()
        except Exception as closing:  # noqa: BLE001 - told as a note: the first error is the one to read
            error.add_note(f"and then closing the environment failed: {closing!r}")
        raise
    await env.close()
