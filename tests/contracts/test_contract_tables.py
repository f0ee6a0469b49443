"""What the suites cover, and that they skip, fail and explain as they say."""

import asyncio
import inspect

import pytest

from factflow_infra_testing.contracts import (
    ALL_QUEUE_CAPABILITIES,
    QUEUE_BEHAVIOURS,
    STORAGE_BEHAVIOURS,
    VIRTUAL_PACE,
    PlainQueueBackend,
    PlainStorageBackend,
    QueueCapability,
    StorageCapability,
    check_queue,
    exercise_queue,
)
from factflow_infra_testing.contracts.behaviours import Table

pytest_plugins = ["pytester"]

WATERMILL = {
    "TestPublishSubscribe",
    "TestConcurrentSubscribe",
    "TestConcurrentSubscribeMultipleTopics",
    "TestResendOnError",
    "TestNoAck",
    "TestContinueAfterSubscribeClose",
    "TestConcurrentClose",
    "TestContinueAfterErrors",
    "TestPublishSubscribeInOrder",
    "TestPublisherClose",
    "TestTopic",
    "TestMessageCtx",
    "TestSubscribeCtx",
    "TestNewSubscriberReceivesOldMessages",
    "TestReconnect",
    "TestConsumerGroups",
}
"""The 16 universal tests of Watermill's ``pubsub/tests``."""

GO_CDK_PUBSUB = {
    "TestSendReceive",
    "TestSendReceiveTwo",
    "TestErrorOnSendToClosedTopic",
    "TestErrorOnReceiveFromClosedSubscription",
    "TestCancelSendReceive",
}
"""Go CDK's ``pubsub/drivertest``, but for ``TestAs`` (escape hatches to a driver's own types, of which there are none here)
and the two tests of topics and subscriptions that do not exist (here they are made on first use)."""

GO_CDK_BLOB = {
    "TestList",
    "TestListWeirdKeys",
    "TestListDelimiters",
    "TestRead",
    "TestAttributes",
    "TestWrite",
    "TestCanceledWrite",
    "TestConcurrentWriteAndRead",
    "TestMetadata",
    "TestMD5",
    "TestCopy",
    "TestDelete",
    "TestKeys",
}
"""Go CDK's ``blob/drivertest``, but for ``TestAs`` and ``TestSignedURL`` (``presign`` is S3's own, not the protocol's)."""


def likes(table, suite):
    return {name.removeprefix(f"{suite}/") for row in table for name in row.like if name.startswith(f"{suite}/")}


def test_other_suites_are_covered():
    assert likes(QUEUE_BEHAVIOURS, "watermill") == WATERMILL
    assert likes(QUEUE_BEHAVIOURS, "gocdk") == GO_CDK_PUBSUB
    assert likes(STORAGE_BEHAVIOURS, "gocdk") == GO_CDK_BLOB


def test_every_promise_has_rows():
    assert {row.promise for row in QUEUE_BEHAVIOURS} == {f"Q{n}" for n in range(1, 12)}
    assert {row.promise for row in STORAGE_BEHAVIOURS} == {f"S{n}" for n in range(1, 11)}


def test_every_capability_is_needed_by_some_row_or_sharpens_one():
    sharpening = {
        QueueCapability.VIRTUAL_TIME,
        QueueCapability.DELIVERY_COUNT,
        QueueCapability.REDELIVERED_FLAG,
        StorageCapability.LONG_SEGMENTS,
    }
    sharpening |= {StorageCapability.RESIDUE, StorageCapability.CONDITIONAL_STREAM}
    for table, capabilities in ((QUEUE_BEHAVIOURS, QueueCapability), (STORAGE_BEHAVIOURS, StorageCapability)):
        needed = {need for row in table for need in row.needs}
        assert set(capabilities) - needed <= sharpening


def test_rows_are_plain_coroutine_functions_that_say_what_they_promise():
    for table in (QUEUE_BEHAVIOURS, STORAGE_BEHAVIOURS):
        for row in table:
            assert inspect.iscoroutinefunction(row.check)
            assert row.id == f"{row.promise.lower()}-{row.check.__name__.replace('_', '-')}"
            assert len(row.statement) > 20


def test_a_row_needs_a_docstring_and_a_name_of_its_own():
    table = Table()

    async def check(env):
        """Promise something."""

    table.add("Q1")(check)
    with pytest.raises(ValueError, match="two behaviours are called 'q1-check'"):
        table.add("Q1")(check)

    async def silent(env):
        pass

    with pytest.raises(ValueError, match="has no docstring"):
        table.add("Q1")(silent)


class LyingHarness:
    """Declares everything, and has a backend that can do nothing."""

    capabilities = ALL_QUEUE_CAPABILITIES

    def run(self, check):
        async def main():
            await exercise_queue(check, PlainQueueBackend(), capabilities=self.capabilities, pace=VIRTUAL_PACE)

        asyncio.run(main())


def test_a_declared_capability_that_is_missing_fails():
    with pytest.raises(NotImplementedError, match="must implement provider") as caught:
        check_queue(LyingHarness(), QUEUE_BEHAVIOURS["q1-publish-answers-accepted"])
    assert caught.value.__notes__[-1].startswith("q1-publish-answers-accepted promises: ``publish`` returns")


def test_plain_backends_name_what_is_missing():
    async def ask():
        for backend in (PlainQueueBackend(), PlainStorageBackend()):
            for name, method in inspect.getmembers(backend, inspect.iscoroutinefunction):
                arguments = [None] * len(inspect.signature(method).parameters)
                if name == "close":
                    await method()
                    continue
                with pytest.raises(NotImplementedError, match=f"{name}\\("):
                    await method(*arguments)

    asyncio.run(ask())


def test_the_suite_runs_in_a_users_project(pytester):
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makepyfile(
        """
        import pytest
        from factflow_infra_testing.contracts import QueueCapability, QueueContract
        from factflow_infra_testing.contracts.harnesses import SimulatedQueueHarness

        class TestMine(QueueContract):
            @pytest.fixture
            def harness(self):
                harness = SimulatedQueueHarness()
                harness.capabilities -= {QueueCapability.KILL}
                return harness
        """
    )
    result = pytester.runpytest_inprocess("-q", "-rs", "-p", "no:randomly", "-p", "no:cacheprovider", "-k", "q3 or q4")
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] > 8
    assert outcomes["skipped"] == 2
    result.stdout.fnmatch_lines(["*q3-waiting-retry-survives-its-consumer needs kill*"])
