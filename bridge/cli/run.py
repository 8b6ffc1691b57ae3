"""`comfy2mqtt run` and `replay`: one job, with a progress bar, and what it gives as files."""

from __future__ import annotations

import asyncio
import mimetypes
import os
import re
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from msgspec import UNSET, Struct

from bridge.adapters.mqtt.broker_address import bridge_address
from bridge.cli import terminal
from bridge.cli.progress import follow
from bridge.cli.shared import FAILED, INTERRUPTED, WRONG_USAGE, explain, stop
from bridge.client import Client, Job, JobOutput
from bridge.config import Config
from bridge.contract.errors import from_wire
from bridge.contract.messages import RecipeReport, Result, encode
from bridge.contract.retained import Definition

# How long the first answer may take: the bridge may be about to start.
ANSWER_S = 30.0
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")


class Wanted(Struct, frozen=True):
    """The command line's wishes. `show`: None is where the terminal can."""

    inputs: tuple[str, ...]
    folder: Path
    job_id: str | None = None
    timeout_s: float | None = None
    as_json: bool = False
    show: bool | None = None


async def run_job(settings: Config, name: str, workflow: str, wanted: Wanted) -> int:
    """Run it; returns the exit status. Ctrl-C cancels the job."""
    async with Client(bridge_address(settings), name, base=settings.base_topic) as client:
        try:
            async with asyncio.timeout(ANSWER_S):
                definition = await client.workflow(workflow)
                given = read_inputs(wanted.inputs, definition)
                job = await client.submit(
                    workflow, given, job_id=wanted.job_id, timeout_s=wanted.timeout_s
                )
        except TimeoutError:
            stop(f"no answer within {ANSWER_S:g} s: does the bridge run?", FAILED)
        return await _see_through(job, wanted)


async def replay(settings: Config, name: str, job_id: str, wanted: Wanted) -> int:
    """Run a job again, as it ran: the same version, the same inputs, the same seeds."""
    async with Client(bridge_address(settings), name, base=settings.base_topic) as client:
        try:
            async with asyncio.timeout(ANSWER_S):
                recipe = await client.recipe(job_id)
                definition = await client.workflow(recipe.workflow)
                given = _again(recipe, definition) | read_inputs(wanted.inputs, definition)
                _check_media(given)
                job = await client.submit(
                    recipe.workflow,
                    given,
                    job_id=wanted.job_id,
                    timeout_s=wanted.timeout_s,
                    workflow_version=recipe.workflow_version,
                )
        except TimeoutError:
            stop(f"no answer within {ANSWER_S:g} s: does the bridge run?", FAILED)
        return await _see_through(job, wanted)


def _again(recipe: RecipeReport, definition: Definition) -> dict[str, Any]:
    """Return a recipe's inputs, but for those that no request may set: hidden seeds."""
    known = definition.inputs["properties"]
    for name in recipe.inputs.keys() - known.keys():
        click.echo(f"input {name!r} is the workflow's own affair: not the same again", err=True)
    return {name: value for name, value in recipe.inputs.items() if name in known}


def _check_media(inputs: Mapping[str, Any]) -> None:
    """Media is given by its hash alone in a recipe, and its bytes are not kept after the job."""
    for name, value in inputs.items():
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, dict) and "sha256" in first:
            stop(f"input {name!r} was media, which is not kept: give it, -i {name}=@FILE", FAILED)


async def _see_through(job: Job, wanted: Wanted) -> int:
    """Follow a job to its end, and save what it gives."""
    interrupted = _cancel_on_interrupt(job)
    result = await follow(job, quiet=wanted.as_json)
    if result.state != "succeeded":
        _tell_failure(result, as_json=wanted.as_json)
        return INTERRUPTED if interrupted.is_set() else FAILED
    wanted.folder.mkdir(parents=True, exist_ok=True)
    outputs = await job.outputs()
    paths = [await asyncio.to_thread(_save, wanted.folder, job, each) for each in outputs]
    if wanted.as_json:
        files = [str(path.resolve()) for path in paths]
        click.echo(encode({"files": files, "result": result}))
        return 0
    how = _shown_how(wanted)
    for path, output in zip(paths, outputs, strict=True):
        shown = how and terminal.picture(output.data, output.info.content_type, how)
        if shown:
            click.echo(shown)
        click.echo(str(path.resolve()))
    return 0


def _shown_how(wanted: Wanted) -> terminal.Protocol | None:
    """Return the protocol to show pictures here, if any."""
    if wanted.show is False or not (wanted.show or sys.stdout.isatty()):
        return None
    return terminal.protocol(os.environ) or ("kitty" if wanted.show else None)


def read_inputs(inputs: tuple[str, ...], definition: Definition) -> dict[str, Any]:
    """Read `NAME=VALUE`; media inputs name a file, with or without @ before it."""
    found: dict[str, Any] = {}
    for each in inputs:
        name, equals, value = each.partition("=")
        if not equals:
            stop(f"-i {each}: expected NAME=VALUE", WRONG_USAGE)
        schema = definition.inputs["properties"].get(name, {})
        if "contentMediaType" in schema:
            path = Path(value.removeprefix("@"))
            if not path.is_file():
                stop(f"-i {name}: {str(path)!r} is no file", WRONG_USAGE)
            found[name] = path
        else:
            found[name] = value
    return found


def _cancel_on_interrupt(job: Job) -> asyncio.Event:
    """Let Ctrl-C cancel the job, and a second one end at once."""
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[Any]] = set()

    def cancel() -> None:
        interrupted.set()
        loop.remove_signal_handler(signal.SIGINT)
        click.echo("cancelling; Ctrl-C again to leave at once", err=True)
        tasks.add(asyncio.create_task(job.cancel()))

    with suppress(NotImplementedError):  # Windows
        loop.add_signal_handler(signal.SIGINT, cancel)
    return interrupted


def _tell_failure(result: Result, *, as_json: bool) -> None:
    if as_json:
        click.echo(encode({"files": [], "result": result}))
    why = "" if result.error is UNSET else f": {explain(from_wire(result.error))}"
    click.echo(f"job {result.job_id} {result.state}{why}", err=True)


def _save(folder: Path, job: Job, output: JobOutput) -> Path:
    """Write an output under a name that says whose it is; no path in it is believed."""
    info = output.info
    extension = mimetypes.guess_extension(info.content_type.partition(";")[0]) or ".bin"
    stem = _UNSAFE.sub("_", f"{job.workflow}-{job.id[:12]}-{info.index}")
    path = folder / f"{stem}{extension}"
    path.write_bytes(output.data)
    return path
