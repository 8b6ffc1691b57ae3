"""The configuration of each ComfyUI in the settings; the managed one is installed first."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from msgspec import structs

from bridge.aio import first
from bridge.comfyui import install
from bridge.comfyui.settings import AttachConfig, SuperviseConfig
from bridge.config import ComfyUI, Config

log = logging.getLogger(__name__)

# ComfyUI takes at most one of these.
_CHOOSES_DEVICE = frozenset(
    ("--cpu", "--gpu-only", "--highvram", "--normalvram", "--lowvram", "--novram")
)
# Our nodes' bound of what an input unpacks to.
_UNPACKED_BYTES = "COMFY2MQTT_UNPACKED_BYTES"
_NO_CARD = 3
_ASK_TORCH = f"import sys, torch; sys.exit(0 if torch.cuda.is_available() else {_NO_CARD})"


async def configs(
    config: Config, stopping: asyncio.Event
) -> dict[str, AttachConfig | SuperviseConfig] | None:
    """Return each ComfyUI's configuration by name; None if `stopping` is set meanwhile.

    Raises InstallFailed.
    """
    found: dict[str, AttachConfig | SuperviseConfig] = {}
    for table in config.comfyuis:
        environment = {_UNPACKED_BYTES: str(config.max_input_unpacked), **table.environment}
        comfyui = await _one(structs.replace(table, environment=environment), stopping)
        if comfyui is None:
            return None
        found[config.instance_name(table)] = comfyui
    return found


async def _one(table: ComfyUI, stopping: asyncio.Event) -> AttachConfig | SuperviseConfig | None:
    if table.url is not None:
        return AttachConfig(table.url, table.secret)
    if table.path is not None:
        python = interpreter(table.path, table.python)
        return SuperviseConfig(table.path, python, table.args, table.environment)
    managed = await first(install.ensure(log.info), stopping.wait())
    if isinstance(managed, bool):
        return None
    device = await first(device_arguments(managed.python, table.args), stopping.wait())
    if isinstance(device, bool):
        return None
    args = (*table.args, *device)
    return SuperviseConfig(managed.path, managed.python, args, table.environment)


async def device_arguments(python: Path, args: Sequence[str]) -> tuple[str, ...]:
    """Return what the managed ComfyUI's arguments lack: --cpu without a card.

    Where torch finds no graphics card, ComfyUI ends at its start unless it has that argument.
    `args` that choose a device are left alone, and so is a torch that cannot answer: ComfyUI then
    says what is wrong with it. Importing torch takes seconds; cancelling this ends the process
    that does.
    """
    if not _CHOOSES_DEVICE.isdisjoint(args):
        return ()
    asked = await asyncio.create_subprocess_exec(
        *(str(python), "-I", "-c", _ASK_TORCH),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        status = await asked.wait()
    finally:
        if asked.returncode is None:
            asked.kill()
            await asked.wait()
    if status != _NO_CARD:
        return ()
    log.warning("no graphics card that torch can use: ComfyUI runs on the CPU (--cpu)")
    return ("--cpu",)


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
