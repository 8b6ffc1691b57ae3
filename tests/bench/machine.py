"""The machine of a run: without it the figures say little."""

from __future__ import annotations

import asyncio
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

from bridge import __version__
from bridge.comfyui.client import ComfyClient
from bridge.mosquitto import find_program
from tests.bench.report import Machine
from tests.support.comfyui import Server


async def describe(server: Server | None) -> Machine:
    """Look around."""
    versions = {"comfy2mqtt": __version__, "Python": platform.python_version()}
    if server is not None:
        versions["ComfyUI"] = await _comfyui(server)
    versions["mosquitto"] = await _mosquitto()
    for package in ("aiomqtt", "paho-mqtt", "aiohttp", "websockets", "msgspec"):
        versions[package] = version(package)
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        system=_system(),
        load=os.getloadavg()[0],
        versions=versions,
    )


async def _comfyui(server: Server) -> str:
    async with ComfyClient(server.url, secret=server.secret) as client:
        stats = await client.system_stats()
    return str(stats["system"]["comfyui_version"])


async def _mosquitto() -> str:
    program = await find_program("mosquitto")
    process = await asyncio.create_subprocess_exec(
        program, "-h", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    output, _ = await process.communicate()
    found = re.search(r"version (\S+)", output.decode())
    return found[1] if found else "unknown"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _system() -> str:
    release = platform.freedesktop_os_release()
    return f"{release['PRETTY_NAME']}, Linux {platform.release()}"
