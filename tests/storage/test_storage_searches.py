"""The filesystem provider under every fault there is, and the same search of a provider from which a safeguard was taken."""

from __future__ import annotations

import contextlib

import pytest
from storage_searches import storage_search

from factflow_infra.storage.filesystem import changes, provider, steps, versions
from factflow_infra_testing.search.faults import Faults

EXAMPLES = 50
FINDS_WITHIN = 600


def test_no_run_breaks_a_promise():
    result = storage_search("filesystem", examples=EXAMPLES)
    if result.finding is not None:
        pytest.fail(f"{result.finding.plan} seed={result.finding.seed}: {result.finding.failure!r}")
    assert {"power-loss", "kill", "disk-full", "disk-error", "disk-slow", "short-write"} <= result.coverage.fired.keys()


def no_sync_of(kind):
    def ablate(patched):
        sync = steps.sync
        patched.setattr(steps, "sync", lambda descriptor: None if kind(steps.status(descriptor)) else sync(descriptor))

    return ablate


def no_lock(patched):
    patched.setattr(changes, "locked", lambda *_: contextlib.nullcontext())


def no_previous_record(patched):
    encode = versions.encode
    patched.setattr(versions, "encode", lambda new, _previous: encode(new, None))


def one_write_a_piece(patched):
    def put(self, data):
        if self._file is None:
            self._begin()
        steps.write(self._file, memoryview(data))
        self._size += len(data)

    patched.setattr(changes.Upload, "_put", put)


def failed_sync_tried_again(patched):
    sync = steps.sync

    def again(descriptor):
        try:
            sync(descriptor)
        except OSError:
            sync(descriptor)

    patched.setattr(steps, "sync", again)


def every_error_retryable(patched):
    translate = provider.failures.translate

    def retryable(error, what):
        translated = translate(error, what)
        translated.retryable = True
        return translated

    patched.setattr(provider.failures, "translate", retryable)


@pytest.mark.parametrize(
    ("ablate", "faults"),
    [
        (no_sync_of(steps.is_regular), ["power-loss"]),
        (no_sync_of(steps.is_directory), ["power-loss"]),
        (no_lock, ["disk-slow"]),
        (no_previous_record, ["power-loss", "kill", "disk-slow"]),
        (one_write_a_piece, ["short-write"]),
        (failed_sync_tried_again, ["disk-error", "power-loss"]),
        (every_error_retryable, ["disk-full"]),
    ],
)
def test_without_a_safeguard_the_search_finds_it(monkeypatch, ablate, faults):
    with monkeypatch.context() as patched:
        ablate(patched)
        # With this seed each is found within 40 runs.
        result = storage_search("filesystem", examples=FINDS_WITHIN, seed=1, faults=Faults.only(*faults), minimise=0)
    assert result.finding is not None
