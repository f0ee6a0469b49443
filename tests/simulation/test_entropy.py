"""Time and randomness: of the run inside one, untouched outside."""

# ruff: noqa: DTZ001, DTZ002, DTZ003, DTZ005, DTZ006, PLW0108, PTH119 - every way there is to ask for the time

import asyncio
import datetime as dt
import os
import random
import secrets
import tempfile
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest

from factflow_infra_testing.simulation import datetimes, entropy, patches
from factflow_infra_testing.simulation.owners import OWNER, Owner
from factflow_infra_testing.simulation.runner import run

ORIGIN = datetime(2026, 1, 1, tzinfo=UTC)


def inside(function, *, after=0.0, **options):
    """What ``function`` gives, called so many seconds into a run."""

    async def main():
        await asyncio.sleep(after)
        return function()

    return run(main, **options).result()


def test_every_clock_shows_virtual_time():
    def clocks():
        return {
            "time": time.time(),
            "time_ns": time.time_ns() / 1e9,
            "clock_gettime": time.clock_gettime(time.CLOCK_REALTIME),
            "clock_gettime_ns": time.clock_gettime_ns(time.CLOCK_REALTIME) / 1e9,
            "now": datetime.now(UTC).timestamp(),
            "now, local": datetime.now().timestamp(),
            "now, elsewhere": datetime.now(timezone(timedelta(hours=5))).timestamp(),
            "now, by module": dt.datetime.now(tz=UTC).timestamp(),
            "gmtime": datetime(*time.gmtime()[:6], tzinfo=UTC).timestamp(),
            "localtime": time.mktime(time.localtime()),
            "ctime": time.mktime(time.strptime(time.ctime())),
            "strftime": float(time.strftime("%s")),
            "today": datetime.today().timestamp(),
        }

    expected = ORIGIN.timestamp() + 90_000
    assert inside(clocks, after=90_000) == dict.fromkeys(inside(clocks), pytest.approx(expected, abs=1e-3))
    assert inside(dt.date.today, after=90_000) == datetime.fromtimestamp(expected).date()


def test_monotonic_clocks_begin_at_zero():
    names = ["monotonic", "perf_counter", "process_time", "thread_time"]
    assert inside(lambda: [getattr(time, name)() for name in names], after=2.5) == [2.5] * 4
    assert inside(lambda: [getattr(time, f"{name}_ns")() for name in names], after=2.5) == [2_500_000_000] * 4
    assert inside(lambda: time.clock_gettime(time.CLOCK_MONOTONIC), after=2.5) == 2.5
    assert inside(lambda: time.clock_gettime_ns(time.CLOCK_PROCESS_CPUTIME_ID), after=2.5) == 2_500_000_000


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_utcnow_is_virtual_too():
    assert inside(lambda: datetime.utcnow(), after=1) == datetime(2026, 1, 1, 0, 0, 1)


def test_now_keeps_the_class_and_refuses_what_it_refused():
    class Mine(datetime):
        pass

    assert type(inside(lambda: Mine.now(UTC))) is Mine
    with pytest.raises(TypeError):
        inside(lambda: datetime.now("UTC"))
    with patches.session(), pytest.raises(TypeError):
        datetime.now("UTC")


def test_the_origin_can_be_chosen():
    origin = datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert inside(lambda: datetime.now(UTC), origin=origin) == origin
    with pytest.raises(ValueError, match="time zone"):
        inside(int, origin=datetime(1999, 1, 1))


def test_the_wall_clock_jumps_for_one_host_and_no_timer_notices():
    async def main():
        clock = asyncio.get_running_loop().clock
        await asyncio.sleep(10)
        clock.jump(-3600, host="worker-host")
        clock.jump(5)
        here = time.time()
        OWNER.set(Owner("worker", host="worker-host"))
        there = time.time()
        monotonic = time.monotonic()
        await asyncio.sleep(10)
        return here, there, time.time(), monotonic, time.monotonic()

    start = ORIGIN.timestamp()
    assert run(main).result() == (start + 15, start + 15 - 3600, start + 25 - 3600, 10, 20)


def made_up():
    return [
        os.urandom(8),
        os.getrandom(8),
        uuid.uuid4(),
        uuid.uuid1(),
        uuid.uuid1(),
        secrets.token_hex(4),
        random.SystemRandom().random(),
        random.random(),
        random.Random().random(),
        random.Random(5).random(),
        random.getrandbits(32),
        os.path.basename(tempfile.mktemp()),
        *([uuid.uuid7(), uuid.uuid6()] if hasattr(uuid, "uuid7") else []),
    ]


def test_the_same_seed_makes_up_the_same():
    first = inside(made_up, seed=3)
    for _ in range(3):
        made_up()  # the process goes on meanwhile
        assert inside(made_up, seed=3) == first
    other = inside(made_up, seed=4)
    assert [one == two for one, two in zip(first, other, strict=True)].count(True) == 1  # Random(5)


def test_names_of_files_do_not_tell_whether_the_folder_for_them_was_known(monkeypatch):
    first = inside(tempfile.mktemp, seed=3)
    monkeypatch.setattr(tempfile, "tempdir", None)  # as in a fresh process, or after a simulated disk
    assert inside(tempfile.mktemp, seed=3) == first


def test_a_new_seed_within_a_run_is_reproducible():
    def reseed():
        random.seed()
        return random.random()

    assert inside(reseed, seed=1) == inside(reseed, seed=1) != inside(reseed, seed=2)


def test_outside_nothing_is_changed():
    names = [(patch.target, patch.name) for patch in entropy.patches()]
    before = [vars(target).get(name) for target, name in names]
    now = datetime.__dict__["now"]
    random.seed(7)
    expected = random.Random(7).random()
    with patches.session():
        assert abs(time.time() - before[0]()) < 60
        assert abs((datetime.now(UTC) - datetime.fromtimestamp(before[0](), UTC)).total_seconds()) < 60
        assert os.urandom(16) != os.urandom(16)
        inside(made_up)
    assert random.random() == expected
    assert [vars(target).get(name) for target, name in names] == before
    assert datetime.__dict__["now"] is now
    assert datetime.now(UTC).year != 2026 or time.time() > ORIGIN.timestamp()


def test_a_failing_run_puts_everything_back():
    before = time.time

    async def main():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(main)
    assert time.time is before
    assert entropy.active_world() is None
    assert not patches.is_active()


def test_other_threads_keep_real_time():
    seen = []

    def look():
        seen.append((time.time(), datetime.now(UTC).timestamp()))

    async def main():
        with entropy.outside():
            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
        return time.time()

    assert run(main).result() == ORIGIN.timestamp()
    assert all(abs(one - time.time()) < 60 for one in seen[0])


def test_without_the_replacement_now_is_real(monkeypatch):
    monkeypatch.setattr(datetimes, "install", lambda: lambda: None)
    assert abs(inside(lambda: datetime.now(UTC)).timestamp() - time.time()) < 60
