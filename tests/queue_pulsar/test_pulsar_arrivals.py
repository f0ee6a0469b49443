"""Answers that the client's threads bring for an event loop: one is taken at once, the first of many waits for the rest."""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING, Any, cast

from factflow_infra.queue.pulsar import client
from factflow_infra.queue.pulsar.client import GATHER_SECONDS, MANY, Answer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Loop:
    """What of an event loop is asked, kept until the test carries it out."""

    def __init__(self) -> None:
        self.woken: list[Callable[[], None]] = []
        self.later: list[tuple[float, Callable[[], None]]] = []

    def call_soon_threadsafe(self, callback: Callable[[], None]) -> None:
        self.woken.append(callback)

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        self.later.append((delay, callback))

    def is_closed(self) -> bool:
        return False


class OneOfMany(Answer):
    expected = MANY

    def outstanding(self) -> int:
        return self.expected


class OneOfFew(OneOfMany):
    expected = MANY - 1


def brought(loop: Loop, kind: type[Answer], count: int) -> list[Answer]:
    answers = [kind(cast("asyncio.AbstractEventLoop", loop)) for _ in range(count)]
    bring(*answers)
    return answers


def bring(*answers: Answer) -> None:
    def in_a_thread_of_the_client() -> None:
        for answer in answers:
            cast("Any", answer)(0)

    thread = Thread(target=in_a_thread_of_the_client)
    thread.start()
    thread.join()


def test_few_answers_are_taken_when_the_loop_is_woken_which_is_once() -> None:
    for kind in (Answer, OneOfFew):
        loop = Loop()
        answers = brought(loop, kind, 3)
        assert len(loop.woken) == 1
        loop.woken[0]()
        assert all(answer.has_come for answer in answers)
        assert not loop.later


def test_the_first_of_many_answers_waits_for_those_that_come_meanwhile() -> None:
    loop = Loop()
    answers = brought(loop, OneOfMany, 2)
    loop.woken[0]()
    assert not any(answer.has_come for answer in answers)
    answers += brought(loop, OneOfMany, 2)
    assert len(loop.woken) == 1
    ((delay, take),) = loop.later
    assert delay == GATHER_SECONDS
    take()
    assert all(answer.has_come for answer in answers)


def test_after_a_wait_the_next_answer_wakes_the_loop_again() -> None:
    loop = Loop()
    brought(loop, OneOfMany, 1)
    loop.woken[0]()
    loop.later[0][1]()
    answers = brought(loop, Answer, 1)
    assert len(loop.woken) == 2
    loop.woken[1]()
    assert answers[0].has_come


def test_each_loop_has_arrivals_of_its_own() -> None:
    first, second = Loop(), Loop()
    brought(first, Answer, 1)
    brought(second, Answer, 1)
    assert len(first.woken) == len(second.woken) == 1
    for loop in (first, second):
        client._arrivals.pop(cast("asyncio.AbstractEventLoop", loop))
