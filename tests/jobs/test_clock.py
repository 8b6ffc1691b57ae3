"""The journal's clock: it never jumps, whatever is done to the wall clock and to the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.contract.numbering import Numbered
from bridge.jobs.clock import MOST_AWAY_S, Clock, ClockReading, JumpWatch
from bridge.jobs.journal import Journal
from bridge.jobs.queue import Key
from tests.jobs.drafts import draft

DAY = 86_400.0
NOW = 1_800_000_000.0


class Machine:
    """A machine whose wall clock can be set, and which can be restarted."""

    def __init__(self, wall: float = NOW) -> None:
        self.wall = wall
        self.steady = 500.0
        self.boot = "first"

    def wait(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds

    def restart(self, off_s: float = 0.0) -> None:
        self.wall += off_s
        self.steady = 10.0
        self.boot = "second"

    def clock(self) -> Clock:
        return Clock(lambda: self.wall, lambda: self.steady, self.boot)


@pytest.mark.parametrize("by", [8 * DAY, 30 * DAY, -8 * DAY, NOW, 3600.0])
def test_a_wall_clock_that_is_set_changes_no_age_and_is_reported(by: float) -> None:
    machine = Machine()
    clock = machine.clock()
    began = clock.now()
    machine.wait(100.0)
    assert clock.check_jump() == 0.0
    machine.wall += by
    assert clock.now() - began == pytest.approx(100.0)
    # What is shown is right at once; the next look tells.
    assert clock.shown(began) == pytest.approx(machine.wall - 100.0)
    assert clock.check_jump() == pytest.approx(by)
    assert clock.check_jump() == 0.0
    # What is shown is the wall clock's time, also of what was before the jump.
    assert clock.shown(clock.now()) == pytest.approx(machine.wall)
    assert clock.shown(began) == pytest.approx(machine.wall - 100.0)


def test_what_is_shown_of_a_time_stays_the_same_while_no_clock_is_set() -> None:
    machine = Machine()
    clock = machine.clock()
    at = clock.now()
    shown = clock.shown(at)
    for _ in range(5):
        machine.wait(7.0)
        machine.wall += 0.01  # two clocks never go quite alike
        assert clock.check_jump() == 0.0
        assert clock.shown(at) == shown


def test_between_two_starts_on_one_machine_its_steady_clock_says_how_long_that_was() -> None:
    machine = Machine()
    reading = machine.clock().read()
    machine.wait(50.0)
    machine.wall += 30 * DAY
    clock = machine.clock()
    assert clock.resume(reading, None) == pytest.approx(30 * DAY)
    assert clock.now() - reading.at == pytest.approx(50.0)


@pytest.mark.parametrize(
    ("off_s", "aged_s"),
    [(3600.0, 3600.0), (30 * DAY, MOST_AWAY_S), (NOW, MOST_AWAY_S), (-NOW, 0.0)],
    ids=["an hour", "a month", "set from 1970", "back in 1970"],
)
def test_while_the_machine_was_off_at_most_a_day_went_by(off_s: float, aged_s: float) -> None:
    machine = Machine()
    reading = machine.clock().read()
    machine.restart(off_s)
    clock = machine.clock()
    assert (clock.resume(reading, None) != 0.0) is (off_s != aged_s)
    assert clock.now() - reading.at == pytest.approx(aged_s)
    assert clock.shown(clock.now()) == pytest.approx(machine.wall)


def test_it_never_goes_back() -> None:
    machine = Machine()
    at = machine.clock().read().at
    for off_s in (-NOW, 10.0, 2 * NOW, -5.0):
        reading = ClockReading(at, machine.wall, machine.steady, machine.boot)
        machine.restart(off_s)
        clock = machine.clock()
        clock.resume(reading, None)
        assert clock.now() >= at
        at = clock.now()


def test_an_older_journal_is_at_most_a_day_older_than_its_newest_job() -> None:
    machine = Machine()
    clock = machine.clock()
    assert clock.resume(None, NOW - 30 * DAY) == 0.0
    assert clock.now() == pytest.approx(NOW - 30 * DAY + MOST_AWAY_S)
    clock.resume(None, NOW - 60.0)
    assert clock.now() == pytest.approx(NOW)


async def test_the_journal_goes_on_where_its_clock_was_when_it_is_opened_again(
    tmp_path: Path,
) -> None:
    machine = Machine(wall=100.0)  # 1970
    journal = Journal(tmp_path / "journal.db", machine.clock())
    await journal.open()
    await journal.accept(draft("j1"), journal.clock.now())
    key = Key("alice", "j1")
    result = Numbered(b"", b"")
    await journal.finish(key, state="succeeded", result=result, now=journal.clock.now())
    machine.wait(60.0)
    await journal.close()

    machine.wall = NOW
    journal = Journal(tmp_path / "journal.db", machine.clock())
    await journal.open()
    assert journal.jumped_s == pytest.approx(NOW - 160.0)
    assert journal.clock.now() == pytest.approx(160.0)
    now = journal.clock.now()
    await journal.sweep(now=now, results_before=now - 7 * DAY, forget_before=now - 30 * DAY)
    assert (await journal.get(key)).result is not None
    await journal.close()


def test_a_clock_that_is_set_is_seen_against_the_steady_one() -> None:
    steady = 100.0
    watch = JumpWatch(lambda: steady)
    assert watch.since_jump_s(1000.0) == float("inf")
    steady += 3600
    assert watch.since_jump_s(4630.0) == float("inf")
    steady += 10
    assert watch.since_jump_s(4640.0 + 86_400) == 0
    steady += 60
    assert watch.since_jump_s(4700.0 + 86_400) == 60
    steady += 1
    assert watch.since_jump_s(4701.0) == 0
