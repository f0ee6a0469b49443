"""What is taken from botocore's description of S3 changes no request, and spares what it was taken for."""

import io
from functools import cache

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from factflow_infra.storage.minio import S3Options
from factflow_infra.storage.minio.client import make_client
from factflow_infra.storage.minio.descriptions import OUTPUTS, cut

CALLS = {
    "get_object": {"Key": "a/b ü.txt", "Range": "bytes=0-1"},
    "head_object": {"Key": "a"},
    "delete_object": {"Key": "a"},
    "copy_object": {"Key": "a", "CopySource": "bucket/b"},
    "list_objects_v2": {"Prefix": "a/"},
    "create_multipart_upload": {"Key": "a"},
}


class Raw(io.BytesIO):
    def stream(self, **_):
        yield b""


def requested(client, call, arguments):
    """Where a call goes, and the client's answer to it."""
    urls = []

    def answer(request, **_):
        urls.append(f"{request.method} {request.url}")
        headers = {"content-length": "7", "content-range": "bytes 0-6/9", "etag": '"e"', "content-type": "text/x"}
        headers |= {"last-modified": "Thu, 26 Nov 2026 21:25:38 GMT", "x-amz-meta-a": "b", "x-amz-version-id": "v"}
        return AWSResponse(request.url, 200, headers, Raw())

    client.meta.events.register_first("before-send.s3", answer)
    return urls, getattr(client, call)(Bucket="bucket", **arguments)


@cache
def clients(endpoint, style, region):
    """Ours, and one of botocore's; to make one takes a while."""
    ours = make_client(
        S3Options(endpoint_url=endpoint, access_key="a", secret_key="b", addressing_style=style, region=region)
    )
    theirs = boto3.session.Session(aws_access_key_id="a", aws_secret_access_key="b").client(
        "s3", endpoint_url=endpoint, region_name=region, config=Config(s3={"addressing_style": style})
    )
    return ours, theirs


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("endpoint", "style", "region"),
    [(None, "auto", "eu-central-1"), (None, "virtual", "us-east-1"), ("http://s3.test:9000", "path", "us-east-1")],
)
def test_requests_go_where_botocore_sends_them(call, endpoint, style, region):
    ours, theirs = (requested(client, call, CALLS[call])[0] for client in clients(endpoint, style, region))
    assert ours == theirs
    assert "bucket" in ours[0]


@pytest.mark.parametrize(("call", "shape"), [("get_object", "GetObjectOutput"), ("head_object", "HeadObjectOutput")])
def test_an_answer_has_what_is_read_and_nothing_else(call, shape):
    client = make_client(S3Options(endpoint_url="http://s3.test", access_key="a", secret_key="b"))
    _, answer = requested(client, call, {"Key": "k"})
    assert set(answer) == {*OUTPUTS[shape], "ResponseMetadata"}
    assert (answer["ContentLength"], answer["Metadata"], answer["ETag"]) == (7, {"a": "b"}, '"e"')


def test_clients_of_others_keep_what_botocore_knows():
    make_client(S3Options(endpoint_url="http://s3.test", access_key="a", secret_key="b"))
    theirs = boto3.client("s3", "us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    _, answer = requested(theirs, "head_object", {"Key": "k"})
    assert answer["VersionId"] == "v"


def test_a_botocore_that_names_less_is_cut_as_well():
    shapes = {"GetObjectOutput": {"members": {"ETag": {}, "Restore": {}}}, "Key": {"type": "string"}}
    cut(shapes)
    assert shapes == {"GetObjectOutput": {"members": {"ETag": {}}}, "Key": {"type": "string"}}
