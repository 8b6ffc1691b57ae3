"""The build of torch that fits this machine's graphics card, which is found without torch."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from msgspec import Struct

Device: TypeAlias = Literal["cuda", "rocm", "xpu", "mps", "cpu"]
DEVICES: tuple[str, ...] = get_args(Device)

_FAMILY = ("torch", "torchvision", "torchaudio")


class MachineFacts(Struct, frozen=True):
    """A machine's system, its processor, and the makes of its graphics cards."""

    system: str
    machine: str
    nvidia: bool = False
    amd: bool = False
    intel: bool = False


class Wheels(Struct, frozen=True):
    """The torch to install: its requirements, and pip's arguments besides.

    `note` is one line for the user where this is not the best that the card could have. Sizes are
    in gigabytes, as on disk at the end and at most.
    """

    device: Device
    requirements: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    note: str | None = None
    installed_gb: float = 6.5
    peak_gb: float = 12.0


def facts(root: Path = Path("/")) -> MachineFacts:
    """Return this machine's facts; `root` is the root of its file system."""
    drivers = [*root.glob("sys/class/drm/card*/device/driver")]
    return MachineFacts(
        system=platform.system(),
        machine=platform.machine(),
        nvidia=(root / "proc/driver/nvidia/version").exists()
        or (root / "dev/nvidiactl").exists()
        or shutil.which("nvidia-smi") is not None,
        amd=(root / "dev/kfd").exists(),
        # The driver of the cards that torch can use; i915 is that of most laptops.
        intel=any(each.resolve().name == "xe" for each in drivers),
    )


def device_of(found: MachineFacts) -> Device:
    """Return the best device of a machine."""
    if found.system == "Darwin":
        return "mps" if found.machine == "arm64" else "cpu"
    if found.nvidia:
        return "cuda"
    if found.amd:
        return "rocm"
    return "xpu" if found.intel else "cpu"


def wheels(found: MachineFacts, device: Device, index: str | None, pinned: Sequence[str]) -> Wheels:
    """Return the torch for a device.

    `index` is an index of torch's own builds, where one is set: those of PyPI are for CUDA on
    Linux, for MPS on a Mac, and for the CPU on ARM. `pinned` are the versions known to work there.
    """
    small = device in ("cpu", "mps")
    sizes = (1.7, 3.5) if small else (6.5, 12.0)
    if index is not None:
        return Wheels(device, _FAMILY, ("--index-url", index), None, *sizes)
    note = None
    if device in ("rocm", "xpu"):
        kind = "an AMD" if device == "rocm" else "an Intel"
        note = (
            f"there is {kind} card, for which PyPI has no torch: it will run on the CPU; name the "
            f"index of torch's builds for {device} in comfyui_torch_index, and install again"
        )
    if found.system == "Linux" and found.machine in ("x86_64", "AMD64"):
        # PyPI's build for Linux is CUDA's, which runs on the CPU as well.
        return Wheels(device, tuple(pinned), (), note)
    return Wheels(
        device, _FAMILY if found.system == "Darwin" else tuple(pinned), (), note, 1.7, 3.5
    )
