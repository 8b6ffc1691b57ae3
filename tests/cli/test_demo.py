from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest

from bridge.cli import demo


def program(folder: Path) -> Path:
    """Make an environment's `python` and `comfy2mqtt`; returns the first."""
    folder.mkdir(parents=True)
    for name in ("python", "comfy2mqtt"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return folder / "python"


def test_the_command_is_named_as_it_can_be_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(program(tmp_path / "a b" / "bin")))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(tmp_path / "a b")
    assert demo.command_name() == "bin/comfy2mqtt"
    monkeypatch.chdir(tmp_path / "a b" / "bin")
    assert demo.command_name() == "./comfy2mqtt"
    monkeypatch.chdir(tmp_path.parent)
    assert shlex.split(demo.command_name()) == [f"{tmp_path.name}/a b/bin/comfy2mqtt"]
    monkeypatch.setenv("PATH", str(tmp_path / "a b" / "bin"), prepend=os.pathsep)
    assert demo.command_name() == "comfy2mqtt"
