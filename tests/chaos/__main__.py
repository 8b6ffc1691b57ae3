"""The chaos: `python -m tests.chaos`, with a fixed seed and then with one that is drawn.

Prints what happened and what became of the jobs. Exit status 1 if a promise was not kept; then the
folder is left for a look.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from tests.chaos.world import Plan, facts, run

FIXED = 1


@click.command()
@click.option("--jobs", default=600, show_default=True, help="Some are never sent: who is away.")
@click.option("--strikes", default=30, show_default=True, help="How many faults happen.")
@click.option("--customers", default=9, show_default=True)
@click.option("--bridges", default=1, show_default=True, help="Several share a PostgreSQL.")
@click.option("--without", multiple=True, help="A fault that is not to happen, by its name.")
@click.option("--seed", "seeds", type=int, multiple=True, help="By default 1 and a random one.")
def main(seeds: tuple[int, ...], **options: Any) -> None:
    """Run the chaos, once for each seed."""
    kept = True
    for seed in seeds or (FIXED, random.SystemRandom().randrange(10**6)):
        kept &= _once(Plan(seed=seed, **options))
    sys.exit(0 if kept else 1)


def _once(plan: Plan) -> bool:
    click.echo(f"seed {plan.seed}: {plan.jobs} jobs, {plan.strikes} faults, {plan.bridges} bridges")
    folder = Path(tempfile.mkdtemp(prefix="comfy2mqtt-chaos-"))
    began = time.monotonic()
    verdict = asyncio.run(run(plan, folder, lambda line: click.echo(f"  {line}", err=True)))
    click.echo(json.dumps(facts(verdict), indent=2))
    click.echo(f"seed {plan.seed}: {time.monotonic() - began:.0f} s")
    if verdict.broken:
        click.echo(f"left for a look: {folder}")
        return False
    shutil.rmtree(folder)
    return True


if __name__ == "__main__":
    main()
