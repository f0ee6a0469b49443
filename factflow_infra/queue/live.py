"""What every live subscription is, whoever handles its messages: its names, its way to the broker, settling, and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from factflow_infra.queue.checks import check_grace
from factflow_infra.queue.closing import Closer
from factflow_infra.queue.settling import deliveries
from factflow_infra.queue.timestamps import utc_now

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine
    from types import TracebackType
    from typing import Self

    from factflow_infra.queue.intake import Intake, Item
    from factflow_infra.queue.messages import SubscriptionStatus
    from factflow_infra.queue.options import EngineOptions
    from factflow_infra.queue.settler import Settler
    from factflow_infra.queue.settling import Decision, Rules
    from factflow_infra.queue.tasks import Tasks


class LiveSubscription:
    """The common part of ``HandlerSubscription`` and ``BatchSubscription``.

    They say what still runs (``_running``), how to take no more (``_stop_taking``) and what else their end needs (``_end``).
    """

    def __init__(
        self, *, name: str, rules: Rules, options: EngineOptions, tasks: Tasks, on_closed: Callable[[Any], None]
    ) -> None:
        self._name = name
        self._destination = rules.source.destination.text
        self._rules = rules
        self._tasks = tasks
        self._intake: Intake
        self._settler: Settler
        self._settling: dict[asyncio.Task[Any], None] = {}
        self._on_closed = on_closed
        self.last_progress: float | None = None
        self.closer = Closer(
            tasks,
            options.cancel_grace,
            running=self._running,
            stop_taking=self._stop_taking,
            end=self._end,
        )

    def attach(self, intake: Intake, settler: Settler) -> None:
        """Give it what takes in and what settles; they need to know it first."""
        self._intake = intake
        self._settler = settler

    @property
    def intake(self) -> Intake:
        return self._intake

    @property
    def destination(self) -> str:
        return self._destination

    @property
    def name(self) -> str:
        return self._name

    @property
    def status(self) -> SubscriptionStatus:
        return self._intake.status

    # Settling

    def _unhandled(self, item: Item) -> Decision | None:
        """What becomes of a message that is not to be handled: undecodable, or delivered too often. ``None``: handle it."""
        delivery = item.delivery
        if delivery.undecodable is None and self._rules.errors.max_deliveries is None:
            return None
        return self._rules.before(
            delivery.envelope,
            redelivered=delivery.redelivered,
            counted=delivery.delivery_count,
            undecodable=delivery.undecodable,
            now=utc_now(),
        )

    def _decide(self, item: Item, outcome: object) -> Decision:
        """What becomes of a message whose handling came to ``outcome``: a verdict, or what it raised."""
        return self._rules.after(item.delivery.envelope, _count(item), outcome, utc_now())

    def _settle_in_background(
        self, work: Coroutine[Any, Any, None], then: Callable[[], None] = lambda: None
    ) -> asyncio.Task[None]:
        """Run ``work``; closing waits for it. ``then`` is called when it has ended."""
        task = self._tasks.start(work, f"factflow-queue-settle {self._name}")
        self._settling[task] = None

        def ended(task: asyncio.Task[None]) -> None:
            self._settling.pop(task, None)
            then()

        task.add_done_callback(ended)
        return task

    # Closing

    async def close(self, *, timeout: float | None = 30.0) -> None:  # a grace for what runs, not a bound on the call
        """Take no more, and let handling and settling that have begun finish for ``timeout`` seconds, then cancel them.

        What is unsettled then goes back to the broker. Asked for from within a handler of this subscription, it returns when
        everything else has ended; the rest follows once that handler has returned and its verdict is applied.
        """
        check_grace(timeout)
        await self.closer.close(timeout)

    def _running(self) -> list[asyncio.Task[Any]]:
        return list(self._settling)

    def _stop_taking(self) -> Coroutine[Any, Any, None]:
        return self._intake.stop_taking()

    async def _end(self) -> None:
        self._on_closed(self)
        await self._intake.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _count(item: Item) -> int:
    delivery = item.delivery
    return deliveries(delivery.envelope, redelivered=delivery.redelivered, counted=delivery.delivery_count)
