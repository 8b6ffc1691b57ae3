"""`comfy2mqtt comfyui install` and `... upgrade`: which ComfyUI the bridge runs."""

from __future__ import annotations

from typing import cast

import click

from bridge.comfyui import install as pypi
from bridge.comfyui import machine, managed
from bridge.config import Config


async def install(settings: Config, version: str | None, device: str | None) -> int:
    """Install a version; prints the folder of main.py. Raises InstallFailed."""
    return _shown(await _manager(settings, device).install(version))


async def upgrade(settings: Config, version: str | None, device: str | None) -> int:
    """Install a newer version beside the present one. Raises InstallFailed."""
    return _shown(await _manager(settings, device).upgrade(version))


def _manager(settings: Config, device: str | None) -> managed.Manager:
    found = machine.facts()
    chosen = cast("machine.Device", device or machine.device_of(found))
    torch = pypi.torch_of(found.machine)
    pinned = (torch.torch, torch.torchvision, torch.torchaudio)
    wheels = machine.wheels(found, chosen, settings.comfyui_torch_index, pinned)
    repository = settings.comfyui_repository or managed.REPOSITORY
    return managed.Manager(settings.managed.absolute(), repository, wheels, _report)


def _report(line: str) -> None:
    click.echo(line, err=True)


def _shown(now: managed.Current) -> int:
    click.echo(now.used.path)
    return 0
