"""The graphics card that is read for a ComfyUI, and nvidia-smi as a program."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.comfyui.instance import Instance
from bridge.comfyui.settings import AttachConfig, SuperviseConfig
from bridge.service import gpu_watch
from bridge.service.gpu_watch import GpuWatch, is_here, visible_to


def ours(*args: str, **environment: str) -> SuperviseConfig:
    return SuperviseConfig(Path("comfyui"), Path("python3"), args, environment)


@pytest.mark.parametrize(
    ("config", "here"),
    [
        (ours(), True),
        (AttachConfig("http://127.0.0.1:8188"), True),
        (AttachConfig("http://localhost:8188"), True),
        (AttachConfig("http://[::1]:8188"), True),
        (AttachConfig("http://192.168.0.7:8188"), False),
        (AttachConfig("https://gpu.example"), False),
    ],
)
def test_only_what_runs_here_has_a_card_of_this_machine(
    config: AttachConfig | SuperviseConfig, *, here: bool
) -> None:
    assert is_here(config) is here


def test_its_arguments_and_variables_say_which_cards_it_sees() -> None:
    assert visible_to(ours(), {}) is None
    assert visible_to(ours(), {"CUDA_VISIBLE_DEVICES": "1"}) == "1"
    assert visible_to(ours(CUDA_VISIBLE_DEVICES="2"), {"CUDA_VISIBLE_DEVICES": "1"}) == "2"
    assert visible_to(ours("--cuda-device", "3", CUDA_VISIBLE_DEVICES="2"), {}) == "3"
    assert visible_to(ours("--cuda-device=4"), {}) == "4"
    assert visible_to(ours("--cuda-device"), {}) is None
    assert visible_to(AttachConfig("http://127.0.0.1:1"), {"CUDA_VISIBLE_DEVICES": "1"}) is None


@pytest.mark.parametrize(
    ("script", "count"),
    [
        ("echo '0, GPU-1, NVIDIA GeForce RTX 3090, 24576, 12, 34, 21.80'", 1),
        ("echo 'No devices were found'; exit 6", 0),
        ("exit 9", 0),
    ],
)
async def test_cards_are_what_nvidia_smi_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, count: int
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert len(await gpu_watch._cards()) == count


async def test_one_that_does_not_answer_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(gpu_watch, "_ANSWER_S", 0.05)
    assert await gpu_watch._cards() == []


async def test_a_comfyui_that_does_not_run_is_unknown(tmp_path: Path) -> None:
    config = AttachConfig("http://127.0.0.1:9")
    instance = Instance("far", config, folder=tmp_path)
    watch = GpuWatch([instance], {"far": config})
    assert watch.figures["far"].source == "unknown"
    await watch._read()
    assert watch.figures["far"].source == "unknown"
