"""What asyncio promises holds on the deterministic loop as on the stock one."""

import asyncio
import selectors

import asyncio_programs
import pytest

from factflow_infra_testing.simulation.runner import run


class Impatient(selectors.DefaultSelector):
    """Where the stock loop would wait for a timer, the time has come already: nothing here waits for a real clock."""

    now = 0.0

    def select(self, timeout=None):
        if timeout is None or timeout > 60:
            return super().select(timeout)  # something else will come first: a thread that ends
        found = super().select(0)
        if not found:
            self.now += timeout
        return found


class StockLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop in all but the clock."""

    def __init__(self):
        self.impatient = Impatient()
        super().__init__(self.impatient)

    def time(self):
        return self.impatient.now


@pytest.mark.parametrize("program", asyncio_programs.PROGRAMS, ids=lambda program: program.__name__)
def test_a_program_comes_out_as_on_the_stock_loop(program):
    outcome = run(program)
    with asyncio.Runner(loop_factory=StockLoop) as runner:
        assert outcome.result() == runner.run(program())
    assert outcome.unhandled == ()
    assert outcome.leftovers == ()
