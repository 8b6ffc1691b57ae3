"""One bridge's journal and nothing else, as fast as it goes.

`python -m tests.bench.writer ADDRESS NAME` prints a line when it is open, and begins when it reads
a line with seconds. Then it prints how many jobs it has accepted, claimed, started, ended and noted
as published, one after another, in how many transactions and waits for the database, and in how
many seconds of its processor.
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid

import click

from bridge.contract.numbering import Numbered
from bridge.contract.retained import OutputDefinition
from bridge.jobs.job import Draft, Envelope, Job, Plan
from bridge.jobs.journal import Journal
from bridge.jobs.queue import Key
from bridge.jobs.state import first
from tests.bench.graphs import COLOUR, to_bridge, trivial

LEASE_S = 600.0


async def _main(address: str, name: str) -> None:
    journal = Journal(address)
    await journal.open()
    await journal.join(name, uuid.uuid4().hex, LEASE_S)
    await journal.beat(LEASE_S, staying=False)
    click.echo("open")
    seconds = float(sys.stdin.readline())
    commits, round_trips, jobs = journal.commits, journal.round_trips, 0
    used_s, end = time.process_time(), time.monotonic() + seconds
    while time.monotonic() < end:
        await run_one(journal, name)
        jobs += 1
    done = (journal.commits - commits, journal.round_trips - round_trips)
    click.echo(f"{jobs} {done[0]} {done[1]} {time.process_time() - used_s:.3f}")
    await journal.close()


def new_draft(client: str) -> Draft:
    """Return a request as the intake has it, under an id of its own."""
    return Draft(
        job=Job(
            key=Key(client, uuid.uuid4().hex),
            workflow="trivial",
            workflow_version="0" * 12,
            state=first(waits=False),
            prompt_id=str(uuid.uuid4()),
            envelope=Envelope(),
        ),
        fingerprint=b"\0" * 32,
        plan=Plan(
            prompt=trivial(0, to_bridge("2")),
            inputs={COLOUR: 0},
            names={COLOUR: COLOUR},
            outputs=[OutputDefinition(name="image", kind="image", node="2")],
        ),
    )


async def run_one(journal: Journal, client: str) -> Key:
    """Take one job through the journal, as a bridge that has to read its plan."""
    job = (await journal.accept(new_draft(client), time.time())).record.job
    if not await journal.claim(job, lambda _: None):
        raise RuntimeError("nobody else can have it")
    job.state = "running"
    await journal.started(job)
    await finish(journal, job.key)
    journal.published(job.key)
    return job.key


async def finish(journal: Journal, key: Key) -> None:
    """Write the outcome of a job."""
    result = Numbered(b'{"n":', b"}")
    await journal.finish(key, state="succeeded", result=result, now=time.time())


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
