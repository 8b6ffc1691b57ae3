"""`comfy2mqtt comfyui` and `comfy2mqtt queue`: an operator's commands, from the shell."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from typing import Any

import click
import msgspec
from msgspec import UNSET

from bridge.adapters.mqtt.broker_address import bridge_address
from bridge.cli.diagnostics import explain_release
from bridge.cli.find import away
from bridge.cli.shared import FAILED, stop
from bridge.cli.terminal import show_table
from bridge.cli.words import duration
from bridge.client.session import ReceivedAnswer, read_answer
from bridge.config import Config
from bridge.contract.messages import encode, or_none
from bridge.contract.operator import (
    VERBS,
    ClearReport,
    InstancesReport,
    LinkReport,
    OfAll,
    PauseReport,
    QueueReport,
    ReleaseReport,
    Report,
)
from bridge.contract.retained import ComfyUIState
from bridge.contract.topics import Topics
from bridge.mqtt import Connection, PublishProperties, Subscription

ANSWER_S = 10.0


async def send_command(
    settings: Config, verb: str, fields: dict[str, Any], *, as_json: bool
) -> int:
    """Send a command, and print the answer. Raises BridgeError if it is refused."""
    report = await ask(settings, verb, fields)
    if as_json:
        click.echo(encode(report))
    else:
        _show(report)
        if isinstance(report, OfAll) and report.failed is not UNSET:
            for name, error in report.failed.items():
                click.echo(f"not at bridge {name}: {error.message}", err=True)
    return 0


async def update(settings: Config, fields: Mapping[str, str], *, look: bool, as_json: bool) -> int:
    """Install another release of ComfyUI, or only look for one. Raises as `send_command`."""
    command = {**fields, "install": not look}
    status = await send_command(settings, "comfyui/update", command, as_json=as_json)
    begun = "it looks now" if look else "it is installed now"
    click.echo(f"({begun}: `comfy2mqtt doctor` says how far it is)", err=True)
    return status


async def ask(settings: Config, verb: str, fields: dict[str, Any]) -> Report:
    """Send a command, and return the answer. Raises BridgeError if it is refused."""
    topics = Topics(settings.base_topic)
    transaction = uuid.uuid4().hex
    async with Connection(bridge_address(settings)) as connection:
        await connection.subscribe([Subscription(filter=topics.state)])
        await connection.subscribe([Subscription(filter=topics.command_response(verb))])
        # What is retained comes before the answer to the second subscription.
        state = None
        while connection.messages.backlog:
            state = (await anext(connection.messages)).payload
        if state != b"online":
            reason = away(settings, None if state is None else state.decode(errors="replace"))
            stop(f"{reason}: nothing was sent. Start it (`comfy2mqtt serve`)", FAILED)
        await connection.publish(
            topics.command(verb),
            encode({**fields, "transaction": transaction}),
            qos=1,
            # A bridge that is away must not find it when it is back.
            properties=PublishProperties(message_expiry=int(ANSWER_S)),
        )
        try:
            async with asyncio.timeout(ANSWER_S):
                response = await _response(connection, transaction)
        except TimeoutError:
            why = "may this user publish commands (docs/operations.md)? `comfy2mqtt doctor`"
            stop(f"no answer within {ANSWER_S:g} s: {why}", FAILED)
    return read_answer(verb, response, VERBS[verb].report)


async def _response(connection: Connection, transaction: str) -> ReceivedAnswer:
    async for message in connection.messages:
        if not message.payload.startswith(b"{"):
            continue  # the bridge's state
        response = msgspec.json.decode(message.payload, type=ReceivedAnswer)
        if response.transaction == transaction:
            return response
    raise AssertionError("messages end with an error, or not at all")


def _show(report: Report) -> None:
    match report:
        case InstancesReport(instances=instances):
            show_table(("comfyui", "state", "for", "restarts", "why"), map(_row, instances.items()))
            for name, comfyui in instances.items():
                if comfyui.release is not UNSET:
                    click.echo(explain_release(name, comfyui.release).what)
        case LinkReport(url=url, lasts_s=lasts_s):
            click.echo(url)
            if lasts_s is not UNSET:
                here = "in one browser on the bridge's machine"
                click.echo(f"(works once, {here}, for {lasts_s:g} s)", err=True)
        case QueueReport():
            _show_queue(report)
        case PauseReport(paused=paused):
            click.echo("the queue is paused" if paused else "the queue runs")
        case ClearReport(cancelled=cancelled):
            click.echo(f"{cancelled} jobs cancelled")
        case ReleaseReport(released=released):
            click.echo(f"{released} prompts are allowed again")
        case _:
            click.echo(encode(report))


def _row(named: tuple[str, ComfyUIState]) -> tuple[str, ...]:
    name, comfyui = named
    why = "" if comfyui.reason is UNSET else f"{comfyui.reason}: {comfyui.last_error}"
    why = or_none(comfyui.held) or why
    state = f"{comfyui.state}, yielding" if comfyui.yielding is True else comfyui.state
    return (name, state, duration(time.time() - comfyui.since), str(comfyui.restarts), why)


def _show_queue(report: QueueReport) -> None:
    held = "" if report.held is UNSET else f"; none starts: {report.held}"
    if report.paused:
        held = ", paused"
    click.echo(f"{report.running} at ComfyUI, {report.queued} queued{held}")
    rows = (
        (
            each.client,
            each.job_id,
            each.workflow,
            each.state,
            "" if each.position is UNSET else str(each.position),
            "" if each.instance is UNSET else each.instance,
        )
        for each in report.jobs
    )
    if report.jobs:
        show_table(("client", "job", "workflow", "state", "before it", "comfyui"), rows)
    if report.more:
        click.echo("...")
