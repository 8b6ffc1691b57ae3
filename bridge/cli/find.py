"""Finds jobs by the beginning of their ids, and checks that a bridge is online for a command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import click

from bridge.adapters.mqtt.broker_address import bridge_address
from bridge.cli.shared import FAILED, stop
from bridge.client import Client
from bridge.config import Config
from bridge.contract.errors import UnknownJob
from bridge.contract.messages import JobView, State
from bridge.contract.topics import ID_RULE, is_id
from bridge.text import did_you_mean

ANSWER_S = 10.0
_PAGE = 100
# Of an id with which several jobs begin, so many are named.
_NAMED = 5


@asynccontextmanager
async def client_of(settings: Config, name: str) -> AsyncIterator[Client]:
    """Open a client of the bridge that the settings name. Raises MqttError."""
    address = bridge_address(settings)
    async with Client(address, name, base=settings.base_topic) as client:
        yield client


@asynccontextmanager
async def answering(seconds: float = ANSWER_S) -> AsyncIterator[None]:
    """End the command where the bridge does not answer in time."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        stop(
            f"no answer within {seconds:g} s: is the bridge running? `comfy2mqtt doctor` tests it",
            FAILED,
        )


async def need_bridge(client: Client, settings: Config, *, wait: bool | None = None) -> None:
    """End the command if no bridge is online; with `wait`, wait for one.

    None: the command has no `--wait`.
    """
    state = await client.state()
    if state == "online":
        return
    what = away(settings, state)
    if not wait:
        hint = "" if wait is None else ", or wait for it with --wait"
        stop(f"{what}: nothing was sent. Start it (`comfy2mqtt serve`){hint}", FAILED)
    click.echo(f"{what}: waiting for it, nothing is sent before; Ctrl-C ends this", err=True)
    await client.until_online()


def away(settings: Config, state: str | None) -> str:
    """Return a sentence about a bridge that is not online; `state` is its last state, if any."""
    where = f"at {bridge_address(settings)} (base topic {settings.base_topic})"
    return f"the bridge {where} is offline" if state else f"there is no bridge {where}"


async def all_jobs(client: Client, states: Sequence[State] = ()) -> list[JobView]:
    """Return all jobs of the client, the most recently changed last, without acking any."""
    found: list[JobView] = []
    wanted = list(states) or None
    page = await client.jobs(states=wanted, limit=_PAGE, peek=True)
    found += page.jobs
    while page.more:
        page = await client.jobs(page.jobs[-1].n, states=wanted, limit=_PAGE, peek=True)
        found += page.jobs
    return found


async def job_id_of(client: Client, begun: str) -> str:
    """Return the id of the client's only job that has this id, or begins with it.

    Raises UnknownJob, with what there is, if there is none, or more than one.
    """
    if not is_id(begun):
        raise UnknownJob(f"{begun!r} is no job's id: that is {ID_RULE}", job_id=begun)
    try:
        return (await client.status(begun)).job_id
    except UnknownJob:
        return one_of([each.job_id for each in await all_jobs(client)], begun, client.name)


def one_of(known: Sequence[str], begun: str, client: str) -> str:
    """Return the only one of these ids that begins so. Pure. Raises UnknownJob."""
    found = [each for each in known if each.startswith(begun)]
    if len(found) == 1:
        return found[0]
    if found:
        shown = ", ".join(found[:_NAMED]) + (" ..." if found[_NAMED:] else "")
        raise UnknownJob(f"{len(found)} jobs begin with {begun!r}: {shown}", job_id=begun)
    meant = did_you_mean(begun, known)
    raise UnknownJob(
        f"client {client!r} has no job {begun!r}{meant}; `comfy2mqtt jobs` lists them", job_id=begun
    )
