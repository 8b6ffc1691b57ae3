"""The devices that a ComfyUI's torch can use: a graphics card of any make, or the processor."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from bridge.programs import running

Kind = Literal["cuda", "rocm", "xpu", "mps", "npu", "mlu", "directml", "cpu"]

# ComfyUI takes at most one of the first; each of these says what it is to run on.
CHOOSES_DEVICE = frozenset(
    {
        *("--cpu", "--gpu-only", "--highvram", "--normalvram", "--lowvram", "--novram"),
        *("--directml", "--cuda-device"),
    }
)
_WORDS: dict[Kind, str] = {
    "cuda": "NVIDIA (CUDA)",
    "rocm": "AMD (ROCm)",
    "xpu": "Intel (XPU)",
    "mps": "Apple (MPS)",
    "npu": "Ascend (NPU)",
    "mlu": "Cambricon (MLU)",
    "directml": "DirectML",
    "cpu": "the processor (--cpu)",
}
# An AMD card's driver is there, whether torch is built for it or not.
_AMD = Path("/dev/kfd")

# ComfyUI looks in this order. A torch that cannot answer ends with an error: ComfyUI then says what
# is wrong with it.
_ASK_TORCH = """
import json, torch
found = {"kind": "cpu"}
def has(part):
    part = getattr(torch, part, None)
    return part is not None and part.is_available()
if has("cuda"):
    rocm = getattr(getattr(torch, "version", None), "hip", None)
    found = {"kind": "rocm" if rocm else "cuda"}
    try:
        found["name"] = torch.cuda.get_device_name(0)
    except Exception:
        pass
elif has("xpu"):
    found = {"kind": "xpu"}
elif getattr(torch, "backends", None) is not None and torch.backends.mps.is_available():
    found = {"kind": "mps"}
elif has("npu"):
    found = {"kind": "npu"}
elif has("mlu"):
    found = {"kind": "mlu"}
print("\\n" + json.dumps(found))
"""


class Device(Struct, frozen=True):
    """The kind of device that torch uses, and the card's name if there is one."""

    kind: Kind
    name: str = ""

    def __str__(self) -> str:
        return f"{self.name}, {_WORDS[self.kind]}" if self.name else _WORDS[self.kind]


async def find_device(python: Path) -> Device | None:
    """Ask the torch of a Python what it can compute on; None if it cannot answer.

    Importing torch takes seconds; cancelling this ends the process that does.
    """
    try:
        async with running(
            *(str(python), "-I", "-c", _ASK_TORCH),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        ) as asked:
            answer, _ = await asked.communicate()
    except OSError:
        return None  # the start says so
    lines = answer.splitlines()
    try:
        return msgspec.json.decode(lines[-1], type=Device) if lines else None
    except msgspec.DecodeError:
        return None


def arguments(device: Device | None, args: Sequence[str]) -> tuple[str, ...]:
    """Return what ComfyUI's arguments lack for this device: it ends at once without a card. Pure.

    `args` that choose a device are left alone.
    """
    if device is None or device.kind != "cpu" or chosen(args):
        return ()
    return ("--cpu",)


def chosen(args: Sequence[str]) -> bool:
    """Return whether arguments say what ComfyUI is to run on."""
    return any(arg.partition("=")[0] in CHOOSES_DEVICE for arg in args)


def hint(device: Device, *, amd: bool | None = None) -> str:
    """Return what helps if torch does not use a card that is there; nothing if it does."""
    has_amd = _AMD.exists() if amd is None else amd
    if device.kind == "cpu" and has_amd:
        return (
            "; the AMD card here needs a torch built for ROCm: set comfyui_path to a ComfyUI "
            "that has one (docs/install.md)"
        )
    return ""
