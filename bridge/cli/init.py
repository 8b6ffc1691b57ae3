"""`comfy2mqtt init`: five questions, and a settings file that is tried at once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import click

from bridge import config, resources
from bridge.adapters.mqtt.broker_address import bridge_address
from bridge.atomicfile import PRIVATE, write_file
from bridge.cli.doctor import examine
from bridge.cli.options import BrokerFlags, broker_url
from bridge.cli.shared import FAILED, WRONG_USAGE, stop
from bridge.config import ConfigError
from bridge.config.reference import draft

_PAGE = "127.0.0.1:8090"
_NO_PAGE = "-"
_OWN = "own"


def write_settings(file: Path, *, overwrite: bool) -> None:
    """Ask, and write the file. Ends the command if it cannot be."""
    if file.is_dir():
        stop(f"{file} is a folder: name a file", WRONG_USAGE)
    if file.exists() and not overwrite:
        stop(f"{file} exists already; --overwrite replaces it", WRONG_USAGE)
    if not (file.parent.is_dir() and os.access(file.parent, os.W_OK)):
        stop(f"{file} cannot be written: {file.parent} is no folder that you may write", FAILED)
    chosen = _asked(file)
    try:
        write_file(file, draft(chosen).encode(), mode=PRIVATE)
    except OSError as error:
        stop(f"{file} cannot be written: {error.strerror}", FAILED)
    click.echo(f"\n{file} is written.")
    if file.resolve().parent == Path.cwd() and "COMFY2MQTT_WORKFLOWS" not in os.environ:
        _make_workflows()


def _make_workflows() -> None:
    """Make the folder that `serve` reads in the working folder, with the examples.

    Without it a bridge has those that come with the package, and takes no file of the user's.
    """
    made = config.Config().workflows
    try:
        made.mkdir()
        # Not `copytree`: where the package is read-only, the user's folder would be too.
        for each in resources.folder("workflows").glob("*.json"):
            shutil.copyfile(each, made / each.name)
    except FileExistsError:
        return
    except OSError as error:
        stop(f"the folder workflows cannot be written: {error.strerror}", FAILED)
    click.echo("The folder workflows has three examples: put your own workflows beside them.")


async def try_settings(file: Path) -> int:
    """Try the file; returns the exit status of `doctor`."""
    click.echo("`comfy2mqtt doctor` tests the settings:\n")
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
    url = click.prompt(
        "1. Where is the MQTT broker? (host or host:port)",
        default="127.0.0.1:1883",
        value_proc=_broker,
    )
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
    chosen["mqtt_url"] = broker_url(url, BrokerFlags(username=user or None))
    comfyui = click.prompt(
        "3. Which ComfyUI? (own: the bridge installs one; http://host:8188: one that runs;\n"
        "   a folder: the bridge starts that one)",
        default=_OWN,
        value_proc=_comfyui,
    )
    if comfyui.startswith(("http://", "https://")):
        chosen["comfyui_url"] = comfyui
    elif comfyui != _OWN:
        chosen["comfyui_path"] = str(Path(comfyui).expanduser())
    page = click.prompt(
        "4. At which address is the web page served? (host:port; - for none)",
        default=_PAGE,
        value_proc=_page,
    )
    if page != _NO_PAGE:
        chosen["websocket_listen"] = page
    if click.confirm("5. Announce the workflows to Home Assistant?", default=False):
        chosen["homeassistant"] = True
    return chosen


def _broker(given: str) -> str:
    """Return the URL of what was typed as a broker. Raises UsageError, and click asks again."""
    url = given if "://" in given else f"mqtt://{given}"
    try:
        bridge_address(config.Config(mqtt_url=url))
    except ConfigError as error:
        raise click.UsageError(error.problem) from None
    return url


def _comfyui(given: str) -> str:
    """Return what was typed as a ComfyUI: `own`, a URL or a folder. Raises UsageError."""
    is_folder = (Path(given).expanduser() / "main.py").is_file()
    if given != _OWN and not config.is_http(given) and not is_folder:
        raise click.UsageError(
            f"{given!r}: expected {_OWN}, http://host:port or a folder with ComfyUI's main.py"
        )
    return given


def _page(given: str) -> str:
    """Return what was typed as the page's address. Raises UsageError."""
    try:
        _, port = config.host_and_port(given) if given != _NO_PAGE else ("", 1)
    except ValueError:
        port = 0
    if not 0 < port <= config.HIGHEST_PORT:
        raise click.UsageError(f"{given!r}: expected host:port, such as {_PAGE}, or {_NO_PAGE}")
    return given
