"""The simulated S3 answers as the real server of each profile does, where moto alone would not."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import pytest
from botocore.exceptions import ClientError
from s3_answers import ANSWERS, QUESTIONS, Asker, ask_all

from factflow_infra.errors import SettingsError, StorageAuthenticationError
from factflow_infra_testing.storage.s3 import SimulatedS3
from factflow_infra_testing.storage.s3_profiles import S3_PROFILES

FACTS = "docs/facts.md"


@pytest.fixture(scope="module")
def opened():
    with SimulatedS3() as s3:
        yield s3


@pytest.fixture
def s3(opened, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    opened.reset()
    return opened


def asker(s3, profile):
    provider = s3.provider(profile=profile, exposed=True)

    def other(aws_access_key_id="simulated", aws_secret_access_key="simulated"):
        return s3.client_with(access_key=aws_access_key_id, secret_key=aws_secret_access_key)

    return Asker(s3.client, provider._layout.bucket, other)


@pytest.mark.parametrize("profile", S3_PROFILES)
def test_answers_are_those_of_the_profile(s3, profile):
    assert ask_all(asker(s3, profile)) == ANSWERS[profile]


def test_every_question_has_an_answer_on_every_profile():
    assert all(answers.keys() == QUESTIONS.keys() for answers in ANSWERS.values())


@pytest.mark.parametrize("row", S3_PROFILES.values(), ids=S3_PROFILES)
def test_every_value_of_a_profile_cites_a_fact(row, pytestconfig):
    text = (pytestconfig.rootpath / FACTS).read_text()
    assert set(row.facts) == {field.name for field in fields(row)} - {"name", "facts"}
    assert all(f"**{fact}** [" in text for fact in row.facts.values())


def test_one_of_many_creates_at_once_succeeds(s3):
    barrier = threading.Barrier(32)
    here = asker(s3, "aws")

    def create(number):
        barrier.wait()
        try:
            here.put("raced", bytes([number]), IfNoneMatch="*")
        except ClientError:
            return 0
        return 1

    with ThreadPoolExecutor(32) as pool:
        assert sum(pool.map(create, range(32))) == 1


@pytest.mark.asyncio
async def test_another_secret_is_refused(s3):
    for wrong in ({"secret_key": "wrong"}, {"access_key": "nobody"}):
        with pytest.raises(StorageAuthenticationError):
            await s3.stranger(**wrong).write("k", b"1")


def test_an_unknown_profile_is_named_with_those_that_there_are(s3):
    with pytest.raises(SettingsError, match=r"no S3 profile 'mini'; known: 'aws', 'minio', 'radosgw'"):
        s3.provider(profile="mini")
