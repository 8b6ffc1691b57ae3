"""The torch that fits a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.comfyui import machine
from bridge.comfyui.machine import Device, MachineFacts, device_of, facts, wheels

PINNED = ("torch==2.14.1", "torchvision==0.29.1", "torchaudio==2.11.0")
FAMILY = ("torch", "torchvision", "torchaudio")
LINUX = MachineFacts("Linux", "x86_64")


@pytest.mark.parametrize(
    ("found", "device"),
    [
        (LINUX, "cpu"),
        (MachineFacts("Linux", "x86_64", nvidia=True), "cuda"),
        (MachineFacts("Linux", "x86_64", nvidia=True, amd=True, intel=True), "cuda"),
        (MachineFacts("Linux", "x86_64", amd=True, intel=True), "rocm"),
        (MachineFacts("Linux", "x86_64", intel=True), "xpu"),
        (MachineFacts("Linux", "aarch64", nvidia=True), "cuda"),
        (MachineFacts("Darwin", "arm64"), "mps"),
        (MachineFacts("Darwin", "x86_64"), "cpu"),
    ],
)
def test_the_best_card_is_taken(found: MachineFacts, device: str) -> None:
    assert device_of(found) == device


def test_cards_are_found_by_their_drivers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    found = facts(tmp_path)
    assert (found.nvidia, found.amd, found.intel) == (False, False, False)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidiactl").touch()
    (tmp_path / "dev" / "kfd").touch()
    drivers = tmp_path / "sys/bus/pci/drivers"
    for number, name in enumerate(("i915", "xe")):
        (drivers / name).mkdir(parents=True)
        card = tmp_path / f"sys/class/drm/card{number}/device"
        card.mkdir(parents=True)
        (card / "driver").symlink_to(drivers / name)
        assert facts(tmp_path).intel is (name == "xe")
    assert facts(tmp_path).nvidia
    assert facts(tmp_path).amd


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_linux_gets_the_pinned_torch_of_pypi(device: Device) -> None:
    chosen = wheels(LINUX, device, None, PINNED)
    assert (chosen.requirements, chosen.arguments, chosen.note) == (PINNED, (), None)


def test_a_mac_gets_its_own() -> None:
    chosen = wheels(MachineFacts("Darwin", "arm64"), "mps", None, PINNED)
    assert (chosen.requirements, chosen.arguments) == (FAMILY, ())


@pytest.mark.parametrize("device", ["rocm", "xpu"])
def test_cards_that_pypi_has_no_torch_for_need_an_index(device: Device) -> None:
    without = wheels(LINUX, device, None, PINNED)
    assert without.note is not None
    assert "comfyui_torch_index" in without.note
    given = wheels(LINUX, device, "https://index.example/rocm", PINNED)
    assert given.note is None
    assert given.requirements == FAMILY
    assert given.arguments == ("--index-url", "https://index.example/rocm")
    assert set(machine.DEVICES) == {"cuda", "rocm", "xpu", "mps", "cpu"}
