from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from bridge import config
from bridge.comfyui.settings import SuperviseConfig
from bridge.service import instances
from bridge.service.instances import device_arguments, interpreter

FILE = "comfyui_path = 'ComfyUI'\ncomfyui_python = '{}'\n"


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def chosen(folder: Path, python: str) -> Path:
    """Return the interpreter that the settings' file names, as the bridge reads it."""
    file = folder / "comfy2mqtt.toml"
    file.write_text(FILE.format(python))
    found = config.load({}, {}, file)
    assert found.comfyui_path is not None
    return interpreter(found.comfyui_path, found.comfyui_python)


def test_an_interpreter_with_a_slash_is_a_path_and_one_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = program(tmp_path / "python")
    there = program(tmp_path / "bin" / "python")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(there.parent), prepend=os.pathsep)
    assert chosen(tmp_path, "./python").absolute() == here
    assert chosen(tmp_path, "python") == there
    assert chosen(tmp_path, "bin/../python").absolute().samefile(here)
    assert chosen(tmp_path, "no-such-python") == Path("no-such-python")
    assert chosen(tmp_path, "~/python") == Path("~/python").expanduser()


def test_without_a_setting_the_environment_in_or_beside_the_folder_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "ComfyUI"
    place.mkdir()
    monkeypatch.chdir(place)
    beside = program(tmp_path / ".venv" / "bin" / "python")
    assert interpreter(Path(), None) == beside
    within = program(place / "venv" / "bin" / "python")
    assert interpreter(Path(), None).absolute() == within


def with_torch(folder: Path, answer: str) -> Path:
    """Return a Python whose torch says so about its graphics card: cards are not to be had here."""
    python = program(folder / "python")
    # With -I a Python does not look in the folder, so that this one does it by hand.
    look = f"import sys; sys.path.insert(0, '{folder}')"
    python.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c \"{look}; $3\"\n")
    (folder / "torch.py").write_text(f"class cuda:\n    is_available = lambda: {answer}\n")
    return python


@pytest.mark.parametrize(
    ("answer", "args", "added"),
    [
        ("False", ("--preview-size", "256"), ("--cpu",)),
        ("True", (), ()),
        ("1 / 0", (), ()),
        ("False", ("--cpu",), ()),
        ("False", ("--lowvram",), ()),
        ("False", ("--directml=0",), ()),
    ],
)
async def test_a_comfyui_runs_on_the_cpu_where_torch_finds_no_card(
    tmp_path: Path, answer: str, args: tuple[str, ...], added: tuple[str, ...]
) -> None:
    assert await device_arguments("default", with_torch(tmp_path, answer), args) == added


async def test_what_it_runs_on_is_reported_in_a_line_for_one_of_the_users_own_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    python = with_torch(tmp_path, "False")
    settings = config.Config(comfyui_path=tmp_path, comfyui_python=str(python))
    found = await instances.configs(settings, asyncio.Event())
    assert found is not None
    supervised = found["default"]
    assert isinstance(supervised, SuperviseConfig)
    assert supervised.args == ("--cpu",)
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith("ComfyUI default runs on the processor (--cpu)")


async def test_our_nodes_hold_to_the_bridges_bound_of_what_an_input_unpacks_to(
    tmp_path: Path,
) -> None:
    settings = config.Config(
        comfyui_path=tmp_path, comfyui_python="python3", max_input_unpacked=5_000
    )
    found = await instances.configs(settings, asyncio.Event())
    assert found is not None
    supervised = found["default"]
    assert isinstance(supervised, SuperviseConfig)
    assert supervised.environment == {"COMFY2MQTT_UNPACKED_BYTES": "5000"}
