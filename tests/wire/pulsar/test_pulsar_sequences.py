"""The stand-in and the real client do the same: a share of ``pulsar_sequences.py``, and that the comparison can tell."""

import pytest
from pulsar_sequences import differences, on_api, on_wire

from factflow_infra_testing.api.pulsar import acks, consumer

pytestmark = pytest.mark.live  # the real client's clock is its own

SEEDS = range(1000, 1040)


def test_generated_sequences_give_the_same_on_both_tiers(monkeypatch):
    wire = on_wire(SEEDS)
    assert list(differences(on_api(SEEDS), wire)) == []
    steps = [step for told in wire.values() for step in told]
    assert sum(bool(step[2] or step[3]) for step in steps) > len(steps) / 4, "messages come"

    def differing():
        return len(list(differences(on_api(SEEDS), wire)))

    with monkeypatch.context() as broken:
        broken.setattr(consumer.Consumer, "_redeliver", lambda *_: None)
        assert differing(), "nacks that come to nothing"
    with monkeypatch.context() as broken:
        broken.setattr(acks.AckGrouping, "add", lambda *_: None)
        assert differing(), "acks that go nowhere"
    with monkeypatch.context() as broken:
        broken.setattr(consumer.Consumer, "_is_before_start", lambda *_: False)
        assert differing(), "a seek that gives the message itself again"
