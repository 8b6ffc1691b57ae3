"""`comfy2mqtt comfyui`: commands to a running bridge's ComfyUIs, and the managed one's versions."""

from __future__ import annotations

import functools
from collections.abc import Awaitable
from typing import TYPE_CHECKING

import click

from bridge.cli.options import Commands
from bridge.cli.shared import CLIENT_SETTINGS, WRONG_USAGE, as_json, run_async, settings, stop
from bridge.config import Config, check_downloads

if TYPE_CHECKING:
    from bridge.comfyui.machine import Device
    from bridge.comfyui.managed import CurrentVersion, Manager

_ORDERS = {
    "start": "Start it, at once even in a crash loop.",
    "stop": "Stop its process until the next start; its jobs return to the queue.",
    "restart": "Stop its process and start it again.",
    "free": "Unload its models and drop its caches after the running job.",
    "yield": "Give it no jobs and free its memory, so that another program can use the GPU.",
    "resume": "Give it jobs again.",
    "open": (
        "Print a link to the page of one that the bridge runs: for one browser on the bridge's "
        "machine, within a minute."
    ),
}


class _VerbAnywhere(Commands):
    """A group whose options may also stand before its command, as they once could."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Move the command to the front."""
        verb = next((each for each in args if each in self.commands), None)
        if verb is not None:
            at = args.index(verb)
            args = [verb, *args[:at], *args[at + 1 :]]
        return super().parse_args(ctx, args)


@click.group(cls=_VerbAnywhere)
def comfyui() -> None:
    """Start, stop, free or yield a running bridge's ComfyUI; install or upgrade its own one."""


def _order(verb: str, text: str) -> None:
    @comfyui.command(verb, help=f"{text} Without an INSTANCE it applies to all.")
    @click.argument("instance", required=False)
    @click.option("--now", is_flag=True, help="yield: return running jobs to the queue.")
    @as_json
    @settings(*CLIENT_SETTINGS)
    def send_command(*, instance: str | None, now: bool, as_json: bool, settings: Config) -> None:
        from bridge.cli.operate import send_command

        fields: dict[str, object] = {} if instance is None else {"instance": instance}
        if now and verb != "yield":
            stop("--now: use it only with `comfyui yield`", WRONG_USAGE)
        if now:
            fields["finish"] = False
        run_async(send_command(settings, f"comfyui/{verb}", fields, as_json=as_json))


for _verb, _text in _ORDERS.items():
    _order(_verb, _text)


@comfyui.command()
@click.argument("version", required=False)
@click.option("--instance", metavar="NAME", help="Of several bridges: the one of this ComfyUI.")
@click.option("--look", is_flag=True, help="Only look for newer releases, at once.")
@as_json
@settings(*CLIENT_SETTINGS)
def update(
    *, version: str | None, instance: str | None, look: bool, as_json: bool, settings: Config
) -> None:
    """Install a VERSION of a running bridge's ComfyUI, by default the newest release.

    The bridge needs the setting `comfyui_updates`, and a ComfyUI of `comfyui install`. Running jobs
    end first; if the new version does not start, the present one stays in use.
    """
    from bridge.cli.operate import update as command

    if look and version is not None:
        stop("--look: it takes no VERSION", WRONG_USAGE)
    given = {"version": version, "instance": instance}
    fields = {name: value for name, value in given.items() if value is not None}
    run_async(command(settings, fields, look=look, as_json=as_json))


_FOR_INSTALLS = ("data", "comfyui_repository", "comfyui_torch_index")
_device = click.option(
    "--device",
    type=click.Choice(["cuda", "rocm", "xpu", "mps", "cpu"]),
    help="The kind of torch; by default what fits the graphics card.",
)


@comfyui.command()
@click.argument("version", required=False)
@_device
@settings(*_FOR_INSTALLS)
def install(*, version: str | None, device: Device | None, settings: Config) -> None:
    """Install a VERSION of ComfyUI for the bridge, by default the newest release.

    It comes from ComfyUI's official repository by git; where that cannot be reached, from PyPI.
    Models, inputs, outputs and custom nodes lie in a folder of their own, for all versions.
    """
    run_async(_shown(_manager(settings, device).install(version)))


@comfyui.command()
@click.argument("version", required=False)
@_device
@settings(*_FOR_INSTALLS)
def upgrade(*, version: str | None, device: Device | None, settings: Config) -> None:
    """Install a newer VERSION; if it does not start, the present one stays in use.

    Models, inputs, outputs and custom nodes stay as they are.
    """
    run_async(_shown(_manager(settings, device).upgrade(version)))


def _manager(settings: Config, device: Device | None) -> Manager:
    from bridge.comfyui.managed import Manager

    check_downloads(settings)
    return Manager.here(
        settings.managed.absolute(),
        settings.comfyui_repository,
        settings.comfyui_torch_index,
        functools.partial(click.echo, err=True),
        device,
    )


async def _shown(installing: Awaitable[CurrentVersion]) -> int:
    """Print the folder of main.py of the version that is used now. Raises InstallFailed."""
    click.echo((await installing).used.path)
    return 0
