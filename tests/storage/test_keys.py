from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factflow_infra.errors import InfraError, InvalidKeyError
from factflow_infra.storage.keys import is_reserved, shown, validate_key, validate_position, validate_prefix

GOOD = [
    "a", "a/b", "a.b", "..a", "a..", "...", ".hidden", "a b", "ключ/鍵", "a\\b", "tab\tand\nnewline", "a:b", "%2F", "~",
    "x" * 1024, "meta.json", "a.meta.json.bak", "factflow", "\x7f", "é" * 512,
]  # fmt: skip

BAD = [
    ("", "empty"),
    ("/a", "empty segment"),
    ("a/", "empty segment"),
    ("a//b", "empty segment"),
    (".", "'.' is not allowed"),
    ("..", "'..' is not allowed"),
    ("a/../b", "'..' is not allowed"),
    ("a/./b", "'.' is not allowed"),
    ("a/..", "'..' is not allowed"),
    ("a\0b", "NUL"),
    ("a\ud800", "lone surrogate at character 1"),
    ("x" * 1025, "1025 UTF-8 bytes, at most 1024"),
    ("é" * 513, "1026 UTF-8 bytes"),
    ("a.meta.json", "reserved"),
    (".meta.json", "reserved"),
    ("a.meta.json/b", "reserved"),
    (".factflow", "reserved"),
    (".factflow/lock-00", "reserved"),
    ("a/.factflow-1.tmp", "reserved"),
    (None, "must be a str, not NoneType"),
    (7, "must be a str, not int"),
    (b"a", "must be a str, not bytes"),
]


@pytest.mark.parametrize("key", GOOD)
def test_a_good_key_comes_back(key):
    assert validate_key(key) is key


@pytest.mark.parametrize(("key", "reason"), BAD)
def test_a_bad_key_is_named_with_the_reason(key, reason):
    with pytest.raises(InvalidKeyError) as caught:
        validate_key(key)
    assert reason in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, InfraError)
    if key:
        assert shown(key) in str(caught.value)


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b", "..", "a/..", ".", ".factflow", "x" * 1024])
def test_what_some_key_could_begin_with_is_a_prefix(prefix):
    assert validate_prefix(prefix) == prefix


@pytest.mark.parametrize("prefix", ["/", "a//", "../", "a/../b", "./a", "a\0", "\udfff", "x" * 1025, None, 3])
def test_what_no_key_could_begin_with_is_refused(prefix):
    with pytest.raises(InvalidKeyError):
        validate_prefix(prefix)


def test_a_position_is_any_text():
    assert validate_position(None) is None
    assert validate_position("/" * 2000) == "/" * 2000
    for bad in ("\ud800", 1, "\0"):
        with pytest.raises(InvalidKeyError):
            validate_position(bad)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=4).map("/".join))
def test_every_beginning_of_a_valid_key_is_a_valid_prefix(key):
    try:
        validate_key(key)
    except InvalidKeyError:
        return
    for length in range(len(key) + 1):
        validate_prefix(key[:length])


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5)))
def test_python_sorts_text_in_utf8_byte_order(keys):
    assert sorted(keys) == sorted(keys, key=str.encode)


def test_a_long_value_is_cut_in_messages():
    assert len(shown("x" * 1000)) == 120


def test_reserved_names():
    assert is_reserved("x.meta.json")
    assert is_reserved(".factflow-1.tmp")
    assert not is_reserved("meta.json")
