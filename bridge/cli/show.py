"""`comfy2mqtt workflows`, `jobs`, `show` and `cancel`: prints workflows and jobs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import click
import msgspec
from msgspec import UNSET, to_builtins

from bridge.cli.find import all_jobs, answering, client_of, job_id_of, need_bridge
from bridge.cli.run import definition_of
from bridge.cli.shared import FAILED, explain, stop
from bridge.cli.terminal import show_table
from bridge.cli.words import duration, size, waiting
from bridge.config import Config
from bridge.contract.errors import from_wire
from bridge.contract.messages import (
    CancelReport,
    JobView,
    OutputInfo,
    Result,
    State,
    encode,
    or_none,
)
from bridge.contract.missing import why_not_runnable
from bridge.contract.retained import Definition
from bridge.contract.sets import SetResult, SetView


async def show_workflows(
    settings: Config, name: str, workflow: str | None, *, as_json: bool
) -> int:
    """Print all workflows, or one with its inputs and outputs."""
    async with client_of(settings, name) as client:
        if workflow is not None:
            definition = await definition_of(client, workflow)
            if as_json:
                click.echo(encode(definition))
            else:
                _show_workflow(definition)
            return 0
        found = await client.workflows()
    if as_json:
        click.echo(encode(list(found.values())))
    elif not found:
        stop("there are no workflows: did a bridge ever run at this broker?", FAILED)
    else:
        _overview(found)
    return 0


def _show_workflow(definition: Definition) -> None:
    click.echo(definition.title)
    show_table(("input", "kind", "default", "allowed", "description"), _inputs(definition))
    for output in definition.outputs:
        click.echo(f"output {output.name}: {output.kind}")
    if definition.runnable is False:
        click.echo(f"cannot run: {_missing(definition)}")


async def show_jobs(
    settings: Config, name: str, states: list[State], *, limit: int | None, as_json: bool
) -> int:
    """Print the client's jobs, the newest first, without acking any; `limit`: no more than that."""
    async with client_of(settings, name) as client, answering():
        await need_bridge(client, settings)
        found = await all_jobs(client, states)
    found.sort(key=lambda each: each.accepted_at, reverse=True)
    shown = found[:limit]
    if as_json:
        click.echo(encode(shown))
        return 0
    rows = (
        (
            each.job_id,
            each.workflow,
            waiting(each.state, each.position, each.reason, each.eta_s),
            _clock(each.accepted_at),
        )
        for each in shown
    )
    show_table(("job", "workflow", "state", "accepted"), rows)
    if len(found) > len(shown):
        click.echo(f"and {len(found) - len(shown)} older ones: --all shows them", err=True)
    return 0


async def show_job(settings: Config, name: str, begun: str, *, of_set: bool, as_json: bool) -> int:
    """Print all about one job, or about a set of that id."""
    view: JobView | SetView
    async with client_of(settings, name) as client, answering():
        await need_bridge(client, settings)
        if of_set:
            view = await client.job_set(begun).refresh()
        else:
            view = await client.status(await job_id_of(client, begun))
    if as_json:
        click.echo(encode(view))
    elif isinstance(view, SetView):
        show_table(("set", view.set_id), _facts_of_set(view))
    else:
        show_table(("job", view.job_id), _facts(view))
    return 0


def _facts_of_set(view: SetView) -> Iterator[tuple[str, str]]:
    yield "workflow", view.workflow
    yield "state", view.state
    yield "accepted", _clock(view.accepted_at)
    counts = {name: number for name, number in to_builtins(view.counts).items() if number}
    yield "jobs", ", ".join(f"{number} {name}" for name, number in counts.items())
    if view.result is UNSET:
        return
    result = msgspec.json.decode(view.result, type=SetResult)
    yield from map(_output, or_none(result.outputs) or ())
    for each in or_none(result.missing) or ():
        yield f"missing {each.name}", each.error.message


def _facts(view: JobView) -> Iterator[tuple[str, str]]:
    yield "workflow", view.workflow
    yield "state", waiting(view.state, view.position, view.reason, view.eta_s)
    yield "accepted", _clock(view.accepted_at)
    if view.result is UNSET:
        return
    result = msgspec.json.decode(view.result, type=Result)
    if result.error is not UNSET:
        yield "error", f"{result.error.code}: {explain(from_wire(result.error))}"
    times = result.timings
    took = times.load_s + times.run_s + times.deliver_s
    yield "took", f"{duration(took)}, after {duration(times.queued_s)} in the queue"
    yield "attempts", str(result.attempts)
    if result.instance is not UNSET:
        yield "ComfyUI", result.instance
    for input_name, value in result.inputs.items():
        yield f"input {input_name}", value if isinstance(value, str) else encode(value).decode()
    yield from map(_output, result.outputs)


def _output(info: OutputInfo) -> tuple[str, str]:
    pixels = "" if info.width is UNSET else f", {info.width} x {info.height}"
    return f"output {info.index}", f"{info.content_type}, {size(info.size)}{pixels}"


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


async def cancel_job(
    settings: Config, name: str, begun: str, *, of_set: bool, as_json: bool
) -> int:
    """Cancel a job, or a set of that id, and print what became of it."""
    report: CancelReport | SetView
    async with client_of(settings, name) as client, answering():
        await need_bridge(client, settings)
        if of_set:
            report = await client.job_set(begun).cancel()
        else:
            report = await client.cancel(await job_id_of(client, begun))
    if as_json:
        click.echo(encode(report))
    else:
        cancelling = isinstance(report, CancelReport) and report.cancelling
        named = report.job_id if isinstance(report, CancelReport) else report.set_id
        click.echo(f"{named}: {'cancelling' if cancelling else report.state}")
    return 0


def _overview(found: dict[str, Definition]) -> None:
    rows = []
    for name, definition in found.items():
        inputs = list(definition.inputs["properties"])
        shown = ", ".join(inputs[:8]) + (f" and {len(inputs) - 8} more" if inputs[8:] else "")
        outputs = ", ".join(output.name for output in definition.outputs)
        rows.append((name, _runnable(definition), shown, outputs))
    show_table(("workflow", "runnable", "inputs", "outputs"), rows)


def _runnable(definition: Definition) -> str:
    if definition.runnable is UNSET:
        return "unknown yet"
    return "yes" if definition.runnable else f"no: {_missing(definition)}"


def _missing(definition: Definition) -> str:
    if definition.forbidden is not UNSET:
        return "not allowed: " + ", ".join(definition.forbidden)
    return (
        "" if definition.missing is UNSET else why_not_runnable(definition.name, definition.missing)
    )


def _inputs(definition: Definition) -> Iterator[tuple[str, ...]]:
    required = definition.inputs.get("required", [])
    for name, schema in definition.inputs["properties"].items():
        default = "(required)" if name in required else str(schema.get("default", ""))
        about = schema.get("description") or schema.get("title") or schema.get("x-place", "")
        yield (name, schema["x-kind"], default, _allowed(schema), about)


def _allowed(schema: dict[str, Any]) -> str:
    if "x-choices" in schema:
        return f"see bridge/choices/{schema['x-choices']}"
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"][:8])) + (" ..." if schema["enum"][8:] else "")
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is None and high is None:
        return f"up to {schema['maxLength']} characters" if "maxLength" in schema else ""
    return f"{'' if low is None else low} to {'' if high is None else high}"
