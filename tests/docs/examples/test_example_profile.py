from factflow_infra_testing import Faults, Simulation, simulate
from hypothesis import settings

# [profile]
settings.register_profile("nightly", max_examples=5000)  # conftest.py; then: pytest --hypothesis-profile nightly
# [/profile]


@simulate(faults=Faults.none())
@settings(settings.get_profile("nightly"), max_examples=3)
async def test_that_a_profile_is_heeded(sim: Simulation) -> None:
    assert sim.time() == 0
