"""Telling failures apart, and what of a traceback is shown."""

from __future__ import annotations

import json
import traceback
from types import SimpleNamespace

import pytest
from hypothesis.errors import StopTest, UnsatisfiedAssumption

from factflow_infra_testing.search.failures import is_control, signature_of, trimmed
from factflow_infra_testing.search.faults import Faults


def caught(function):
    try:
        function()
    except BaseException as error:  # noqa: BLE001 - any failure is data here
        return error
    raise AssertionError("nothing was raised")


def one(text="x"):
    raise ValueError(text)


def other():
    raise ValueError("x")


def through_the_kit():
    Faults.only("nothing-such")


def through_the_library():
    json.loads("{")


def test_type_and_line_tell_failures_apart_and_the_message_does_not():
    assert signature_of(caught(one)) == signature_of(caught(lambda: one("y")))
    assert signature_of(caught(one)) != signature_of(caught(other))
    assert signature_of(caught(one)).where.startswith(__file__)


def test_what_fails_in_the_kit_or_a_library_is_placed_at_the_users_line():
    for function in (through_the_kit, through_the_library):
        assert signature_of(caught(function)).where == f"{__file__}:{function.__code__.co_firstlineno + 1}"


def test_a_check_is_told_by_its_name():
    error = AssertionError("m")
    error.verdict = SimpleNamespace(checker="no loss")
    assert signature_of(error).kind == "AssertionError[no loss]"


def test_without_a_traceback_there_is_the_type():
    assert str(signature_of(TimeoutError())) == "TimeoutError"


def test_groups_are_told_by_their_members():
    groups = [
        ExceptionGroup("g", [caught(one), caught(other)]),
        ExceptionGroup("h", [caught(other), caught(one), caught(one)]),
        ExceptionGroup("g", [caught(one)]),
    ]
    signatures = [signature_of(group) for group in groups]
    assert signatures[0] == signatures[1] != signatures[2]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(), StopTest(1), UnsatisfiedAssumption(), pytest.skip.Exception("s")]
)
def test_what_steers_a_runner_is_no_failure(error):
    assert is_control(error)


@pytest.mark.parametrize(
    "error", [AssertionError(), TimeoutError(), pytest.fail.Exception("f"), ExceptionGroup("g", [ValueError()])]
)
def test_everything_else_is(error):
    assert not is_control(error)


def test_only_the_users_frames_are_shown_in_causes_too():
    def chained():
        try:
            through_the_kit()
        except ValueError as error:
            raise LookupError from error

    error = trimmed(caught(chained))
    files = {frame.filename for part in (error, error.__cause__) for frame in traceback.extract_tb(part.__traceback__)}
    assert files == {__file__}


def test_a_traceback_without_users_frames_is_left_whole():
    error = ValueError()
    assert trimmed(error).__traceback__ is None
