"""What asyncio promises holds on the deterministic loop as on the stock one."""

import asyncio

import asyncio_programs
import pytest

from factflow_infra_testing.simulation.runner import run


@pytest.mark.parametrize("program", asyncio_programs.PROGRAMS, ids=lambda program: program.__name__)
def test_a_program_comes_out_as_on_the_stock_loop(program):
    outcome = run(program)
    assert outcome.result() == asyncio.run(program())
    assert outcome.unhandled == ()
    assert outcome.leftovers == ()
