from __future__ import annotations

import random
from pathlib import Path

import click
import pytest

from tests.chaos.world import Plan, facts, run, strikes

pytestmark = pytest.mark.comfyui

FAULTS = (
    "broker killed",
    "bridge killed",
    "connections cut",
    "comfyui killed",
    "disk full",
    "link stalled",
    "suback late",
    "puback lost",
    "clock set",
)


def test_a_fault_that_cannot_be_made_here_is_left_out_and_named() -> None:
    told: list[str] = []
    plan = Plan(seed=1, jobs=1, customers=1, strikes=2, order=("disk full", "clock set"))
    assert strikes(plan, ["clock set", "link stalled"], random.Random(1), told.append) == [
        "clock set"
    ]
    assert told == ["disk full: cannot be made on this machine"]


# Of three bridges: the one that takes requests dies, PostgreSQL and the bucket go away, and a
# request is acknowledged too late, so that the next one gets it again.
GROUP_FAULTS = ("intake killed", "bucket away", "database restarted", "puback lost")


@pytest.mark.postgresql
@pytest.mark.peers  # the bucket is moto's
@pytest.mark.timeout(600)
async def test_three_bridges_lose_nothing_and_run_nothing_twice_that_they_know_of(
    tmp_path: Path,
) -> None:
    """The short form of `make chaos` with three bridges, always with the same chances."""
    plan = Plan(
        seed=1,
        jobs=30,
        customers=4,
        strikes=len(GROUP_FAULTS),
        order=GROUP_FAULTS,
        pause_s=1.0,
        bridges=3,
    )
    told: list[str] = []
    verdict = await run(plan, tmp_path, told.append)
    click.echo("\n".join((*told, str(facts(verdict)))))
    assert verdict.accepted >= 20
    assert verdict.intake_moves >= 1
    assert verdict.puts >= verdict.succeeded
    assert not verdict.broken


@pytest.mark.timeout(600)
async def test_nothing_accepted_is_lost_whatever_dies(tmp_path: Path) -> None:
    """The short form of `make chaos`."""
    seed = random.SystemRandom().randrange(10**6)
    order = random.Random(seed).sample(FAULTS, len(FAULTS))
    plan = Plan(
        seed=seed, jobs=60, customers=6, strikes=len(order), order=tuple(order), pause_s=1.0
    )
    told: list[str] = []
    verdict = await run(plan, tmp_path, told.append)
    click.echo("\n".join((f"seed {seed}", *told, str(facts(verdict)))))
    assert verdict.accepted >= 30
    assert not verdict.broken
