"""The S3 provider under every fault there is, and the same search of a provider from which a safeguard was taken."""

from __future__ import annotations

import pytest
import storage_searches
from storage_searches import storage_search

from factflow_infra.storage.minio import client, reading, writing
from factflow_infra_testing.search.faults import Faults

EXAMPLES = 12
FINDS_WITHIN = 100


def test_no_run_breaks_a_promise():
    result = storage_search("s3", examples=EXAMPLES)
    if result.finding is not None:
        pytest.fail(f"{result.finding.plan} seed={result.finding.seed}: {result.finding.failure!r}")
    assert {"kill", "s3-slow", "s3-answer-lost"} <= result.coverage.fired.keys()


def blind_retries(patched):
    patched.setattr(client, "guard_retries", lambda _: None)


def unverified_reads(patched):
    patched.setattr(reading, "verify", lambda *_: None)


def own_success_not_recognised(patched):
    patched.setattr(storage_searches, "KEYS", ("a",))  # they must meet on it within one lost answer
    patched.setattr(writing._Landing, "_found", lambda *_: None)


def unknown_taken_for_failed(patched):
    patched.setattr(writing, "may_have_landed", lambda _: False)


@pytest.mark.parametrize(
    ("ablate", "faults", "seed"),  # which finds it within ten runs
    [
        (blind_retries, ["s3-answer-lost", "s3-slow"], 4),
        (unverified_reads, ["s3-body-corrupt"], 5),
        (own_success_not_recognised, ["s3-answer-lost"], 2),
        (unknown_taken_for_failed, ["s3-answer-lost"], 3),
    ],
)
def test_without_a_safeguard_the_search_finds_it(monkeypatch, ablate, faults, seed):
    with monkeypatch.context() as patched:
        ablate(patched)
        result = storage_search("s3", examples=FINDS_WITHIN, seed=seed, faults=Faults.only(*faults), minimise=0)
    assert result.finding is not None
