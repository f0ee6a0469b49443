"""The simulated broker's STOMP front end beside a real Artemis: the same requests and sequences, the same observations."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
WIRE = HERE.parent / "wire" / "stomp"
sys.path[:0] = [str(WIRE), str(HERE)]

import compare_stomp  # noqa: E402 - beside this file
import stomp_requests  # noqa: E402 - beside the tests of the front end

pytestmark = pytest.mark.live

SEQUENCES = 25


def test_the_recorded_answers_are_those_of_the_real_server(artemis_server):
    def connect_to():
        return stomp_requests.Socket(artemis_server.port)

    recorded = json.loads((WIRE / "answers_of_artemis_2_44_0.json").read_text())
    different = dict(stomp_requests.REQUESTS)
    for _ in range(2):  # again, where a loaded machine was late
        found = stomp_requests.answers(connect_to, artemis_server.user, artemis_server.password, different)
        different = {
            name: stomp_requests.REQUESTS[name]
            for name, answer in found.items()
            if essence(answer) != essence(recorded[name])
        }
    assert list(different) == []


def essence(answer):
    # The user's name is another one, and messages of one step come in any order.
    return sorted(map(str, stomp_requests.essence(answer)))


def test_generated_sequences_look_the_same(artemis_server):
    found = compare_stomp.differences(artemis_server, range(SEQUENCES))
    assert {seed: lines for seed, lines in found if lines} == {}
