"""`comfy2mqtt workflows`, `jobs` and `cancel`: short questions, short answers."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import click
from msgspec import UNSET
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bridge.adapters.mqtt.broker_address import bridge_address
from bridge.cli.shared import FAILED, stop
from bridge.client import Client
from bridge.config import Config
from bridge.contract.messages import JobView, State, encode
from bridge.contract.retained import Definition

ANSWER_S = 10.0
_WIDE = 200


async def show_workflows(
    settings: Config, name: str, workflow: str | None, *, as_json: bool
) -> int:
    """Print all workflows, or one with its inputs and outputs."""
    async with Client(bridge_address(settings), name, base=settings.base_topic) as client:
        if workflow is not None:
            definition = await client.workflow(workflow)
            if as_json:
                click.echo(encode(definition))
            else:
                _show_workflow(definition)
            return 0
        found = await client.workflows()
    if as_json:
        click.echo(encode(list(found.values())))
    elif not found:
        stop("there are no workflows: has the bridge run here?", FAILED)
    elif sys.stdout.isatty():
        Console().print(_overview(found))
    else:
        for each in found.values():
            click.echo(f"{each.name}\t{_runnable(each, plain=True)}\t{each.title}")
    return 0


def _show_workflow(definition: Definition) -> None:
    # In a pipe there is no width to keep to.
    console = Console(width=None if sys.stdout.isatty() else _WIDE)
    console.print(_inputs(definition))
    for output in definition.outputs:
        console.print(f"output [bold]{escape(output.name)}[/]: {output.kind}")
    if definition.runnable is False:
        console.print(f"[red]cannot run[/]: {escape(_missing(definition))}")


async def show_jobs(settings: Config, name: str, states: list[State], *, as_json: bool) -> int:
    """Print the client's jobs, a line each, without acking any."""
    found: list[JobView] = []
    async with Client(bridge_address(settings), name, base=settings.base_topic) as client:
        try:
            async with asyncio.timeout(ANSWER_S):
                page = await client.jobs(states=states or None, limit=100, peek=True)
                found += page.jobs
                while page.more:
                    after = page.jobs[-1].n
                    page = await client.jobs(after, states=states or None, limit=100, peek=True)
                    found += page.jobs
        except TimeoutError:
            stop(f"no answer within {ANSWER_S:g} s: does the bridge run?", FAILED)
    if as_json:
        click.echo(encode(found))
        return 0
    for each in found:
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each.accepted_at))
        click.echo(f"{each.job_id}\t{each.workflow}\t{each.state}\t{began}")
    return 0


async def cancel_job(settings: Config, name: str, job_id: str, *, as_json: bool) -> int:
    """Cancel a job and print what became of it."""
    async with Client(bridge_address(settings), name, base=settings.base_topic) as client:
        try:
            async with asyncio.timeout(ANSWER_S):
                report = await client.cancel(job_id)
        except TimeoutError:
            stop(f"no answer within {ANSWER_S:g} s: does the bridge run?", FAILED)
    if as_json:
        click.echo(encode(report))
    else:
        click.echo(f"{job_id}: {'cancelling' if report.cancelling else report.state}")
    return 0


def _overview(found: dict[str, Definition]) -> Table:
    table = Table("workflow", "inputs", "outputs", "runnable")
    for name, definition in found.items():
        inputs = list(definition.inputs["properties"])
        shown = ", ".join(inputs[:8]) + (f" and {len(inputs) - 8} more" if inputs[8:] else "")
        outputs = ", ".join(output.name for output in definition.outputs)
        table.add_row(name, shown, outputs, _runnable(definition))
    return table


def _runnable(definition: Definition, *, plain: bool = False) -> str:
    if definition.runnable is UNSET:
        return "unknown yet"
    if definition.runnable:
        return "yes"
    return f"no: {_missing(definition)}" if plain else f"[red]no[/]: {escape(_missing(definition))}"


def _missing(definition: Definition) -> str:
    if definition.forbidden is not UNSET:
        return "not allowed: " + ", ".join(definition.forbidden)
    if definition.missing is UNSET:
        return ""
    choices = (f"{choice.input} {choice.value!r}" for choice in definition.missing.choices)
    links = (f"a link to {each.input} of node {each.node}" for each in definition.missing.inputs)
    return "missing " + ", ".join((*definition.missing.nodes, *choices, *links))


def _inputs(definition: Definition) -> Table:
    table = Table("input", "kind", "default", "allowed", "description", title=definition.title)
    required = definition.inputs.get("required", [])
    for name, schema in definition.inputs["properties"].items():
        default = "(required)" if name in required else str(schema.get("default", ""))
        about = schema.get("description") or schema.get("title") or schema.get("x-place", "")
        table.add_row(name, schema["x-kind"], default, _allowed(schema), about)
    return table


def _allowed(schema: dict[str, Any]) -> str:
    if "x-choices" in schema:
        return f"see bridge/choices/{schema['x-choices']}"
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"][:8])) + (" ..." if schema["enum"][8:] else "")
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is None and high is None:
        return f"up to {schema['maxLength']} characters" if "maxLength" in schema else ""
    return f"{'' if low is None else low} to {'' if high is None else high}"
