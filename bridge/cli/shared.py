"""Shared parts of commands: options, the client's name, and how a failure ends them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn

import click

from bridge import config
from bridge.adapters.mqtt.broker_address import bridge_address
from bridge.config import Config, ConfigError
from bridge.contract.errors import BridgeError
from bridge.contract.topics import ID_RULE, is_id
from bridge.mqtt import ConnectionRefused, MqttError

FAILED = 1
WRONG_USAGE = 2
NO_BROKER = 3
INTERRUPTED = 130

# What a command that only handles keys needs to know.
KEY_SETTINGS = ("websocket_keys", "data")
# What a command that only talks to the broker needs to know.
CLIENT_SETTINGS = (
    "mqtt_url",
    "mqtt_ca",
    "mqtt_cert",
    "mqtt_key",
    "mqtt_password_file",
    "base_topic",
)


def stop(message: str, status: int) -> NoReturn:
    """End with one line for the user."""
    click.echo(f"comfy2mqtt: {message}", err=True)
    raise SystemExit(status)


def settings(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add `--config` and a flag for each of these settings; the command gets `settings`."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def wrapped(**options: Any) -> None:
            flags = {name: options.pop(name) for name in names}
            try:
                found = config.load(flags, file=options.pop("file"))
            except ConfigError as error:
                stop(str(error), WRONG_USAGE)
            function(settings=found, **options)

        for name in reversed(names):
            wrapped = click.option(f"--{name.replace('_', '-')}", name, metavar="VALUE")(wrapped)
        file = click.option(
            "--config", "file", type=click.Path(path_type=Path), help="The settings file."
        )
        return file(wrapped)

    return decorate


def as_client(function: Callable[..., None]) -> Callable[..., None]:
    """Add `--client`: whose jobs and topics the command uses."""
    return click.option(
        "--client",
        envvar="COMFY2MQTT_CLIENT",
        help="The client's name; by default the broker's user, else cli.",
    )(function)


def as_json(function: Callable[..., None]) -> Callable[..., None]:
    """Add `--json`: for scripts."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print JSON, for scripts, and nothing else."
    )(function)


def client_name(name: str | None, settings: Config) -> str:
    """Return the client's name that a command uses."""
    try:
        chosen = name or bridge_address(settings).username or "cli"
    except MqttError as error:
        stop(f"mqtt_url: {error}", WRONG_USAGE)
    if not is_id(chosen):
        stop(f"--client: {chosen!r}: expected {ID_RULE}", WRONG_USAGE)
    return chosen


def run_async(work: Coroutine[Any, Any, int]) -> NoReturn:
    """Run a command's coroutine, and end with its status, or with a line for what it raised."""
    try:
        status = asyncio.run(work)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except BridgeError as error:
        stop(explain(error), FAILED)
    except ConnectionRefused as error:
        stop(f"{error}; see mqtt_url (COMFY2MQTT_MQTT_URL)", NO_BROKER)
    except MqttError as error:
        stop(str(error), NO_BROKER)
    raise SystemExit(status)


def explain(error: BridgeError) -> str:
    """Return an error with what would be allowed, in one line."""
    allowed = error.details.get("allowed")
    if isinstance(allowed, list):
        allowed = ", ".join(map(str, allowed))
    return f"{error.message} (allowed: {allowed})" if allowed else error.message
