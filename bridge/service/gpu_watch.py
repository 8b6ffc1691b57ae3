"""Reads the graphics card of each ComfyUI from time to time."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from bridge.comfyui.errors import ComfyUIError
from bridge.comfyui.figures import QUERY, Card, cards_of, figures
from bridge.comfyui.instance import Instance
from bridge.comfyui.settings import AttachConfig, SuperviseConfig
from bridge.contract.retained import GpuFigures
from bridge.programs import running
from bridge.service import nvml

# Before each health message, which is published as often.
INTERVAL_S = 30.0
_ANSWER_S = 10.0
_VISIBLE = "CUDA_VISIBLE_DEVICES"


class GpuWatch:
    """Reads the graphics card of each ComfyUI; `figures` has the newest by the ComfyUI's name.

    Use `run` as a task.
    """

    def __init__(
        self,
        instances: Sequence[Instance],
        configs: Mapping[str, AttachConfig | SuperviseConfig],
    ) -> None:
        self._instances = instances
        self._configs = configs
        self.figures: dict[str, GpuFigures] = {
            each.name: GpuFigures(source="unknown") for each in instances
        }

    async def run(self) -> None:
        """Read every `INTERVAL_S`, and when a ComfyUI has started or ended."""
        while True:
            await self._read()
            waits = [asyncio.ensure_future(self._usable_changed(each)) for each in self._instances]
            try:
                await asyncio.wait(waits, timeout=INTERVAL_S, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in waits:
                    each.cancel()
                await asyncio.gather(*waits, return_exceptions=True)

    async def _usable_changed(self, instance: Instance) -> None:
        usable = instance.state.usable
        await instance.until(lambda state: state.usable != usable)

    async def _read(self) -> None:
        here = [each for each in self._instances if is_here(self._configs[each.name])]
        cards = await _cards() if any(each.state.usable for each in here) else []

        async def read(instance: Instance) -> None:
            config = self._configs[instance.name]
            self.figures[instance.name] = await _figures(
                instance, cards if instance in here else [], visible_to(config, os.environ)
            )

        # Side by side: one that does not answer delays no other.
        await asyncio.gather(*map(read, self._instances))


async def _figures(instance: Instance, cards: Sequence[Card], visible: str | None) -> GpuFigures:
    stats = None
    # One that is busy may answer late; it is asked again.
    with suppress(ComfyUIError, TimeoutError):
        async with asyncio.timeout(_ANSWER_S):
            stats = await instance.client.system_stats()
    return figures(stats, cards, visible)


async def _cards() -> list[Card]:
    """Ask NVML, else nvidia-smi; no cards where there is neither, or it does not answer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_ANSWER_S):
            by_nvml = await asyncio.to_thread(nvml.cards)
            if by_nvml is not None:
                return by_nvml
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        async with (
            asyncio.timeout(_ANSWER_S),
            running(
                program,
                *QUERY,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            ) as asked,
        ):
            answer, _ = await asked.communicate()
    except OSError:  # a TimeoutError too
        return []
    return cards_of(answer.decode(errors="replace"))


def is_here(config: AttachConfig | SuperviseConfig) -> bool:
    """Return whether a ComfyUI runs on this machine, as far as is known."""
    if isinstance(config, SuperviseConfig):
        return True
    host = urlsplit(config.url).hostname or ""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def visible_to(
    config: AttachConfig | SuperviseConfig, environment: Mapping[str, str]
) -> str | None:
    """Return a ComfyUI's CUDA_VISIBLE_DEVICES, None if it has none or that is not known."""
    if isinstance(config, AttachConfig):
        return None
    args = list(config.args)
    for place, arg in enumerate(args):
        name, equals, value = arg.partition("=")
        if name == "--cuda-device":
            return value if equals else next(iter(args[place + 1 :]), None)
    return {**environment, **config.environment}.get(_VISIBLE)
