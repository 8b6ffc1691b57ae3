"""`run`, `replay` and `get`: run a job, and save its outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bridge.cli.options import SECONDS, GroupedCommand, complete
from bridge.cli.shared import CLIENT_SETTINGS, as_client, as_json, client_name, run_async, settings
from bridge.config import Config

_OUTPUT = click.option(
    *("-o", "--output", "output"),
    default=".",
    metavar="FOLDER|FILE|-",
    help="Where to save its outputs: a folder, a file, or - for standard output."
    "  [default: the working folder]",
)

_SHOW = click.option(
    "--show/--no-show", default=None, help="Show pictures in the terminal; by default if it can."
)


def _job_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a command that runs a job and saves its outputs."""
    options = (
        click.option(
            *("-i", "--input", "inputs"),
            multiple=True,
            metavar="NAME=VALUE",
            shell_complete=complete("inputs"),
            help="An input; NAME=@FILE for media. May be given several times.",
        ),
        _OUTPUT,
        click.option(
            "--job-id",
            metavar="ID",
            help="The job's id; the same id never runs twice.",
        ),
        click.option(
            "--timeout", "timeout_s", type=SECONDS, metavar="SECONDS", help="How long it may run."
        ),
        click.option(
            *("--put", "puts"),
            multiple=True,
            metavar="URL",
            help="Also deliver the outputs to this URL; may be given several times.",
        ),
        click.option("--webhook", metavar="URL", help="Send the signed result to this URL."),
        click.option(
            "-d", "--detach", is_flag=True, help="Print the job's id and exit; `get` saves it."
        ),
        click.option("--wait", is_flag=True, help="Wait until the bridge is online."),
        _SHOW,
        as_json,
        settings(*CLIENT_SETTINGS),
        as_client,
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.command(cls=GroupedCommand)
@click.argument("workflow", shell_complete=complete("workflows"))
@click.option(
    "--each",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A job for each line: a CSV with the inputs' names first, or JSON Lines.",
)
@click.option(
    "--grid",
    multiple=True,
    metavar="NAME=VALUES",
    help="A job for every combination: A,B,C or 1..9:2 or seeds:4; may be given several times.",
)
@click.option("--repeat", type=click.IntRange(1), help="How many jobs, each with a random seed.")
@click.option(
    "--collect",
    multiple=True,
    type=click.Choice(["sheet", "animation", "zip"]),
    help="Also save what the set makes of all its pictures; may be given several times.",
)
@_job_options
def run(*, workflow: str, settings: Config, client: str | None, **wanted: Any) -> None:
    """Run WORKFLOW, show its progress, and save its outputs.

    comfy2mqtt run demo -i prompt='a red barn' -o barn.png

    With --each, --grid or --repeat it is a set of jobs, with one bar; --job-id names the set.
    """
    from bridge.cli.run import RunOptions, run_job

    run_async(run_job(settings, client_name(client, settings), workflow, RunOptions(**wanted)))


@click.command(cls=GroupedCommand)
@click.argument("job", shell_complete=complete("jobs"))
@_job_options
def replay(*, job: str, settings: Config, client: str | None, **wanted: Any) -> None:
    """Run a JOB again with the same version, inputs and seeds; -i changes some."""
    from bridge.cli import run

    work = run.replay(settings, client_name(client, settings), job, run.RunOptions(**wanted))
    run_async(work)


@click.command(cls=GroupedCommand)
@click.argument("job", shell_complete=complete("jobs"))
@_OUTPUT
@click.option(
    "--wait", is_flag=True, help="Wait until the job ends, and until the bridge is online."
)
@click.option(
    "--set", "of_set", is_flag=True, help="JOB is the id of a set: save all of it in a folder."
)
@_SHOW
@as_json
@settings(*CLIENT_SETTINGS)
@as_client
def get(*, job: str, settings: Config, client: str | None, **wanted: Any) -> None:
    """Save the outputs of a JOB that has ended, or of a whole set and what it has collected.

    A job's id may be shortened to what is unique.
    """
    from bridge.cli.run import RunOptions
    from bridge.cli.run import get as command

    run_async(command(settings, client_name(client, settings), job, RunOptions(**wanted)))
