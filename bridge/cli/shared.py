"""Shared parts of commands: options, the client's name, and how a failure ends them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec

from bridge import config
from bridge.adapters.mqtt.broker_address import CERTIFICATE, bridge_address
from bridge.aio import new_event_loop
from bridge.cli.diagnostics import Finding
from bridge.cli.options import FLAG_NAMES, BrokerFlags, broker_options, broker_url, setting_option
from bridge.config import Config, ConfigError
from bridge.config.about import GROUPS, WEB
from bridge.contract.errors import BridgeError
from bridge.contract.topics import ID_RULE, is_id
from bridge.mqtt import BadAddress, BadCertificate, ConnectionRefused, MqttError

FAILED = 1
WRONG_USAGE = 2
NO_BROKER = 3

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
# What the web adapter alone uses; it accepts the flags of all others too.
WEB_SETTINGS = (*CLIENT_SETTINGS, *GROUPS[WEB], "data", "log_level", "log_format")
# What `doctor` looks at; its `--journal` is an option of its own.
DOCTOR_SETTINGS = (
    *CLIENT_SETTINGS,
    "isolation_probe_url",
    "comfyui_url",
    "comfyui_path",
    "comfyui_python",
    "comfyui_secret",
    "comfyui",
    "workflows",
    "data",
    "member",
)


def stop(message: str, status: int) -> NoReturn:
    """End with one line for the user."""
    click.echo(f"comfy2mqtt: {message}", err=True)
    raise SystemExit(status)


def load_settings(flags: Mapping[str, Any], broker: BrokerFlags, file: Path | None) -> Config:
    """Read the settings, with the broker that its own flags name. Raises ConfigError."""
    found = config.load(flags, file=file)
    if not broker.given:
        return found
    if broker.host is not None and flags.get("mqtt_url") is not None:
        raise ConfigError("--mqtt-url and --host name two brokers: give one of them")
    try:
        url = broker_url(found.mqtt_url, broker)
    except ValueError:
        return found  # what is wrong with its URL is said where it is used
    return replaced(found, broker.flags, mqtt_url=url)


def replaced(config: Config, where: str, **given: Any) -> Config:
    """Return settings with others that an option gives, whose name errors then say."""
    sources = config.sources
    elsewhere = {**sources.elsewhere, **dict.fromkeys(given, where)}
    sources = msgspec.structs.replace(sources, elsewhere=elsewhere)
    return msgspec.structs.replace(config, **given, sources=sources)


def settings(
    *names: str, shown: Iterable[str] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add `--config` and a flag for each of these settings; the command gets `settings`.

    `--help` lists those of `shown`, by default all.
    """
    listed = names if shown is None else tuple(shown)

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def wrapped(**options: Any) -> None:
            flags = {name: options.pop(name) for name in names}
            named = FLAG_NAMES if "mqtt_url" in names else ()
            broker = BrokerFlags(**{name: options.pop(name) for name in named})
            try:
                found = load_settings(flags, broker, options.pop("file"))
            except ConfigError as error:
                stop(str(error), WRONG_USAGE)
            try:
                function(settings=found, **options)
            except ConfigError as error:
                stop(found.sources.explain(error), WRONG_USAGE)

        command: Callable[..., None] = wrapped
        for name in reversed(names):
            command = setting_option(name, hidden=name not in listed)(command)
        if "mqtt_url" in names:
            command = broker_options(command)
        file = click.option(
            "--config",
            "file",
            envvar="COMFY2MQTT_CONFIG",
            type=click.Path(path_type=Path),
            help="The settings file; without it comfy2mqtt.toml, where there is one."
            "  [COMFY2MQTT_CONFIG]",
        )
        return file(command)

    return decorate


def as_client(function: Callable[..., None]) -> Callable[..., None]:
    """Add `--client`: whose jobs and topics the command uses."""
    return click.option(
        "--client",
        envvar="COMFY2MQTT_CLIENT",
        help="The client's name; by default the broker's user, else cli.  [COMFY2MQTT_CLIENT]",
    )(function)


def as_json(function: Callable[..., None]) -> Callable[..., None]:
    """Add `--json`: for scripts."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print JSON, for scripts, and nothing else."
    )(function)


def client_name(name: str | None, settings: Config) -> str:
    """Return the client's name that a command uses. Raises ConfigError."""
    chosen = name or bridge_address(settings).username or "cli"
    if not is_id(chosen):
        stop(f"--client: {chosen!r}: expected {ID_RULE}", WRONG_USAGE)
    return chosen


def run_async(work: Coroutine[Any, Any, int]) -> NoReturn:
    """Run a command's coroutine, and end with its status, or with a line for what it raised."""
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            status = runner.run(work)
    except BridgeError as error:
        stop(explain(error), FAILED)
    except msgspec.MsgspecError as error:
        # Of another version, or from another program that publishes there.
        stop(f"what the bridge published cannot be read: {error}", FAILED)
    except BadAddress as error:
        stop(str(error), WRONG_USAGE)
    except ConnectionRefused as error:
        stop(f"{error}; see mqtt_url (COMFY2MQTT_MQTT_URL)", NO_BROKER)
    except BadCertificate as error:
        stop(f"{error}; {CERTIFICATE}", NO_BROKER)
    except MqttError as error:
        stop(f"{error}; is a broker running there? -H and -p name another", NO_BROKER)
    raise SystemExit(status)


def explain(error: BridgeError) -> str:
    """Return an error with what would be allowed, in one line."""
    near = error.details.get("near")
    allowed = near or error.details.get("allowed")
    if isinstance(allowed, list):
        allowed = ", ".join(map(str, allowed))
    which = "like it" if near else "allowed"
    message = f"{error.message} ({which}: {allowed})" if allowed else error.message
    setting = error.details.get("setting")
    return f"{message}; the bridge's setting {setting} decides that" if setting else message


def show_finding(finding: Finding, *, as_json: bool) -> None:
    """Print a finding of `doctor`: a line, and one with the advice; or JSON."""
    if as_json:
        click.echo(msgspec.json.encode(finding))
        return
    click.echo(f"{'ok  ' if finding.good else 'BAD '} {finding.what}")
    if finding.advice:
        click.echo(f"     -> {finding.advice}")
