"""`comfy2mqtt workflows` and `cancel`: short questions, short answers."""

from __future__ import annotations

import asyncio
from typing import Any

import click
from msgspec import UNSET
from rich.console import Console
from rich.table import Table

from bridge.cli.shared import FAILED, stop
from bridge.client import Client
from bridge.config import Config
from bridge.contract.messages import Definition
from bridge.doors.mqtt.addresses import of_bridge

ANSWER_S = 10.0


async def show_workflows(settings: Config, name: str, workflow: str | None) -> int:
    """Print all workflows, or one with its inputs and outputs."""
    console = Console()
    async with Client(of_bridge(settings), name, base=settings.base_topic) as client:
        if workflow is None:
            found = await client.workflows()
            if not found:
                stop("there are no workflows: has the bridge run here?", FAILED)
            console.print(_overview(found))
        else:
            definition = await client.workflow(workflow)
            console.print(_inputs(definition))
            for output in definition.outputs:
                console.print(f"output [bold]{output.name}[/]: {output.kind}")
            if definition.runnable is False:
                console.print(f"[red]cannot run[/]: {_missing(definition)}")
    return 0


async def cancel_job(settings: Config, name: str, job_id: str) -> int:
    """Cancel a job and print what became of it."""
    async with Client(of_bridge(settings), name, base=settings.base_topic) as client:
        try:
            async with asyncio.timeout(ANSWER_S):
                report = await client.cancel(job_id)
        except TimeoutError:
            stop(f"no answer within {ANSWER_S:g} s: does the bridge run?", FAILED)
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


def _runnable(definition: Definition) -> str:
    if definition.runnable is UNSET:
        return "unknown yet"
    return "yes" if definition.runnable else f"[red]no[/]: {_missing(definition)}"


def _missing(definition: Definition) -> str:
    if definition.forbidden is not UNSET:
        return "not allowed: " + ", ".join(definition.forbidden)
    if definition.missing is UNSET:
        return ""
    choices = (f"{choice.input} {choice.value!r}" for choice in definition.missing.choices)
    return "missing " + ", ".join((*definition.missing.nodes, *choices))


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
