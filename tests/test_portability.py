"""Attached to a ComfyUI it runs where Python does: nothing on that way is for Linux alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

# What Windows has not.
POSIX_ONLY = ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty")

PROGRAM = """
import sys
for name in {names}:
    sys.modules[name] = None
import {module}
"""


@pytest.mark.parametrize("module", ["bridge.service", "bridge.cli.main", "bridge.client"])
def test_it_is_imported_without_what_posix_alone_has(module: str) -> None:
    program = PROGRAM.format(names=POSIX_ONLY, module=module)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
