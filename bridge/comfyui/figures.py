"""The figures of a ComfyUI's graphics card: from its own answer, and from NVIDIA's. Pure.

Figures that neither has are left out: a card of another make has no temperature here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

from msgspec import UNSET, Struct

from bridge.contract.messages import or_unset
from bridge.contract.retained import GpuFigures

# The question to nvidia-smi that `cards_of` reads the answer to.
QUERY = (
    "--query-gpu=index,uuid,name,memory.total,memory.used,temperature.gpu,power.draw",
    "--format=csv,noheader,nounits",
)
_FIELDS = 7
_MIB = 2**20


class Card(Struct, frozen=True):
    """A card's figures by nvidia-smi or NVML: bytes, °C and watts; None: unknown."""

    index: int
    uuid: str
    name: str
    total: int | None
    used: int | None
    temperature_c: float | None
    power_w: float | None
    source: Literal["nvidia-smi", "nvml"] = "nvidia-smi"


def cards_of(answer: str) -> list[Card]:
    """Read nvidia-smi's answer; lines of another shape, such as its errors, are passed over."""
    found = []
    for line in answer.splitlines():
        fields = [each.strip() for each in line.split(",")]
        if len(fields) != _FIELDS or not fields[0].isdecimal():
            continue
        total, used, temperature, power = map(_number, fields[3:])
        found.append(
            Card(
                int(fields[0]),
                fields[1],
                fields[2],
                None if total is None else int(total * _MIB),
                None if used is None else int(used * _MIB),
                temperature,
                power,
            )
        )
    return found


def _number(text: str) -> float | None:
    """Read a figure; `[N/A]`, `[Not Supported]` and the like are none."""
    with suppress(ValueError):
        number = float(text)
        return number if 0 <= number < 1e9 else None  # noqa: PLR2004 - also not "nan" and "inf"
    return None


def figures(
    stats: Mapping[str, Any] | None, cards: Sequence[Card], visible: str | None
) -> GpuFigures:
    """Return what is known of a ComfyUI's card.

    `stats` is ComfyUI's answer, None without one; `cards` are those of the machine that it is on,
    none if that is not known; `visible` is its CUDA_VISIBLE_DEVICES.
    """
    device = _device(stats)
    if device is None:
        return GpuFigures(source="unknown")
    name = str(device.get("name") or device.get("type") or "")
    if device.get("type") == "cpu":
        # Its "vram" is the machine's memory.
        return GpuFigures(source="comfyui", device="cpu")
    total, free = _bytes(device.get("vram_total")), _bytes(device.get("vram_free"))
    card = _card(name, device.get("index"), cards, visible)
    if card is None:
        known = total is not None or free is not None
        return GpuFigures(
            source="comfyui" if known else "unknown",
            device=name or UNSET,
            vram_total=or_unset(total),
            vram_free=or_unset(free),
        )
    unused = None if card.total is None or card.used is None else card.total - card.used
    return GpuFigures(
        source=card.source,
        device=card.name,
        vram_total=or_unset(card.total if total is None else total),
        vram_free=or_unset(unused if free is None else free),
        temperature_c=or_unset(card.temperature_c),
        power_w=or_unset(card.power_w),
    )


def _device(stats: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    devices = None if stats is None else stats.get("devices")
    first = devices[0] if isinstance(devices, list) and devices else None
    return first if isinstance(first, dict) else None


def _bytes(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _card(name: str, index: Any, cards: Sequence[Card], visible: str | None) -> Card | None:
    """Return the card that ComfyUI computes on; None if that is not certain.

    CUDA counts the fastest card first, nvidia-smi by the slot: an index means the same only among
    cards of one name.
    """
    alike = [each for each in cards if each.name and each.name in name]
    if len(alike) <= 1:
        return alike[0] if alike else None
    place = index if isinstance(index, int) and not isinstance(index, bool) and index >= 0 else 0
    if visible is not None:
        entries = [each.strip() for each in visible.split(",")]
        if place >= len(entries):
            return None
        chosen = entries[place]
        if not chosen.isdecimal():
            named = [each for each in alike if chosen and each.uuid.startswith(chosen)]
            return named[0] if len(named) == 1 else None
        place = int(chosen)
    if len(alike) < len(cards):
        return None
    return next((each for each in alike if each.index == place), None)
