"""Attached to a ComfyUI it runs where Python does: nothing on that way is for Linux alone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from bridge import aio
from bridge.comfyui.building import InstallFailed
from bridge.config import Config
from bridge.service import instances

# What Windows has not.
POSIX_ONLY = ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty")

PROGRAM = """
import sys
for name in {names}:
    sys.modules[name] = None
import {module}
"""


@pytest.mark.slow
@pytest.mark.parametrize("module", ["bridge.service", "bridge.cli.main", "bridge.client"])
def test_it_is_imported_without_what_posix_alone_has(module: str) -> None:
    program = PROGRAM.format(names=POSIX_ONLY, module=module)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


async def test_elsewhere_only_a_comfyui_that_runs_is_taken_and_the_error_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(instances, "ON_LINUX", False)
    attached = Config(comfyui_url="http://127.0.0.1:8188")
    found = await instances.configs(attached, asyncio.Event())
    assert found is not None
    for settings in (Config(), Config(comfyui_path=tmp_path)):
        with pytest.raises(InstallFailed, match=r"on Linux only; start yours.*comfyui_url"):
            await instances.configs(settings, asyncio.Event())


def test_on_windows_the_loop_watches_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with closing(aio.new_event_loop()) as loop:
        assert isinstance(loop, asyncio.SelectorEventLoop)
