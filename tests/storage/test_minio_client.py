"""What the provider's boto3 client sends: fewer round trips, hashes and copies than botocore's defaults."""

import hashlib
import io

import boto3
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.credentials import Credentials
from botocore.exceptions import ParamValidationError
from botocore.parsers import DEFAULT_TIMESTAMP_PARSER

from factflow_infra.storage.minio import S3Options
from factflow_infra.storage.minio.client import EXPECT_FROM, make_client, parse_time, prepare
from factflow_infra.storage.minio.signing import Content, _Signer


class Raw(io.BytesIO):
    def stream(self, **_):
        yield b""


def sent(body, *, endpoint="https://s3.test", twice=False, **arguments):
    """The request that puts ``body``."""
    client = make_client(S3Options(endpoint_url=endpoint, access_key="a", secret_key="b"))
    if twice:
        prepare(client)
    requests = []

    def answer(request, **_):
        requests.append(request)
        return AWSResponse(request.url, 200, {"etag": '"x"'}, Raw())

    client.meta.events.register_first("before-send.s3", answer)
    client.put_object(Bucket="bucket", Key="k", Body=body, **arguments)
    return requests[0]


@pytest.mark.parametrize(("size", "waits"), [(0, False), (EXPECT_FROM, False), (EXPECT_FROM + 1, True)])
def test_only_long_bodies_wait_for_the_servers_consent(size, waits):
    assert ("Expect" in sent(Content(bytes(size))).headers) is waits


@pytest.mark.parametrize("endpoint", ["http://s3.test", "https://s3.test"])
def test_a_known_checksum_is_what_is_signed(endpoint):
    known = "ab" * 32  # not the right one, so it was taken as it is
    assert sent(Content(b"abc", known), endpoint=endpoint, twice=True).headers["X-Amz-Content-SHA256"] == known.encode()


@pytest.mark.parametrize("body", [Content(b"abc"), b"abc"])
def test_what_botocore_signs_stays_without_one(body):
    assert sent(body).headers["X-Amz-Content-SHA256"] == hashlib.sha256(b"abc").hexdigest().encode()


def test_the_signature_is_the_one_that_botocore_makes(monkeypatch):
    asked = []
    choose = S3SigV4Auth.headers_to_sign
    monkeypatch.setattr(S3SigV4Auth, "headers_to_sign", lambda *args: asked.append(args) or choose(*args))
    request = sent(Content(b"abc"))
    assert len(asked) == 1

    headers = {name: value.decode() if isinstance(value, bytes) else value for name, value in request.headers.items()}
    given = headers.pop("Authorization")
    for name in ("Content-Length", "User-Agent"):
        headers.pop(name, None)
    again = AWSRequest("PUT", request.url, headers, b"abc")
    again.context["timestamp"] = headers["X-Amz-Date"]
    signer = S3SigV4Auth(Credentials("a", "b"), "s3", "us-east-1")
    canonical = signer.canonical_request(again)
    assert given.endswith(f"Signature={signer.signature(signer.string_to_sign(again, canonical), again)}")


def test_a_signer_signs_the_headers_of_each_request():
    signer = _Signer(Credentials("a", "b"), "s3", "us-east-1")
    for name in ("x-amz-meta-a", "x-amz-meta-b"):
        request = AWSRequest("GET", "https://s3.test/bucket/k", {name: "1"})
        signer.add_auth(request)
        assert f";{name}," in request.headers["Authorization"]


def test_headers_that_only_tell_aws_of_attempts_are_not_sent():
    headers = sent(b"").headers
    assert type(headers) is dict
    assert not [name for name in headers if name.lower().startswith("amz-sdk-")]


def test_the_clients_of_others_send_what_botocore_does():
    prepare(client := boto3.client("s3", "us-east-1", aws_access_key_id="a", aws_secret_access_key="b"))
    requests = []
    client.meta.events.register_first(
        "before-send.s3",
        lambda request, **_: requests.append(request) or AWSResponse(request.url, 200, {"etag": "x"}, Raw()),
    )
    client.put_object(Bucket="bucket", Key="k", Body=b"")
    assert "amz-sdk-request" in requests[0].headers
    with pytest.raises(ParamValidationError):
        client.put_object(Bucket="bucket", Key="k", Body=b"", Tagging=b"a=b")


def test_arguments_are_not_validated_a_second_time():
    assert sent(b"", Tagging=b"a=b")


def test_the_body_is_sent_as_the_bytes_that_were_given():
    data = b"x" * 100_000
    assert sent(Content(data)).body is data


def test_the_user_agent_names_the_package():
    assert b"factflow-infra" in sent(b"").headers["User-Agent"]


@pytest.mark.parametrize(
    "text",
    ["Thu, 26 Nov 2026 21:25:38 GMT", "Thu, 26 Nov 2026 21:25:38 -0000", "2026-11-26T21:25:38.123Z", 1795728338],
)
def test_times_are_those_of_botocore(text):
    assert parse_time(text) == DEFAULT_TIMESTAMP_PARSER(text)


def test_what_is_no_time_is_refused():
    with pytest.raises(ValueError, match="Invalid timestamp"):
        parse_time("yesterday")
