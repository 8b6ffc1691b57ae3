"""`comfy2mqtt run`, `replay` and `get`: one job, and what it gives as files."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import click
from msgspec import UNSET, Struct

from bridge.cli import run_set, terminal
from bridge.cli.destination import STANDARD_OUTPUT, destination_of, format_of
from bridge.cli.find import answering, client_of, job_id_of, need_bridge
from bridge.cli.options import INTERRUPTED
from bridge.cli.progress import follow
from bridge.cli.shared import FAILED, WRONG_USAGE, explain, stop
from bridge.cli.words import waiting
from bridge.client import Client, Job, JobOutput, Set
from bridge.config import Config
from bridge.contract.errors import BridgeError, UnknownWorkflow, from_wire
from bridge.contract.messages import Collect, Output, RecipeReport, Result, encode, or_unset
from bridge.contract.retained import Definition
from bridge.mqtt import MqttError
from bridge.text import did_you_mean

# How long the first answer may take; after it the broker drops the request as well.
ANSWER_S = 30.0
# How long a request that was given up is followed by its cancel, should the bridge have it.
_TAKE_BACK_S = 1.0


class RunOptions(Struct, frozen=True, kw_only=True):
    """The command line's wishes. `show`: None is where the terminal can."""

    inputs: tuple[str, ...] = ()
    output: str = "."
    job_id: str | None = None
    timeout_s: float | None = None
    as_json: bool = False
    show: bool | None = None
    wait: bool = False
    of_set: bool = False
    detach: bool = False
    each: Path | None = None
    grid: tuple[str, ...] = ()
    repeat: int | None = None
    collect: tuple[Collect, ...] = ()
    puts: tuple[str, ...] = ()
    webhook: str | None = None

    @property
    def is_set(self) -> bool:
        """True if it is a set of jobs."""
        return bool(self.each or self.grid or self.repeat)


async def run_job(settings: Config, name: str, workflow: str, wanted: RunOptions) -> int:
    """Run it; returns the exit status. Ctrl-C cancels the job."""
    _check(wanted)
    async with client_of(settings, name) as client:
        await need_bridge(client, settings, wait=wanted.wait)
        definition = await definition_of(client, workflow)
        given = read_inputs(wanted.inputs, definition)
        if wanted.is_set:
            return await _run_set(client, definition, given, wanted)
        return await _run(client, workflow, given, wanted)


async def _run_set(
    client: Client, definition: Definition, given: dict[str, Any], wanted: RunOptions
) -> int:
    if sum(map(bool, (wanted.each, wanted.grid, wanted.repeat))) > 1:
        stop("--each, --grid, --repeat: give one of them", WRONG_USAGE)
    folder = run_set.folder_of(wanted.output)
    each, grid = None, None
    if wanted.each is not None:
        each = await asyncio.to_thread(run_set.each_of, wanted.each, definition)
    elif wanted.grid:
        grid = run_set.grid_of(wanted.grid, definition)
    set_id = wanted.job_id or uuid.uuid4().hex
    async with answering(ANSWER_S):
        jobs = await client.submit_set(
            definition.name,
            given,
            each=each,
            grid=grid,
            repeat=wanted.repeat,
            collect=wanted.collect,
            set_id=set_id,
            timeout_s=wanted.timeout_s,
            put=wanted.puts,
            webhook=wanted.webhook,
        )
    if wanted.detach:
        click.echo(encode({"set_id": jobs.id}) if wanted.as_json else jobs.id)
        return 0
    return await run_set.save_results(
        jobs, folder, as_json=wanted.as_json, interrupted=_cancel_on_interrupt(jobs)
    )


async def replay(settings: Config, name: str, begun: str, wanted: RunOptions) -> int:
    """Run a job again, as it ran: the same version, the same inputs, the same seeds."""
    _check(wanted)
    async with client_of(settings, name) as client:
        await need_bridge(client, settings, wait=wanted.wait)
        async with answering(ANSWER_S):
            recipe = await client.recipe(await job_id_of(client, begun))
        definition = await client.workflow(recipe.workflow)
        given = _again(recipe, definition) | read_inputs(wanted.inputs, definition)
        _check_media(given)
        version = recipe.workflow_version
        return await _run(client, recipe.workflow, given, wanted, version)


async def get(settings: Config, name: str, begun: str, wanted: RunOptions) -> int:
    """Save what a job gave; with `wait`, once it has ended."""
    _check(wanted)
    async with client_of(settings, name) as client:
        await need_bridge(client, settings, wait=wanted.wait)
        if wanted.of_set:
            return await _get_set(client, begun, wanted)
        async with answering():
            job = client.job(await job_id_of(client, begun))
            view = await job.refresh()
        if view.result is UNSET and not wanted.wait:
            how = waiting(view.state, view.position, view.reason, view.eta_s)
            stop(f"job {job.id} has not ended: {how}; --wait waits for it", FAILED)
        result = await follow(job, quiet=wanted.as_json) if wanted.wait else await job.outcome()
        return await _conclude(job, result, wanted)


async def _get_set(client: Client, set_id: str, wanted: RunOptions) -> int:
    folder = run_set.folder_of(wanted.output)
    async with answering():
        jobs = client.job_set(set_id)
        view = await jobs.refresh()
    if view.result is UNSET and not wanted.wait:
        ended = view.counts.succeeded + view.counts.failed + view.counts.cancelled
        stop(f"set {jobs.id}: {ended} of {view.total} jobs have ended; --wait waits", FAILED)
    return await run_set.save_results(
        jobs, folder, as_json=wanted.as_json, interrupted=asyncio.Event()
    )


async def definition_of(client: Client, workflow: str) -> Definition:
    """Return a workflow's definition. Raises UnknownWorkflow, with the one that may be meant."""
    try:
        return await client.workflow(workflow)
    except UnknownWorkflow as error:
        names = list(await client.workflows())
        meant = did_you_mean(workflow, names)
        raise UnknownWorkflow(f"{error.message}{meant}", workflow=workflow, allowed=names) from None


def _check(wanted: RunOptions) -> None:
    """End the command where its wishes cannot be met, before anything is sent."""
    if wanted.collect and not wanted.is_set:
        stop("--collect is for sets: give one of --each, --grid and --repeat too", WRONG_USAGE)
    if wanted.detach:
        return
    if wanted.as_json and wanted.output == STANDARD_OUTPUT:
        stop("-o - and --json would both write to standard output: give one of them", WRONG_USAGE)
    destination_of(wanted.output).check()


async def _run(
    client: Client,
    workflow: str,
    given: Mapping[str, Any],
    wanted: RunOptions,
    version: str | None = None,
) -> int:
    job_id = wanted.job_id or uuid.uuid4().hex
    try:
        job = await client.submit(
            workflow,
            given,
            job_id=job_id,
            timeout_s=wanted.timeout_s,
            workflow_version=version,
            output=Output(format=or_unset(None if wanted.detach else format_of(wanted.output))),
            within_s=ANSWER_S,
            put=wanted.puts,
            webhook=wanted.webhook,
        )
    except TimeoutError:
        await _take_back(client, job_id)
    if wanted.detach:
        click.echo(encode({"job_id": job.id}) if wanted.as_json else job.id)
        return 0
    interrupted = _cancel_on_interrupt(job)
    result = await follow(job, quiet=wanted.as_json)
    status = await _conclude(job, result, wanted)
    return INTERRUPTED if status and interrupted.is_set() else status


async def _take_back(client: Client, job_id: str) -> NoReturn:
    """End the command, and see that what was sent does not run later, unasked for.

    The broker drops the request by its expiry. To one that knows none, or a bridge that had it
    already and could not answer, the cancel comes after it.
    """
    with suppress(TimeoutError, BridgeError, MqttError):
        async with asyncio.timeout(_TAKE_BACK_S):
            await client.cancel(job_id)
    stop(
        f"no answer within {ANSWER_S:g} s: the job was withdrawn. `comfy2mqtt doctor` reports "
        "what is wrong",
        FAILED,
    )


def _again(recipe: RecipeReport, definition: Definition) -> dict[str, Any]:
    """Return a recipe's inputs, but for those that no request may set: hidden seeds."""
    known = definition.inputs["properties"]
    for name in recipe.inputs.keys() - known.keys():
        click.echo(f"input {name!r} is set by the workflow: it cannot be repeated", err=True)
    return {name: value for name, value in recipe.inputs.items() if name in known}


def _check_media(inputs: Mapping[str, Any]) -> None:
    """Media is given by its hash alone in a recipe, and its bytes are not kept after the job."""
    for name, value in inputs.items():
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, dict) and "sha256" in first:
            stop(
                f"input {name!r} was media, which is not stored: give it again, -i {name}=@FILE",
                FAILED,
            )


async def _conclude(job: Job, result: Result, wanted: RunOptions) -> int:
    """Save what an ended job gave, and say where; or say why it gave nothing."""
    if result.state != "succeeded":
        _print_failure(result, as_json=wanted.as_json)
        return FAILED
    outputs = await job.outputs()
    target = destination_of(wanted.output)
    try:
        paths = await asyncio.to_thread(target.save, job, outputs)
    except OSError as error:
        stop(
            f"the job has succeeded; its outputs cannot be written: "
            f"{error.strerror or error}; the bridge has them: "
            f"comfy2mqtt get {job.id} -o FOLDER",
            FAILED,
        )
    if wanted.as_json:
        files = [str(path.resolve()) for path in paths]
        click.echo(encode({"files": files, "result": result}))
    else:
        _show_files(paths, outputs, wanted)
    return _print_deliveries(result)


def _print_deliveries(result: Result) -> int:
    """Print each delivery on standard error; returns the exit status."""
    status = 0
    for each in [] if result.delivered is UNSET else result.delivered:
        if each.error is UNSET:
            click.echo(f"output {each.output} is at {each.url}", err=True)
        else:
            why = explain(from_wire(each.error))
            click.echo(f"output {each.output} is not at {each.url}: {why}", err=True)
            status = FAILED
    return status


def _show_files(paths: Sequence[Path], outputs: Sequence[JobOutput], wanted: RunOptions) -> None:
    how = _shown_how(wanted)
    for path, output in zip(paths, outputs, strict=False):
        shown = how and terminal.picture(output.data, output.info.content_type, how)
        if shown:
            click.echo(shown)
        click.echo(str(path.resolve()))


def _shown_how(wanted: RunOptions) -> terminal.Protocol | None:
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


def _cancel_on_interrupt(job: Job | Set) -> asyncio.Event:
    """Handle Ctrl-C: the first one cancels the job or set, the second ends the command at once."""
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


def _print_failure(result: Result, *, as_json: bool) -> None:
    if as_json:
        click.echo(encode({"files": [], "result": result}))
    why = "" if result.error is UNSET else f": {explain(from_wire(result.error))}"
    click.echo(f"job {result.job_id} {result.state}{why}", err=True)
