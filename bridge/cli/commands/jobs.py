"""`show`, `jobs`, `cancel` and `workflows`: look at jobs and workflows."""

from __future__ import annotations

from typing import get_args

import click

from bridge.cli.options import GroupedCommand, complete
from bridge.cli.shared import (
    CLIENT_SETTINGS,
    WRONG_USAGE,
    as_client,
    as_json,
    client_name,
    run_async,
    settings,
    stop,
)
from bridge.config import Config
from bridge.contract.messages import State

# How many jobs fit on a screen.
_JOBS_SHOWN = 20


@click.command("show", cls=GroupedCommand)
@click.argument("job", shell_complete=complete("jobs"))
@click.option("--set", "of_set", is_flag=True, help="JOB is the id of a set.")
@as_json
@settings(*CLIENT_SETTINGS)
@as_client
def show_one(
    *, job: str, of_set: bool, as_json: bool, settings: Config, client: str | None
) -> None:
    """Show a JOB: its state, inputs, outputs and error; or a whole set.

    A job's id may be shortened to what is unique.
    """
    from bridge.cli.show import show_job

    name = client_name(client, settings)
    run_async(show_job(settings, name, job, of_set=of_set, as_json=as_json))


@click.command(cls=GroupedCommand)
@click.argument(
    "words", nargs=-1, metavar="[describe] [NAME]", shell_complete=complete("workflows")
)
@as_json
@settings(*CLIENT_SETTINGS)
@as_client
def workflows(
    *, words: tuple[str, ...], as_json: bool, settings: Config, client: str | None
) -> None:
    """List the workflows, or show the inputs and outputs of one.

    `describe NAME` drafts a sidecar for it: what it says can be changed, and saved as NAME.toml.
    """
    from bridge.cli.describe import describe
    from bridge.cli.show import show_workflows

    name = client_name(client, settings)
    match words:
        case ("describe", workflow):
            run_async(describe(settings, name, workflow))
        case () | (_,):
            only = words[0] if words else None
            run_async(show_workflows(settings, name, only, as_json=as_json))
    stop("workflows: expected nothing, NAME or describe NAME", WRONG_USAGE)


@click.command(cls=GroupedCommand)
@click.option(
    *("--state", "states"),
    multiple=True,
    type=click.Choice(get_args(State)),
    help="Only jobs in this state; may be given several times.",
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="NUMBER",
    help=f"How many to show.  [default: {_JOBS_SHOWN}; with --json all]",
)
@click.option("--all", "every", is_flag=True, help="Show all.")
@as_json
@settings(*CLIENT_SETTINGS)
@as_client
def jobs(
    *,
    states: tuple[State, ...],
    limit: int | None,
    every: bool,
    as_json: bool,
    settings: Config,
    client: str | None,
) -> None:
    """List this client's jobs, the newest first."""
    from bridge.cli.show import show_jobs

    if every and limit is not None:
        stop("--all and --limit: give one of them", WRONG_USAGE)
    if limit is None and not (every or as_json):
        limit = _JOBS_SHOWN
    name = client_name(client, settings)
    run_async(show_jobs(settings, name, list(states), limit=limit, as_json=as_json))


@click.command(cls=GroupedCommand)
@click.argument("job", shell_complete=complete("jobs"))
@click.option("--set", "of_set", is_flag=True, help="JOB is the id of a set: cancel all of it.")
@as_json
@settings(*CLIENT_SETTINGS)
@as_client
def cancel(*, job: str, of_set: bool, as_json: bool, settings: Config, client: str | None) -> None:
    """Cancel a JOB of this client, or a whole set.

    A job's id may be shortened to what is unique.
    """
    from bridge.cli.show import cancel_job

    name = client_name(client, settings)
    run_async(cancel_job(settings, name, job, of_set=of_set, as_json=as_json))
