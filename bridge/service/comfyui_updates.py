"""Updates of the managed ComfyUI, if the settings enable them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from bridge.comfyui import managed
from bridge.comfyui.building import InstallFailed
from bridge.comfyui.instance import Instance
from bridge.comfyui.settings import AttachConfig, SuperviseConfig
from bridge.comfyui.updates import Updates
from bridge.config import Config

log = logging.getLogger(__name__)


def updates_of(
    config: Config,
    instances: Sequence[Instance],
    configs: Mapping[str, AttachConfig | SuperviseConfig],
) -> Updates | None:
    """Return the updates; None without the setting, or without a ComfyUI of `comfyui install`.

    Others are not updated: an install from PyPI keeps its models in its own folder, where another
    release would not find them.
    """
    if not config.comfyui_updates:
        return None
    root = config.managed.absolute()
    try:
        current = managed.current(root)
    except InstallFailed:
        current = None
    used = None if current is None else current.used
    ours = {
        each: found
        for each in instances
        if isinstance(found := configs[each.name], SuperviseConfig)
        and used is not None
        and found.path == Path(used.path)
    }
    if used is None or not ours:
        log.warning(
            "comfyui_updates: there is no ComfyUI of `comfy2mqtt comfyui install` to update"
        )
        return None
    manager = managed.Manager.here(
        root, config.comfyui_repository, config.comfyui_torch_index, log.info
    )
    return Updates(manager, used, ours)
