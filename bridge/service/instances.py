"""The configuration of each ComfyUI in the settings; the managed one is installed first."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec import structs

from bridge.aio import first
from bridge.comfyui import device, install, managed
from bridge.comfyui.building import InstallFailed
from bridge.comfyui.settings import AttachConfig, SuperviseConfig
from bridge.config import ComfyUI, Config

log = logging.getLogger(__name__)

ON_LINUX: bool = sys.platform == "linux"
# Our nodes' bound of what an input unpacks to.
_UNPACKED_BYTES = "COMFY2MQTT_UNPACKED_BYTES"


async def configs(
    config: Config, stopping: asyncio.Event
) -> dict[str, AttachConfig | SuperviseConfig] | None:
    """Return each ComfyUI's configuration by name; None if `stopping` is set meanwhile.

    Raises InstallFailed.
    """
    found: dict[str, AttachConfig | SuperviseConfig] = {}
    for table in config.comfyuis:
        environment = {_UNPACKED_BYTES: str(config.max_input_unpacked), **table.environment}
        comfyui = await _one(
            structs.replace(table, environment=environment), config.managed, stopping
        )
        if comfyui is None:
            return None
        found[config.instance_name(table)] = comfyui
    return found


async def _one(
    table: ComfyUI, root: Path, stopping: asyncio.Event
) -> AttachConfig | SuperviseConfig | None:
    key = table.read_api_key()
    if table.url is not None:
        return AttachConfig(table.url, table.secret, key)
    if not ON_LINUX:
        raise InstallFailed(install.ELSEWHERE)
    if table.path is not None:
        place = table.path
        python = interpreter(table.path, table.python)
        args = table.args
    else:
        chosen = await asyncio.to_thread(managed.current, root)
        args = table.args
        if chosen is None:
            found = await first(install.ensure(log.info), stopping.wait())
            if isinstance(found, bool):
                return None
            place, python = found.path, found.python
        else:
            place, python = Path(chosen.used.path), Path(chosen.used.python)
            args = ("--base-directory", str(managed.home_of(root).absolute()), *args)
    more = await first(device_arguments(table.name, python, args), stopping.wait())
    if isinstance(more, bool):
        return None
    return SuperviseConfig(place, python, (*args, *more), table.environment, api_key=key)


async def device_arguments(name: str, python: Path, args: Sequence[str]) -> tuple[str, ...]:
    """Return the arguments that this machine needs besides a ComfyUI's own: --cpu without a card.

    Logs what it runs on. `args` that choose a device are left alone, and so is a torch
    that cannot answer: ComfyUI then says what is wrong with it.
    """
    if device.chosen(args):
        return ()
    found = await device.find_device(python)
    if found is None:
        return ()
    level = logging.WARNING if found.kind == "cpu" else logging.INFO
    log.log(level, "ComfyUI %s runs on %s%s", name, found, device.hint(found))
    return device.arguments(found, args)


def interpreter(folder: Path, program: str | None) -> Path:
    """Return the interpreter to start the ComfyUI in `folder` with, whether it is there or not.

    `program` is the setting: a path, or without a slash a name on the PATH. Without it the
    environment in or beside the folder is used, else the system's python3.
    """
    if program is None:
        places = (folder / ".venv", folder / "venv", folder.absolute().parent / ".venv")
        candidates = (place / "bin" / "python" for place in places)
        if found := next((path for path in candidates if path.exists()), None):
            return found
        program = "python3"
    named = None if "/" in program else shutil.which(program)
    return Path(named or program).expanduser()
