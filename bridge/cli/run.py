"""`comfy2mqtt run`: one job, with a progress bar, and what it gives as files."""

from __future__ import annotations

import asyncio
import mimetypes
import re
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from msgspec import UNSET, Struct
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from bridge.cli.shared import FAILED, INTERRUPTED, WRONG_USAGE, explain, stop
from bridge.client import Client, Job, JobOutput
from bridge.config import Config
from bridge.contract import messages
from bridge.contract.errors import from_wire
from bridge.contract.messages import Definition, Result
from bridge.doors.mqtt.addresses import of_bridge

# How long the first answer may take: the bridge may be about to start.
ANSWER_S = 30.0
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")


class Wanted(Struct, frozen=True):
    """What the command line asks for."""

    workflow: str
    inputs: tuple[str, ...]
    folder: Path
    job_id: str | None
    timeout_s: float | None


async def run_job(settings: Config, name: str, wanted: Wanted) -> int:
    """Run it; returns the exit status. Ctrl-C cancels the job."""
    async with Client(of_bridge(settings), name, base=settings.base_topic) as client:
        try:
            async with asyncio.timeout(ANSWER_S):
                definition = await client.workflow(wanted.workflow)
                job = await client.submit(
                    wanted.workflow,
                    read_inputs(wanted.inputs, definition),
                    job_id=wanted.job_id,
                    timeout_s=wanted.timeout_s,
                )
        except TimeoutError:
            stop(f"no answer within {ANSWER_S:g} s: does the bridge run?", FAILED)
        interrupted = _cancel_on_interrupt(job)
        result = await _follow(job)
        if result.state != "succeeded":
            _tell_failure(result)
            return INTERRUPTED if interrupted.is_set() else FAILED
        wanted.folder.mkdir(parents=True, exist_ok=True)
        for output in await job.outputs():
            path = await asyncio.to_thread(_save, wanted.folder, job, output)
            click.echo(str(path.resolve()))
        return 0


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
    """Have Ctrl-C cancel the job, a second one end at once."""
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


async def _follow(job: Job) -> Result:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, transient=False) as bar:
        task = bar.add_task(f"{job.workflow} queued", total=100)
        async for event in job:
            match event:
                case messages.JobStatus(state=state, position=position):
                    place = f", {position} before it" if position not in (UNSET, 0) else ""
                    bar.update(task, description=f"{job.workflow} {state}{place}")
                case messages.Progress(percent=percent):
                    bar.update(task, completed=percent)
                case Result(state=state):
                    done = 100 if state == "succeeded" else None
                    bar.update(task, description=f"{job.workflow} {state}", completed=done)
    return await job.outcome()


def _tell_failure(result: Result) -> None:
    why = "" if result.error is UNSET else f": {explain(from_wire(result.error))}"
    click.echo(f"job {result.job_id} {result.state}{why}", err=True)


def _save(folder: Path, job: Job, output: JobOutput) -> Path:
    """Write an output under a name that tells whose it is; no path in it is believed."""
    info = output.info
    extension = mimetypes.guess_extension(info.content_type.partition(";")[0]) or ".bin"
    stem = _UNSAFE.sub("_", f"{job.workflow}-{job.id[:12]}-{info.index}")
    path = folder / f"{stem}{extension}"
    path.write_bytes(output.data)
    return path
