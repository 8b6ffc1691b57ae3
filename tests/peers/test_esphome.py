"""The package for ESPHome, by ESPHome's own checker: `make test-peers` runs it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.peers import cache
from tests.peers.homeassistant import environment

pytestmark = [pytest.mark.peers, pytest.mark.timeout(600)]

ESPHOME = "esphome==2026.10.0"
ROOT = Path(__file__).parents[2]


def esphome(python: Path) -> Path:
    """Return the program; its environment is made first, if need be."""

    def install(folder: Path) -> None:
        subprocess.run((python, "-m", "venv", folder), check=True)
        pip = (folder / "bin" / "python", "-m", "pip", "install", "--quiet", ESPHOME)
        subprocess.run(pip, check=True)

    return cache.made(ESPHOME, install) / "bin" / "esphome"


def test_a_display_with_the_package_is_valid_and_nothing_of_it_is_deprecated(
    tmp_path: Path,
) -> None:
    python = environment.python()
    if python is None:
        pytest.skip("ESPHOME IS NOT TESTED: no Python 3.13 on the PATH or in ~/.pyenv")
    for each in (
        ROOT / "docs" / "deploy" / "esphome-display.yaml",
        ROOT / "tests" / "peers" / "esphome" / "frame.yaml",
    ):
        shutil.copy(each, tmp_path)
    found = subprocess.run(
        (esphome(python), "config", tmp_path / "frame.yaml"),
        capture_output=True,
        text=True,
        check=False,
    )
    said = found.stdout + found.stderr
    assert "Configuration is valid!" in said, said[-4000:]
    assert "deprecated" not in said
