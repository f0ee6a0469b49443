"""A process that uploads in parts is killed at every step of it: the next one begins anew without harm, and nothing stays.

The parts of the dead are not taken up again: what has gone is what says which bytes they were (``docs/design.md``).
"""

from itertools import count

from storage_searches import small_parts

from factflow_infra_testing import Fault
from factflow_infra_testing.search.decisions import PlannedDecisions
from factflow_infra_testing.search.faults import Faults
from factflow_infra_testing.search.search import Searcher, default_backend

OLD, NEW = b"old" * 200, b"new!" * 250
"""Three parts of 256 bytes, and four."""


async def pieces():
    for start in range(0, len(NEW), 100):
        yield NEW[start : start + 100]


def scenario(found):
    async def run(sim):
        async def main(process):
            await process.storage("s3").write("k", pieces(), {"v": "new"})

        storage = sim.storage("s3")
        await storage.write("k", OLD, {"v": "old"})
        sim.start(main, name="writer", restart=False)
        await sim.drain()
        stored = await storage.get("k")
        assert (stored.data, stored.info.metadata) in [(OLD, {"v": "old"}), (NEW, {"v": "new"})]
        removed = await storage.remove_leftovers(older_than=0)
        assert await storage.remove_leftovers(older_than=0) == 0
        again = await storage.get("k")
        assert (again.data, again.info) == (stored.data, stored.info)
        found.append((stored.info.metadata["v"], removed))
        sim.start(main, name="next", restart=False)
        await sim.drain()
        last = await storage.get("k")
        assert (last.data, last.info.metadata) == (NEW, {"v": "new"})
        assert last.info.created_at == stored.info.created_at
        assert await storage.remove_leftovers(older_than=0) == 0
        assert [key async for key in storage.list()] == ["k"]

    return run


def test_killed_at_each_step_of_an_upload_in_parts():
    backend, found = default_backend(), []
    with small_parts(), backend.open_session() as session:
        searcher = Searcher(backend, session, Faults.all())
        for step in count(1):
            decisions = PlannedDecisions([Fault("kill", "writer@write s3", step)])
            record = searcher.run(scenario(found), decisions, 0)
            assert record.failure is None, (step, record.failure)
            if decisions.unmatched:
                break
    killed = found[:-1]
    assert found[-1] == ("new", 0)  # it was not killed
    assert len(killed) > 10
    assert {version for version, _ in killed} == {"old", "new"}
    assert {removed for _, removed in killed} >= {0, 1}
