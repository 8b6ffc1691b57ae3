from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bridge.comfyui.device import Device, arguments, find_device, hint

NONE = "is_available = staticmethod(lambda: False)"
SOME = "is_available = staticmethod(lambda: True)"
# What torch has on each kind of machine, as far as it is asked; the machines are not to be had.
CUDA = f"class cuda:\n    {SOME}\n    get_device_name = staticmethod(lambda _: 'RTX 4090')\n"
NO_CUDA = f"class cuda:\n    {NONE}\n"
ROCM = CUDA.replace("RTX 4090", "RX 7900") + "class version:\n    hip = '6.2'\n"
XPU = NO_CUDA + f"class xpu:\n    {SOME}\n"
MPS = NO_CUDA + f"class backends:\n    class mps:\n        {SOME}\n"
CPU = NO_CUDA + f"class backends:\n    class mps:\n        {NONE}\n"


def python_with(folder: Path, torch: str) -> Path:
    (folder / "torch.py").write_text(torch)
    python = folder / "python"
    look = f"import sys; sys.path.insert(0, '{folder}')"
    python.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c \"{look}; $3\"\n")
    python.chmod(0o755)
    return python


@pytest.mark.parametrize(
    ("torch", "found", "told"),
    [
        (CUDA, Device("cuda", "RTX 4090"), "RTX 4090, NVIDIA (CUDA)"),
        (ROCM, Device("rocm", "RX 7900"), "RX 7900, AMD (ROCm)"),
        (XPU, Device("xpu"), "Intel (XPU)"),
        (MPS, Device("mps"), "Apple (MPS)"),
        (CPU, Device("cpu"), "the processor (--cpu)"),
    ],
)
async def test_what_torch_can_compute_on_is_found(
    tmp_path: Path, torch: str, found: Device, told: str
) -> None:
    assert await find_device(python_with(tmp_path, torch)) == found
    assert str(found) == told
    assert arguments(found, ()) == (("--cpu",) if found.kind == "cpu" else ())


@pytest.mark.parametrize("torch", ["1 / 0", "raise SystemExit(3)"])
async def test_a_torch_that_cannot_answer_is_left_to_comfyui(tmp_path: Path, torch: str) -> None:
    assert await find_device(python_with(tmp_path, torch)) is None
    assert await find_device(tmp_path / "none") is None
    assert arguments(None, ()) == ()


def test_a_card_that_torch_is_not_built_for_is_reported() -> None:
    assert "ROCm" in hint(Device("cpu"), amd=True)
    assert hint(Device("cpu"), amd=False) == hint(Device("rocm"), amd=True) == ""
