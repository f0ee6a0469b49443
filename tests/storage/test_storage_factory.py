"""From URIs to providers: the schemes, new ones, and what a wrong URI is told."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from factflow_infra.errors import SettingsError
from factflow_infra.storage.factory import StorageProviderFactory, create_storage_provider
from factflow_infra.storage.filesystem import FilesystemStorageProvider
from factflow_infra.storage.minio import MinioStorageProvider
from factflow_infra.storage.settings import StorageSettings

KEYS = {"access_key": "AKEY", "secret_key": "s3cret"}


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in list(os.environ):
        if name.startswith("FACTFLOW_STORAGE_"):
            monkeypatch.delenv(name)


def made(uri, **overrides):
    provider = create_storage_provider(uri, **overrides)
    assert isinstance(provider, MinioStorageProvider)
    return provider._layout, provider._options


def test_a_path_gives_a_filesystem_provider(tmp_path):
    assert isinstance(create_storage_provider(f"file://{tmp_path}"), FilesystemStorageProvider)
    assert isinstance(
        create_storage_provider(f"file://localhost{tmp_path}?create_root=true"), FilesystemStorageProvider
    )


@pytest.mark.asyncio
async def test_a_path_may_hold_any_character(tmp_path):
    folder = tmp_path / "a b#?é@:"
    folder.mkdir()
    uri = f"file://{tmp_path}/a%20b%23%3F%C3%A9@:"
    provider = create_storage_provider(uri)
    await provider.write("k", b"1")
    await provider.close()
    assert (folder / "k").read_bytes() == b"1"


def test_minio_takes_endpoint_and_keys():
    layout, options = made("minio://bucket/some/prefix?endpoint=localhost:9000&secure=false", **KEYS)
    assert (layout.bucket, layout.root) == ("bucket", "some/prefix/")
    assert options.endpoint_url == "http://localhost:9000"
    assert (options.access_key, options.secret_key) == ("AKEY", "s3cret")
    assert made("minio://bucket", endpoint="host:1", **KEYS)[1].endpoint_url == "https://host:1"
    assert made("minio://bucket", endpoint="http://host:1", **KEYS)[1].endpoint_url == "http://host:1"
    assert made("MINIO://bucket", endpoint="host", **KEYS)[0].bucket == "bucket"


def test_s3_leaves_credentials_to_the_default_chain():
    layout, options = made("s3://bucket?region=eu-central-1&max_attempts=9&addressing_style=virtual&read_timeout=1.5")
    assert (layout.bucket, layout.root) == ("bucket", "")
    assert (options.endpoint_url, options.access_key, options.region) == (None, None, "eu-central-1")
    assert (options.max_attempts, options.addressing_style, options.read_timeout) == (9, "virtual", 1.5)
    assert made("s3://bucket/a%20b/%C3%A9/")[0].root == "a b/é/"


def test_settings_and_overrides_go_together(monkeypatch):
    settings = StorageSettings(uri="s3://bucket", max_attempts=2, **KEYS)
    assert made(settings)[1].max_attempts == 2
    assert made(settings, max_attempts=3)[1].max_attempts == 3
    assert made(settings, max_attempts=3)[1].secret_key == "s3cret"
    monkeypatch.setenv("FACTFLOW_STORAGE_URI", "s3://from-the-environment")
    assert made(None)[0].bucket == "from-the-environment"


@pytest.mark.parametrize(
    ("uri", "overrides", "message"),
    [
        ("", {}, "no scheme: begin it with one of file://, minio://, s3://"),
        ("bucket/prefix", {}, "no scheme: begin it with one of file://, minio://, s3://"),
        ("gs://bucket", {}, "the storage scheme 'gs' is not known: the schemes are file://, minio://, s3://"),
        ("s3://", {}, "bucket '' is no bucket name"),
        ("s3://a", {}, "bucket 'a' is no bucket name"),
        ("s3://bucket/a//b", {}, "prefix"),
        ("s3://bucket?endpiont=x", {}, "unknown parameter 'endpiont': the parameters are addressing_style, "),
        ("s3://bucket?region=a&region=b", {}, "'region' twice"),
        ("s3://bucket?region", {}, "the query of the storage URI cannot be read"),
        ("s3://bucket?max_attempts=0", {}, "max_attempts='0': "),
        ("s3://bucket#frag", {}, "'#'"),
        ("s3://[bucket", {}, "cannot be read: use s3://<bucket>[/prefix]"),
        ("s3://bucket", {"access_key": "s3cret"}, "access_key and secret_key go together"),
        ("s3://bucket", {"endpoint": "host:1/path"}, "the endpoint must be"),
        ("s3://bucket", {"endpoint": "s3cret:s3cret@host"}, "the endpoint must be"),
        ("s3://bucket", {"colour": "red"}, "there is no setting 'colour'; the settings are"),
        ("minio://bucket", KEYS, "minio:// needs endpoint: pass endpoint=..., set FACTFLOW_STORAGE_ENDPOINT, or add"),
        ("minio://bucket?endpoint=h:1", {"access_key": "a"}, "minio:// needs secret_key: pass secret_key=... or set"),
        ("minio://host:9000/bucket", {}, "more than a bucket before the path"),
        ("minio://s3cret:s3cret@bucket", {}, "more than a bucket before the path"),
        ("minio://AKEY:s3cret/s3cret@bucket/p", {}, "more than a bucket before the path"),
        ("minio://bucket?secret_key=s3cret", {}, "secret_key in a URI would be seen in logs"),
        ("s3cret:s3cret@gs://bucket", {}, "the storage scheme in the URI is not known"),
        ("file://relative/path", {}, "three slashes"),
        ("file://", {}, "cannot be used: use file://<absolute path>"),
        ("file:///a?mode=1", {}, "unknown parameter 'mode': the parameters are create_root, max_concurrency"),
        ("file:///a%00b", {}, "cannot be used"),
        (b"s3://bucket", {}, "settings must be StorageSettings, a URI or None, not bytes"),
    ],
)
def test_a_wrong_uri_is_told_what_to_do_and_shows_no_secret(uri, overrides, message):
    with pytest.raises(SettingsError) as caught:
        create_storage_provider(uri, **overrides)
    assert message in str(caught.value)
    error = caught.value
    while error is not None:
        assert "s3cret" not in f"{error} {error!r}"
        error = error.__cause__


def test_new_schemes_belong_to_their_factory():
    factory = StorageProviderFactory()
    built = []

    def build(settings):
        built.append(settings.uri)
        return create_storage_provider("s3://bucket")

    factory.register("memory", build)
    factory.create("memory://anything?at=all")
    assert built == ["memory://anything?at=all"]
    assert factory.schemes == ("file", "memory", "minio", "s3")
    with pytest.raises(SettingsError, match="file://, memory://, minio://, s3://"):
        factory.create("gs://bucket")
    with pytest.raises(SettingsError, match="not known"):
        create_storage_provider("memory://x")


@pytest.mark.parametrize("scheme", ["", "S3", "a b", "s3://", "1a"])
def test_a_scheme_must_be_one(scheme):
    with pytest.raises(SettingsError, match="lower-case"):
        StorageProviderFactory().register(scheme, create_storage_provider)


def test_importing_the_factory_is_light():
    heavy = "boto3 botocore pydantic pydantic_settings aiofiles moto"
    code = (
        "import sys; import factflow_infra.storage.factory; import factflow_infra_testing.storage.s3; "
        f"found = [name for name in {heavy.split()!r} if name in sys.modules]; sys.exit(repr(found) if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
