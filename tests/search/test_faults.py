"""The registry of fault kinds, sets of them, swarms over them."""

from __future__ import annotations

from collections import Counter

import pytest

from factflow_infra_testing.errors import UnknownFaultError
from factflow_infra_testing.search.faults import Faults, known_kinds
from factflow_infra_testing.search.kinds import FaultKind
from factflow_infra_testing.search.swarm import split, swarm_decisions, swarm_rates


def test_registry_is_mildest_first_and_tells_what_each_means():
    kinds = known_kinds()
    assert next(iter(kinds)) == "timer-tie"
    assert list(kinds)[-2:] == ["kill", "power-loss"]
    assert all(kind.meaning and kind.kind == name for name, kind in kinds.items())


def test_all_none_only_and_less():
    assert set(Faults.all()) == set(known_kinds())
    assert len(Faults.none()) == 0
    assert list(Faults.only("kill", "ack-lost")) == ["ack-lost", "kill"]
    assert "kill" not in Faults.all() - {"kill"}
    assert (
        Faults.all() - {"kill"}
        == Faults.all().without("kill")
        == Faults.all() - "kill"
        == Faults.all() - Faults.only("kill")
    )
    assert Faults.only("kill") | {"reset"} == Faults.only("reset", "kill")
    assert len({Faults.only("kill"), Faults.only("kill")}) == 1


def test_repr_is_python():
    for faults in (Faults.all(), Faults.none(), Faults.only("kill", "reset")):
        assert eval(repr(faults)) == faults


@pytest.mark.parametrize(
    "build",
    [
        lambda: Faults.only("kil"),
        lambda: Faults.all() - {"kil"},
        lambda: Faults.all().without("kil"),
        lambda: Faults("kil"),
    ],
)
def test_an_unknown_kind_is_named_with_those_that_there_are(build):
    with pytest.raises(UnknownFaultError, match=r"No such fault kind: 'kil'\. Known are: timer-tie, .*kill"):
        build()


def test_only_named_kinds_are_missed_when_nothing_can_fail_that_way():
    assert Faults.only("kill").named
    assert not Faults.all().named
    assert not (Faults.all() - {"kill"}).named


@pytest.mark.parametrize(
    "arguments", [("", (), "m", 0.1), ("Kill", (), "m", 0.1), ("kill", (), "m", 0.0), ("kill", (), "m", 1.5)]
)
def test_a_row_of_the_registry_is_checked(arguments):
    with pytest.raises(ValueError, match=r"fault kind|rate"):
        FaultKind(*arguments)


def test_choices_have_names():
    kind = FaultKind("kill", ("reset", "silent"), "m", 0.1)
    assert [kind.describe(choice) for choice in (1, 2, 3)] == ["kill (reset)", "kill (silent)", "kill (choice 3)"]
    assert FaultKind("reset", (), "m", 0.1).describe(1) == "reset"


class TestSwarm:
    KINDS = tuple(known_kinds().values())

    def test_kinds_of_a_part_that_the_scenario_has_not_are_rare_and_take_nobodys_place(self):
        used, idle = split(self.KINDS, ())
        assert {kind.part for kind in used} == {""}
        assert idle
        assert split(self.KINDS, {kind.part for kind in self.KINDS}) == (self.KINDS, ())
        with_idle = 0
        for seed in range(400):
            rates = swarm_rates(seed, used)
            decisions = swarm_decisions(seed, used, idle)
            assert all(decisions.enabled(kind) for kind in rates)
            with_idle += any(decisions.enabled(kind.kind) for kind in idle)
        assert 20 < with_idle < 90

    def test_a_seed_is_a_swarm(self):
        assert swarm_rates(5, self.KINDS) == swarm_rates(5, self.KINDS)
        assert len({str(swarm_rates(seed, self.KINDS)) for seed in range(100)}) > 90

    def test_half_the_swarms_have_few_kinds_and_each_kind_its_share(self):
        sizes, kinds = Counter(), Counter()
        for seed in range(2000):
            rates = swarm_rates(seed, self.KINDS)
            sizes[len(rates)] += 1
            kinds.update(list(rates))
        assert 0.4 < sum(sizes[n] for n in (1, 2, 3)) / 2000 < 0.65
        assert max(sizes) > len(self.KINDS) / 2
        assert min(kinds[kind.kind] for kind in self.KINDS) > 0.2 * 2000

    def test_rates_are_shares(self):
        assert all(0 < rate <= 0.9 for seed in range(500) for rate in swarm_rates(seed, self.KINDS).values())

    def test_without_kinds_there_is_no_swarm(self):
        assert swarm_rates(5, ()) == {}
