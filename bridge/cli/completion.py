"""Tab completion: the shells' scripts, and the names that only a broker knows.

A broker that is slow or offline must not block a shell: then there is nothing to offer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click
from click.shell_completion import CompletionItem, get_completion_class

from bridge import config
from bridge.aio import new_event_loop
from bridge.cli.find import client_of
from bridge.cli.options import FLAG_NAMES, BrokerFlags
from bridge.cli.shared import CLIENT_SETTINGS, FAILED, client_name, load_settings, stop
from bridge.client import Client
from bridge.contract.errors import BridgeError
from bridge.mqtt import MqttError

T = TypeVar("T")

_PATIENCE_S = 3.0
_PROGRAM = "comfy2mqtt"
_VARIABLE = "_COMFY2MQTT_COMPLETE"


def script(command: click.Command, shell: str) -> str:
    """Return a shell's script for completion."""
    kind = get_completion_class(shell)
    if kind is None:
        stop(f"{shell}: there is no completion for it", FAILED)
    return kind(command, {}, _PROGRAM, _VARIABLE).source()


def workflows(
    context: click.Context, _parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    """Offer the names of workflows."""

    async def ask(client: Client) -> list[CompletionItem]:
        found = await client.workflows()
        return [CompletionItem(name, help=each.title) for name, each in found.items()]

    return _beginning(begun, _asked(context, ask))


def inputs(context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer the inputs of the workflow that stands before, and the choices of one."""
    # An option without its value yet leaves click's parsing unfinished: the words are still there.
    words = (context.params.get("workflow"), *context.args)
    workflow = next((each for each in words if each and not each.startswith("-")), None)
    if workflow is None:
        return []

    async def ask(client: Client) -> list[CompletionItem]:
        definition = await client.workflow(workflow)
        found = []
        for name, schema in definition.inputs["properties"].items():
            if "x-place" not in schema:
                found.append(CompletionItem(f"{name}=", help=schema.get("title")))
            found += [CompletionItem(f"{name}={choice}") for choice in schema.get("enum", ())]
        return found

    found = _beginning(begun, _asked(context, ask))
    return found if "=" in begun else [item for item in found if item.value.endswith("=")]


def jobs(context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer the client's jobs, the newest first."""

    async def ask(client: Client) -> list[CompletionItem]:
        page = await client.jobs(limit=100)
        return [CompletionItem(each.job_id, help=each.state) for each in reversed(page.jobs)]

    return _beginning(begun, _asked(context, ask))


def _beginning(begun: str, found: list[CompletionItem]) -> list[CompletionItem]:
    return [item for item in found if item.value.startswith(begun)]


def _asked(
    context: click.Context, ask: Callable[[Client], Awaitable[list[CompletionItem]]]
) -> list[CompletionItem]:
    """Ask the broker that the line so far names."""
    given = context.params.get
    flags = {name: given(name) for name in CLIENT_SETTINGS}
    broker = BrokerFlags(**{name: given(name) for name in FLAG_NAMES})
    try:
        settings = load_settings(flags, broker, given("file"))
        name = client_name(given("client"), settings)
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(_within(settings, name, ask))
    except (config.ConfigError, BridgeError, MqttError, OSError, TimeoutError, SystemExit):
        return []


async def _within(settings: config.Config, name: str, ask: Callable[[Client], Awaitable[T]]) -> T:
    async with asyncio.timeout(_PATIENCE_S), client_of(settings, name) as client:
        return await ask(client)
