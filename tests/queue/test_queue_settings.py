"""Settings and the factory: what is read from where, what is refused and how, and that no secret shows."""

from __future__ import annotations

import copy
import pickle
import shutil
import subprocess
import sys

import pytest

from factflow_infra.errors import ProviderUnavailableError, SettingsError
from factflow_infra.queue.factory import QueueProviderFactory, create_queue_provider
from factflow_infra.queue.options import EngineOptions
from factflow_infra.queue.settings import Endpoint, QueueSettings
from factflow_infra.queue.tls import tls_context

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in QueueSettings.model_fields:
        monkeypatch.delenv(f"FACTFLOW_QUEUE_{name.upper()}", raising=False)


def test_a_uri_is_taken_apart_and_its_credentials_do_not_show():
    settings = QueueSettings(uri=f"amqp://us%40er:{SECRET}%2F@one,amqp://us%40er:{SECRET}%2F@[::1]:1/v%2Fh?prefetch=7")
    assert settings.endpoints == (Endpoint("amqp", "one", 5672, ""), Endpoint("amqp", "::1", 1, "v/h"))
    assert (settings.username, settings.password.get_secret_value()) == ("us@er", SECRET + "/")
    assert settings.prefetch == 7
    assert settings.uri == "amqp://one,amqp://[::1]:1/v%2Fh"
    for text in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump())):
        assert SECRET not in text


@pytest.mark.parametrize(
    ("uri", "ports", "tls"),
    [
        ("amqps://a", [5671], True),
        ("stomp://a,b:7,stomp://c", [61613, 7, 61613], False),
        ("stomp+ssl://a", [61617], True),
        (["pulsar://a", "pulsar://b:2"], [6650, 2], False),
        ("pulsar+ssl://a:1, b", [1, 6651], True),
    ],
)
def test_endpoints(uri, ports, tls):
    endpoints = QueueSettings(uri=uri).endpoints
    assert [endpoint.port for endpoint in endpoints] == ports
    assert all(endpoint.tls is tls for endpoint in endpoints)


def test_the_environment(monkeypatch):
    monkeypatch.setenv("FACTFLOW_QUEUE_URI", f"amqp://user:{SECRET}@host?heartbeat=5")
    monkeypatch.setenv("FACTFLOW_QUEUE_PREFETCH", "9")
    monkeypatch.setenv("FACTFLOW_QUEUE_TLS_VERIFY", "false")
    settings = QueueSettings()
    assert (settings.username, settings.heartbeat, settings.prefetch, settings.tls_verify) == ("user", 5.0, 9, False)
    assert QueueSettings(prefetch=10).prefetch == 10
    monkeypatch.setenv("FACTFLOW_QUEUE_PASSWORD", SECRET)
    assert QueueSettings().password.get_secret_value() == SECRET
    monkeypatch.setenv("FACTFLOW_QUEUE_PASSWORD", SECRET + "3")
    with pytest.raises(SettingsError) as caught:
        QueueSettings()
    assert str(caught.value) == "password is given twice, in the URI and beside it, with different values"


BAD = [
    ({"uri": "localhost"}, "uri must look like amqp://"),
    ({"uri": "amqp://"}, "uri has no host"),
    ({"uri": f"amqp://u:{SECRET}@h:99999"}, "uri has a port that is no number from 1 to 65535"),
    ({"uri": f"amqp://u:{SECRET}"}, "uri has a port that is no number"),
    ({"uri": f"amqp://u:{SECRET}#@h"}, "uri has"),
    ({"uri": f"amqp://[u:{SECRET}"}, "uri has a port that is no number from 1 to 65535, or a malformed host"),
    ({"uri": "amqp://h:0"}, "uri has a port"),
    ({"uri": "amqp://a,,amqp://b"}, "empty part between commas"),
    ({"uri": "amqp://a,stomp://b"}, "mixes the schemes 'amqp' and 'stomp'"),
    ({"uri": f"amqp://u:{SECRET}@a,amqp://u:{SECRET}2@b"}, "the URIs disagree about password"),
    ({"uri": "amqp://h?prefetsch=1"}, "unknown query parameter 'prefetsch'; known: connect_timeout, heartbeat"),
    ({"uri": f"amqp://h?password={SECRET}"}, "unknown query parameter 'password'"),
    ({"uri": "amqp://h?prefetch=many"}, "parse string as an integer, got 'many'"),
    ({"uri": "amqp://h", "tls_ca_file": "ca.pem"}, "tls_ca_file is set, but amqp:// is not encrypted: use amqps://"),
    ({"uri": f"stomp://:{SECRET}@h?tls_cert_file=c&tls_key_file=k"}, "tls_cert_file is set, but stomp:// is not"),
    ({"uri": "amqp://h?prefetch=1", "prefetch": 2}, "prefetch is given twice"),
    ({"uri": 7}, "uri must be a str or a list of them, got int"),
    ({"uri": ["amqp://h", None]}, "got NoneType"),
    ({"prefetsch": 1}, "unknown setting 'prefetsch'; known: connect_timeout, heartbeat"),
    ({"prefetch": 0}, "prefetch: Input should be greater than or equal to 1, got 0"),
    ({"prefetch": 65_536}, "prefetch: Input should be less than or equal to 65535, got 65536"),
    ({"queue_type": "quorom"}, "queue_type: Input should be 'quorum' or 'classic', got 'quorom'"),
    ({"reconnect_base": float("nan")}, "reconnect_base: Input should be"),
    ({"reconnect_base": 9, "reconnect_cap": 3}, "reconnect_base must be at most reconnect_cap"),
    ({"publish_timeout": 0}, "publish_timeout: Input should be greater than 0, got 0"),
    ({"heartbeat": -1}, "heartbeat: Input should be greater than or equal to 0, got -1"),
    ({"max_message_bytes": "big"}, "max_message_bytes: Input should be a valid integer"),
    ({"tls_cert_file": "c.pem"}, "tls_cert_file and tls_key_file belong together"),
    ({"tls_ca_file": ""}, "tls_ca_file: must not be empty"),
    ({"password": [SECRET]}, "password: Input should be a valid string"),
    ({"password": ""}, "password: must not be empty"),
]


@pytest.mark.parametrize(("values", "part"), BAD, ids=[part for _, part in BAD])
def test_bad_settings(values, part):
    with pytest.raises(SettingsError) as caught:
        QueueSettings(**values)
    assert part in str(caught.value)
    error = caught.value
    while error is not None:
        assert SECRET not in str(error)
        assert SECRET not in repr(error)
        error = error.__cause__ or error.__context__
    assert isinstance(caught.value, ValueError)


def test_a_value_is_the_same_in_any_spelling():
    settings = QueueSettings(uri="amqp://h?tls_verify=false&heartbeat=30.0&prefetch=7", heartbeat=30, tls_verify=False)
    assert (settings.tls_verify, settings.heartbeat, settings.prefetch) == (False, 30.0, 7)
    with pytest.raises(SettingsError, match="tls_verify is given twice"):
        QueueSettings(uri="amqp://h?tls_verify=false", tls_verify=True)


def test_the_environment_s_wrong_values_are_shown(monkeypatch):
    monkeypatch.setenv("FACTFLOW_QUEUE_PREFETCH", "few")
    with pytest.raises(SettingsError, match=r"prefetch: .*, got 'few'$"):
        QueueSettings(uri="amqp://h")


def test_a_new_uri_brings_its_own_settings():
    settings = QueueSettings(uri=f"amqp://u:{SECRET}@h?heartbeat=5")
    moved = settings.changed(uri=f"amqp://v:{SECRET}2@other?prefetch=50")
    assert (moved.username, moved.password.get_secret_value(), moved.prefetch) == ("v", SECRET + "2", 50)
    assert moved.heartbeat == 5.0
    assert settings.changed(uri="amqp://other").username == "u"
    with pytest.raises(SettingsError, match="prefetch is given twice"):
        settings.changed(uri="amqp://other?prefetch=50", prefetch=51)
    with pytest.raises(SettingsError, match="must look like"):
        settings.changed(uri="other")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on this machine")
def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_passphrase(tmp_path):
    """OpenSSL would ask at the terminal, and the event loop would wait."""
    making = ["req", "-x509", "-newkey", "rsa:2048", "-passout", "pass:secret", "-subj", "/CN=x", "-days", "2"]
    subprocess.run(
        ["openssl", *making, "-keyout", "key.pem", "-out", "cert.pem"], cwd=tmp_path, check=True, capture_output=True
    )
    files = {"tls_cert_file": str(tmp_path / "cert.pem"), "tls_key_file": str(tmp_path / "key.pem")}
    with pytest.raises(SettingsError, match="tls_key_file is encrypted"):
        tls_context(QueueSettings(uri="amqps://h", **files))


def test_settings_are_values():
    settings = QueueSettings(uri=f"amqp://u:{SECRET}@h/v")
    assert settings.changed(prefetch=3) == QueueSettings(uri=f"amqp://u:{SECRET}@h/v", prefetch=3)
    assert settings.changed(prefetch=3) != settings
    assert copy.copy(settings) == settings
    assert pickle.loads(pickle.dumps(settings)) == settings
    with pytest.raises(SettingsError, match="unknown setting 'vhost'"):
        settings.changed(vhost="x")
    with pytest.raises(Exception, match="frozen"):
        settings.prefetch = 4


def test_engine_options():
    options = QueueSettings(prefetch=3, reconnect_base=1, publish_timeout=7).engine_options()
    assert options == EngineOptions(prefetch=3, reconnect_base=1.0, publish_timeout=7.0)
    assert QueueSettings().engine_options() == EngineOptions()
    assert QueueSettings().endpoints == ()


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"prefetch": 0}, "prefetch must be finite and more than 0, got 0"),
        ({"prefetch": 1.5}, "prefetch must be a whole number, got 1.5"),
        ({"prefetch": 65_536}, "at most 65535"),
        ({"cancel_grace": -1}, "cancel_grace must be finite"),
        ({"stall_after": float("inf")}, "stall_after must be finite"),
        ({"publish_timeout": True}, "publish_timeout must be a number, got True"),
        ({"reconnect_base": 31.0}, "reconnect_base must be at most reconnect_cap"),
    ],
)
def test_bad_engine_options(values, part):
    with pytest.raises(SettingsError) as caught:
        EngineOptions(**values)
    assert part in str(caught.value)


# The factory


def test_unknown_and_unserved_schemes(monkeypatch):
    with pytest.raises(
        SettingsError, match="scheme 'nats'; known: amqp, amqps, pulsar, pulsar\\+ssl, stomp, stomp\\+ssl"
    ):
        create_queue_provider("nats://h")
    monkeypatch.setattr("factflow_infra.queue.factory.find_spec", lambda _: None)
    for scheme in ("pulsar", "pulsar+ssl"):
        with pytest.raises(
            ProviderUnavailableError, match=f"'{scheme.replace('+', chr(92) + '+')}' needs pulsar-client"
        ):
            create_queue_provider(f"{scheme}://h")
    with pytest.raises(SettingsError, match="FACTFLOW_QUEUE_URI"):
        create_queue_provider()


def test_new_schemes(monkeypatch):
    factory = QueueProviderFactory()
    built = []
    factory.register("nats", lambda settings: built.append(settings) or "provider")
    monkeypatch.setenv("FACTFLOW_QUEUE_URI", "nats://env")
    assert factory.create() == "provider"
    assert factory.create("nats://h", prefetch=3) == "provider"
    assert factory.create(QueueSettings(uri="nats://h"), prefetch=4) == "provider"
    assert [(s.endpoints[0].host, s.prefetch) for s in built] == [("env", 100), ("h", 3), ("h", 4)]
    with pytest.raises(SettingsError, match="'nats' is registered already"):
        factory.register("nats", lambda _settings: None)
    assert "nats" not in QueueProviderFactory().schemes


def test_importing_the_package_is_light_and_exports_exactly_two_functions():
    script = """
import sys
import factflow_infra
assert factflow_infra.__all__ == ["create_queue_provider", "create_storage_provider"], factflow_infra.__all__
assert dir(factflow_infra) == factflow_infra.__all__
heavy = {"boto3", "aio_pika", "stompman", "pulsar", "moto", "pyfakefs", "hypothesis", "pydantic", "asyncio"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
import factflow_infra.protocols, factflow_infra.queue.engine
assert not (heavy - {"asyncio"}) & set(sys.modules)
from factflow_infra import create_queue_provider
assert create_queue_provider.__module__ == "factflow_infra.queue.factory"
try:
    factflow_infra.other
except AttributeError as error:
    assert "'other'" in str(error)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
