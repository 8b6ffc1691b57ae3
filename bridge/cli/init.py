"""`comfy2mqtt init`: five questions, and a settings file that is tried at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bridge import config
from bridge.adapters.mqtt.broker_address import bridge_address
from bridge.atomicfile import PRIVATE, write_file
from bridge.cli.broker_flags import BrokerFlags, broker_url
from bridge.cli.doctor import examine
from bridge.cli.shared import FAILED, WRONG_USAGE, stop
from bridge.config import ConfigError
from bridge.config.draft import draft
from bridge.mqtt import BadAddress

_PAGE = "127.0.0.1:8090"
_OWN = "own"


def write_settings(file: Path, *, overwrite: bool) -> None:
    """Ask, and write the file. Ends the command where it cannot be."""
    if file.exists() and not overwrite:
        stop(f"{file} exists already; --overwrite replaces it", WRONG_USAGE)
    chosen = _asked(file)
    try:
        write_file(file, draft(chosen).encode(), mode=PRIVATE)
    except OSError as error:
        stop(f"{file} cannot be written: {error.strerror}", FAILED)


async def try_settings(file: Path) -> int:
    """Try the file; returns the exit status of `doctor`."""
    click.echo(f"\n{file} is written. `comfy2mqtt doctor` tests it:\n")
    try:
        status = await examine(config.load({}, file=file), as_json=False)
    except ConfigError as error:
        stop(str(error), WRONG_USAGE)
    click.echo("\nStart the bridge with: comfy2mqtt serve" + _named(file))
    return status


def _named(file: Path) -> str:
    return "" if file == Path(config.FILE) else f" --config {file}"


def _asked(file: Path) -> dict[str, Any]:
    """Ask what has to be known, and return it as settings."""
    chosen: dict[str, Any] = {}
    url = click.prompt("1. Where is the MQTT broker? (host or host:port)", default="127.0.0.1:1883")
    user = click.prompt(
        "2. Which user of the broker? (empty: the broker asks for none)",
        default="",
        show_default=False,
    )
    if user:
        password = click.prompt("   The password", hide_input=True, default="", show_default=False)
        secret = file.with_name(f"{file.stem}.password")
        write_file(secret, f"{password}\n".encode(), mode=PRIVATE)
        chosen["mqtt_password_file"] = str(secret.resolve())
        click.echo(f"   The password is in {secret}, which only you may read.")
    chosen["mqtt_url"] = _broker(url, user)
    comfyui = click.prompt(
        "3. Which ComfyUI? (own: the bridge installs one; http://host:8188: one that runs;\n"
        "   a folder: the bridge starts that one)",
        default=_OWN,
    )
    if comfyui.startswith(("http://", "https://")):
        chosen["comfyui_url"] = comfyui
    elif comfyui != _OWN:
        chosen["comfyui_path"] = str(Path(comfyui).expanduser())
    page = click.prompt(
        "4. At which address is the web page served? (host:port; - for none)", default=_PAGE
    )
    if page != "-":
        chosen["websocket_listen"] = page
    if click.confirm("5. Announce the workflows to Home Assistant?", default=False):
        chosen["homeassistant"] = True
    return chosen


def _broker(given: str, user: str) -> str:
    """Return the URL of what was typed as a broker. Ends the command where it is none."""
    flags = BrokerFlags(username=user or None)
    try:
        url = broker_url(given if "://" in given else f"mqtt://{given}", flags)
        bridge_address(config.Config(mqtt_url=url))
    except (BadAddress, ValueError) as error:
        stop(f"the broker {given!r}: {error}", WRONG_USAGE)
    return url
