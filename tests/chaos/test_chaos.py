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


@pytest.mark.timeout(400)
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
