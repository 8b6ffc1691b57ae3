"""A small fleet: what docs/scale.md says of a thousand bridges holds of each of their groups."""

from __future__ import annotations

import pytest

from tests.simulation.database import Costs, Database
from tests.simulation.figures import (
    Spread,
    ask_at_random,
    eta_ratios,
    jain,
    keep_asking,
    longest_gap_s,
    turns,
)
from tests.simulation.fleet import LEASE_S, Fleet, Kind

KINDS = (
    Kind("photo", "photo.safetensors", run_s=2.0, load_s=0.5, share=0.6),
    Kind("poster", "poster.safetensors", run_s=4.0, load_s=1.0, share=0.3),
    Kind("film", "film.safetensors", run_s=8.0, load_s=2.0, share=0.1),
)
JOBS_A_SECOND = 1 / sum(kind.run_s * kind.share for kind in KINDS)
BRIDGES, GPUS_EACH = 20, 4
BEGAN_S, LOST_AT_S, UNTIL_S, ALL_ENDED_S = 2.0, 15.0, 40.0, 300.0
# What was taken before all clients had asked has ended by then.
FAIR_FROM_S = 8.0
# One asks for ten times as much as each other one.
CLIENTS = {"greedy": 400, **{f"c{number}": 40 for number in range(9)}}


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    """Twenty bridges with more to do than they can, of which a tenth is lost, the intake too."""
    fleet = Fleet(BRIDGES, GPUS_EACH, costs=Costs(), kinds=KINDS)
    keep_asking(fleet, CLIENTS, UNTIL_S)
    fleet.run(LOST_AT_S)
    fleet.kill(BRIDGES // 10)
    fleet.run(ALL_ENDED_S)
    return fleet


def test_no_job_is_lost_and_none_runs_twice_unless_its_bridge_died(fleet: Fleet) -> None:
    assert len(fleet.lost) > GPUS_EACH
    assert fleet.unended == 0
    again = {record.job.key for record in fleet.records.values() if len(record.starts) > 1}
    assert again
    assert again <= {record.job.key for record in fleet.lost}


def test_clients_get_as_many_turns_each_however_many_jobs_they_ask_for(fleet: Fleet) -> None:
    found = turns(fleet, FAIR_FROM_S, UNTIL_S)
    assert found.keys() == CLIENTS.keys()
    assert jain(list(found.values())) > 0.99


def test_nobody_starves(fleet: Fleet) -> None:
    assert longest_gap_s(fleet, BEGAN_S, UNTIL_S) < 5.0


def test_gpus_that_are_there_are_busy(fleet: Fleet) -> None:
    possible = BRIDGES * GPUS_EACH * JOBS_A_SECOND * (LOST_AT_S - BEGAN_S)
    assert sum(turns(fleet, BEGAN_S, LOST_AT_S).values()) > 0.9 * possible


def test_jobs_of_lost_bridges_run_again_soon_after_their_lease(fleet: Fleet) -> None:
    again = [record.starts[-1] - LOST_AT_S for record in fleet.lost]
    assert max(again) < LEASE_S + 25.0


@pytest.fixture(scope="module")
def half_idle() -> Fleet:
    """Twenty bridges with half of what they can do."""
    fleet = Fleet(BRIDGES, GPUS_EACH, costs=Costs(), kinds=KINDS)
    ask_at_random(fleet, 10, 0.5 * BRIDGES * GPUS_EACH * JOBS_A_SECOND, until=20.0)
    fleet.run(ALL_ENDED_S)
    assert fleet.unended == 0
    return fleet


def test_bridges_with_idle_comfyuis_do_not_all_claim_the_same_job(half_idle: Fleet) -> None:
    assert half_idle.claims_lost < len(half_idle.records)


def test_no_job_waits_behind_another_while_comfyuis_are_idle(half_idle: Fleet) -> None:
    waits = [each.starts[0] - each.asked for each in half_idle.records.values()]
    assert Spread.of(waits).high < 0.5


def test_estimates_count_the_comfyuis_of_all_bridges(fleet: Fleet) -> None:
    found = [each for each in fleet.records.values() if each.accepted > BEGAN_S]
    assert 0.4 < Spread.of(eta_ratios(found)).median < 1.6


def test_a_transaction_waits_for_others_of_its_clients_and_for_who_settles_the_group() -> None:
    database = Database(Costs())
    first = database.write(0.0, 1, ["a"])
    assert database.write(0.0, 1, ["b"]) == pytest.approx(first, rel=0.1)
    assert database.write(0.0, 1, ["a"]) > 1.9 * first
    assert database.renew(0.0) < 1.1 * first
    alone = database.settle(0.0, 0)
    assert alone > 1.9 * first
    assert database.write(0.0, 1, ["c"]) > alone
