from factflow_infra.protocols import QueueMessage
from factflow_infra_testing import Faults, Simulation, simulate
from hypothesis import given, settings
from hypothesis import strategies as st
from test_invoices import worker


@simulate(faults=Faults.all() - {"clock-jump"})
@given(numbers=st.lists(st.integers(0, 999), min_size=1, max_size=5, unique=True))
@settings(max_examples=50)
async def test_whatever_the_numbers(sim: Simulation, numbers: list[int]) -> None:
    sim.start(worker, name="worker")
    for number in numbers:
        await sim.queue("rabbitmq").publish("invoices", QueueMessage.from_json({"number": number}))
    await sim.drain()
    found = {key async for key in sim.storage("filesystem").list("invoices/")}
    assert found == {f"invoices/{number}.json" for number in numbers}
