"""What the provider's boto3 client sends: fewer round trips, hashes and copies than botocore's defaults."""

import hashlib
import io

import pytest
from botocore.awsrequest import AWSResponse
from botocore.parsers import DEFAULT_TIMESTAMP_PARSER

from factflow_infra.storage.minio import S3Options
from factflow_infra.storage.minio.client import EXPECT_FROM, make_client, parse_time, prepare
from factflow_infra.storage.minio.signing import Content


class Raw(io.BytesIO):
    def stream(self, **_):
        yield b""


def sent(body, *, endpoint="https://s3.test", twice=False):
    """The request that puts ``body``."""
    client = make_client(S3Options(endpoint_url=endpoint, access_key="a", secret_key="b"))
    if twice:
        prepare(client)
    requests = []

    def answer(request, **_):
        requests.append(request)
        return AWSResponse(request.url, 200, {"etag": '"x"'}, Raw())

    client.meta.events.register_first("before-send.s3", answer)
    client.put_object(Bucket="bucket", Key="k", Body=body)
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
