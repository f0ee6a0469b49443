"""What is taken from botocore's description of S3 changes no request, and spares what it was taken for."""

import io
import json
from functools import cache

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.endpoint_provider import RuleSet
from botocore.loaders import create_loader

from factflow_infra.storage.minio import S3Options
from factflow_infra.storage.minio.client import make_client
from factflow_infra.storage.minio.descriptions import NOT_ASKED_FOR, OUTPUTS, cut

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


def test_no_rule_for_the_endpoint_asks_for_what_it_is_not_told():
    rules = create_loader().load_service_model("s3", "endpoint-rule-set-1")
    assert set(rules["parameters"]) >= NOT_ASKED_FOR
    text = json.dumps(rules["rules"])
    assert '"Bucket"' in text
    for name in NOT_ASKED_FOR:
        assert f'"{name}"' not in text
        assert f"{{{name}" not in text


def test_the_rules_are_evaluated_once_for_all_keys(monkeypatch):
    evaluated = []
    evaluate = RuleSet.evaluate
    monkeypatch.setattr(RuleSet, "evaluate", lambda rules, given: evaluated.append(given) or evaluate(rules, given))
    client = make_client(S3Options(endpoint_url="http://s3.test", access_key="a", secret_key="b"))
    for key in range(150):
        requested(client, "head_object", {"Key": f"{key}"})
    assert len(evaluated) == 1


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
