"""``StorageSettings``: the environment, what is refused, and that no secret is shown."""

from __future__ import annotations

import os
import traceback

import pytest

from factflow_infra.errors import SettingsError
from factflow_infra.storage.settings import StorageSettings

SECRETS = {"access_key": "s3cret-a", "secret_key": "s3cret-b", "session_token": "s3cret-c"}


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in list(os.environ):
        if name.startswith("FACTFLOW_STORAGE_"):
            monkeypatch.delenv(name)


def test_the_environment_is_read_and_arguments_come_first(monkeypatch):
    monkeypatch.setenv("FACTFLOW_STORAGE_URI", "s3://bucket/prefix")
    monkeypatch.setenv("FACTFLOW_STORAGE_MAX_CONCURRENCY", "7")
    monkeypatch.setenv("FACTFLOW_STORAGE_SECRET_KEY", "s3cret")
    monkeypatch.setenv("FACTFLOW_STORAGE_REGION", "")
    settings = StorageSettings(max_attempts=2)
    assert (settings.uri, settings.max_concurrency, settings.max_attempts) == ("s3://bucket/prefix", 7, 2)
    assert settings.secret_key is not None
    assert settings.secret_key.get_secret_value() == "s3cret"
    assert settings.region is None
    assert StorageSettings(max_concurrency=3).max_concurrency == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "uri is not set: pass uri=... or set FACTFLOW_STORAGE_URI"),
        ({"uri": 7}, "uri: "),
        ({"max_concurrency": 0}, "max_concurrency=0: "),
        ({"max_concurrency": "many"}, "max_concurrency='many': "),
        ({"connect_timeout": -1}, "connect_timeout=-1: "),
        ({"part_size": 1024}, "part_size=1024: "),
        ({"addressing_style": "odd"}, "addressing_style='odd': "),
        ({"secure": "perhaps"}, "secure='perhaps': "),
        ({"endpiont": "x"}, "there is no setting 'endpiont'; the settings are access_key, addressing_style, "),
    ],
)
def test_what_cannot_be_used_names_field_and_value(values, message):
    values = {"uri": "s3://bucket", **values} if values else values
    with pytest.raises(SettingsError) as caught:
        StorageSettings(**values)
    assert message in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    "values",
    [
        {"secret_key": ["s3cret"]},
        {"access_key": {"s3cret": 1}},
        {"uri": ["s3cret"]},
        {"endpoint": ["s3cret"]},
        {**SECRETS, "max_attempts": 0},
        {**SECRETS, "unknown": "s3cret"},
    ],
)
def test_no_error_shows_a_secret(values):
    with pytest.raises(SettingsError) as caught:
        StorageSettings(**{"uri": "s3://bucket", **values})
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_no_repr_shows_a_secret():
    settings = StorageSettings(uri="s3://s3cret:s3cret@bucket", endpoint="s3cret@host", **SECRETS)
    assert "s3cret" not in f"{settings!r} {settings}"
