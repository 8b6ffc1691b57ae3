"""Cards by NVML, with a stand-in for NVIDIA's library: its calls, and how they fail."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from bridge.comfyui.figures import Card, figures
from bridge.service import gpu_watch, nvml
from tests.comfyui.test_figures import RTX
from tests.support.patience import PATIENCE_S

GIB = 2**30
CARD = Card(0, "GPU-5ef0", "NVIDIA GeForce RTX 3090", 24 * GIB, 9 * GIB, 61.0, 212.47, "nvml")


class NVMLError(Exception):
    """As `pynvml` has it."""


def fails(*_: object) -> Any:
    raise NVMLError("Not Supported")


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    found: Any = ModuleType("pynvml")
    found.NVMLError = NVMLError
    found.open = 0

    def opened(by: int) -> Callable[[], None]:
        def change() -> None:
            found.open += by

        return change

    found.nvmlInit, found.nvmlShutdown = opened(1), opened(-1)
    found.nvmlDeviceGetCount = lambda: 1
    found.nvmlDeviceGetHandleByIndex = lambda index: f"handle {index}"
    found.nvmlDeviceGetUUID = lambda _: CARD.uuid.encode()
    found.nvmlDeviceGetName = lambda _: CARD.name
    found.nvmlDeviceGetMemoryInfo = lambda _: SimpleNamespace(total=CARD.total, used=CARD.used)
    found.nvmlDeviceGetTemperature = lambda _, sensor: 61 if sensor == 0 else 99
    found.nvmlDeviceGetPowerUsage = lambda _: 212_470
    monkeypatch.setitem(sys.modules, "pynvml", found)
    return cast("ModuleType", found)


async def test_a_card_has_memory_temperature_and_power(library: ModuleType) -> None:
    assert await gpu_watch._cards() == nvml.cards() == [CARD]
    assert library.open == 0
    told = figures(RTX, [CARD], None)
    assert (told.source, told.temperature_c, told.power_w) == ("nvml", 61.0, 212.47)


def test_what_a_card_does_not_report_is_unknown(
    library: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MemoryInfo", "Temperature", "PowerUsage"):
        monkeypatch.setattr(library, f"nvmlDeviceGet{name}", fails)
    assert nvml.cards() == [Card(0, CARD.uuid, CARD.name, None, None, None, None, "nvml")]


@pytest.mark.parametrize("call", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex"])
def test_without_a_driver_or_with_a_lost_card_there_are_none(
    library: ModuleType, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(library, call, fails)
    assert nvml.cards() is None
    assert library.open == 0


async def test_without_the_extra_nvidia_smi_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml.cards() is None
    monkeypatch.setenv("PATH", "")
    assert await gpu_watch._cards() == []


async def test_a_library_that_hangs_holds_up_one_thread(
    library: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, goes_on = threading.Event(), threading.Event()

    def hangs() -> None:
        began.set()
        goes_on.wait()

    monkeypatch.setattr(library, "nvmlInit", hangs)
    monkeypatch.setenv("PATH", "")
    first = asyncio.create_task(asyncio.to_thread(nvml.cards))
    try:
        assert await asyncio.to_thread(began.wait, PATIENCE_S)
        assert await gpu_watch._cards() == []
    finally:
        goes_on.set()
        await first


async def test_a_library_that_hangs_is_left_in_time(
    library: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    monkeypatch.setattr(library, "nvmlInit", goes_on.wait)
    monkeypatch.setattr(gpu_watch, "_ANSWER_S", 0.05)
    monkeypatch.setenv("PATH", "")
    try:
        assert await gpu_watch._cards() == []
    finally:
        goes_on.set()
