from __future__ import annotations

import enum
import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factflow_infra.errors import InvalidObjectError
from factflow_infra.storage.metadata import (
    Record,
    canonical_json,
    utc_from_ns,
    validate_conditions,
    validate_content_type,
    validate_metadata,
    validate_range,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)


class Stage(enum.StrEnum):
    PARSE = "parse"


@given(st.dictionaries(TEXT, JSON, max_size=4))
def test_metadata_comes_back_exactly(metadata):
    plain = validate_metadata(metadata)
    assert json.loads(canonical_json(plain)) == metadata == plain


def test_metadata_is_copied_deeply():
    inner = {"a": [1]}
    plain = validate_metadata({"inner": inner})
    inner["a"].append(2)
    assert plain == {"inner": {"a": [1]}}


def test_other_mappings_and_enumerations_become_plain():
    plain = validate_metadata(MappingProxyType({"stage": Stage.PARSE}))
    assert plain == {"stage": "parse"}
    assert type(plain["stage"]) is str
    assert validate_metadata(None) == {}


def cyclic():
    value: dict[str, object] = {}
    value["self"] = value
    return value


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ([], "must be a JSON object (a dict), not list"),
        ("x", "not str"),
        ({1: "x"}, "metadata has the key 1: JSON keys are str"),
        ({"a": {None: 1}}, "metadata['a'] has the key None"),
        ({"a": math.nan}, "metadata['a'] is nan"),
        ({"a": [0, -math.inf]}, "metadata['a'][1] is -inf"),
        ({"a": (1, 2)}, "a tuple"),
        ({"a": {1}}, "a set"),
        ({"a": b"x"}, "a bytes"),
        ({"a": datetime(2026, 1, 1, tzinfo=UTC)}, "a datetime"),
        ({"a": "\ud800"}, "lone surrogate"),
        ({"\udfff": 1}, "lone surrogate"),
        (cyclic(), "contains itself"),
        ({"a": "x" * (1 << 20)}, "at most 1048576"),
        ({"a": 10**5000}, "cannot be written as JSON"),
    ],
)
def test_what_is_no_json_is_refused_with_its_place(metadata, reason):
    with pytest.raises(InvalidObjectError) as caught:
        validate_metadata(metadata)
    assert reason in str(caught.value)


def test_equal_metadata_have_equal_bytes():
    assert canonical_json({"b": 1, "a": "é"}) == canonical_json({"a": "é", "b": 1}) == '{"a":"é","b":1}'.encode()


@pytest.mark.parametrize("good", ["text/plain", "text/plain; charset=utf-8", "application/vnd.a+json"])
def test_content_types(good):
    assert validate_content_type(good) == good


@pytest.mark.parametrize("bad", ["", "text", " a/b", "a/b\r\nX: y", "ä/b", "a/" + "b" * 255, 7, b"a/b"])
def test_bad_content_types(bad):
    with pytest.raises(InvalidObjectError):
        validate_content_type(bad)


def test_the_default_content_type():
    assert validate_content_type(None) == "application/octet-stream"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((-1, None, 1), "start must be at least 0, not -1"),
        ((0, -1, 1), "end must be at least 0"),
        ((0, None, 0), "chunk_size must be at least 1"),
        ((2, 1, 1), "start 2, end 1"),
        ((1.0, None, 1), "start must be a whole number"),
        ((True, None, 1), "start must be a whole number"),
        ((None, None, 1), "start must be a whole number"),
        ((0, None, "1"), "chunk_size must be a whole number"),
    ],
)
def test_bad_ranges(arguments, reason):
    with pytest.raises(InvalidObjectError) as caught:
        validate_range(*arguments)
    assert reason in str(caught.value)


def test_good_ranges():
    validate_range(0, None, 1)
    validate_range(5, 5, 10**9)


@pytest.mark.parametrize(("if_absent", "if_match"), [(True, "e"), (1, None), (False, ""), (False, 7)])
def test_bad_conditions(if_absent, if_match):
    with pytest.raises(InvalidObjectError):
        validate_conditions(if_absent=if_absent, if_match=if_match)


RECORD = Record(
    size=3,
    checksum="sha256:abc",
    content_type="a/b",
    created_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    modified_at=datetime(2026, 1, 2, tzinfo=UTC),
    metadata={"x": [1]},
    inode=7,
    mtime_ns=8,
)


def test_a_record_comes_back():
    assert Record.from_json(json.loads(canonical_json(RECORD.as_json()))) == RECORD
    assert RECORD.etag == "abc"
    assert RECORD.info("k").key == "k"


@pytest.mark.parametrize(
    "change",
    [
        {"size": "3"}, {"size": True}, {"checksum": 1}, {"created_at": "then"}, {"created_at": "2026-01-01T00:00:00"},
        {"metadata": []}, {"inode": None}, {"content_type": None}, {"modified_at": 5},
    ],
)  # fmt: skip
def test_a_damaged_record_is_refused(change):
    with pytest.raises(ValueError):
        Record.from_json({**RECORD.as_json(), **change})
    lacking = RECORD.as_json()
    del lacking[next(iter(change))]
    for bad in (lacking, [], None, "x"):
        with pytest.raises(ValueError):
            Record.from_json(bad)


def test_times_are_exact_to_the_microsecond():
    assert utc_from_ns(1_767_225_600_123_456_789) == datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)
    assert replace(RECORD, created_at=utc_from_ns(0)).created_at.tzinfo is UTC
