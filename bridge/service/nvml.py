"""The graphics cards by NVML, NVIDIA's library, with the extra `nvidia`: no program is started.

Calls block, for long if the driver hangs: use `cards` in a thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from bridge.comfyui.figures import Card

log = logging.getLogger(__name__)

T = TypeVar("T")
_TEMPERATURE_OF_GPU = 0
# Held by a call: where one hangs, no other thread is to hang beside it.
_ASKING = threading.Lock()


def cards() -> list[Card] | None:
    """Return the cards of this machine; None without the extra, or without NVIDIA's driver.

    Also where another thread waits for an answer.
    """
    if not _ASKING.acquire(blocking=False):
        return None
    try:
        return _cards()
    finally:
        _ASKING.release()


def _cards() -> list[Card] | None:
    try:
        nvml: Any = import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
        try:
            return [_card(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
        finally:
            nvml.nvmlShutdown()
    except nvml.NVMLError as error:
        log.debug("NVML: %s", error)
        return None


def _card(nvml: Any, index: int) -> Card:
    """Return one card. Raises NVMLError if it is lost; figures that it has not are None."""
    handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def if_known(ask: Callable[[], T]) -> T | None:
        try:
            return ask()
        except nvml.NVMLError:
            return None

    memory = if_known(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    power_mw = if_known(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
    temperature = if_known(lambda: nvml.nvmlDeviceGetTemperature(handle, _TEMPERATURE_OF_GPU))
    return Card(
        index,
        _text(nvml.nvmlDeviceGetUUID(handle)),
        _text(nvml.nvmlDeviceGetName(handle)),
        None if memory is None else int(memory.total),
        None if memory is None else int(memory.used),
        None if temperature is None else float(temperature),
        None if power_mw is None else power_mw / 1000,
        "nvml",
    )


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
