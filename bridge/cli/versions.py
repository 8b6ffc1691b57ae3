"""`comfy2mqtt comfyui install` and `... upgrade`: which ComfyUI the bridge runs."""

from __future__ import annotations

from typing import cast

import click

from bridge.comfyui import machine, managed
from bridge.config import Config


async def install(settings: Config, version: str | None, device: str | None) -> int:
    """Install a version; prints the folder of main.py. Raises InstallFailed."""
    return _shown(await _manager(settings, device).install(version))


async def upgrade(settings: Config, version: str | None, device: str | None) -> int:
    """Install a newer version beside the present one. Raises InstallFailed."""
    return _shown(await _manager(settings, device).upgrade(version))


def _manager(settings: Config, device: str | None) -> managed.Manager:
    return managed.Manager.here(
        settings.managed.absolute(),
        settings.comfyui_repository,
        settings.comfyui_torch_index,
        _report,
        cast("machine.Device | None", device),
    )


def _report(line: str) -> None:
    click.echo(line, err=True)


def _shown(now: managed.Current) -> int:
    click.echo(now.used.path)
    return 0
