"""The package as `pip install` gives it: in an environment that has nothing else, far from here."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.peers, pytest.mark.timeout(600)]


def run(*command: str | Path, cwd: Path, check: bool = True) -> str:
    bare = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(command, cwd=cwd, env=bare, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--no-deps", "--no-build-isolation", "--wheel-dir", str(folder))
    run(sys.executable, "-m", "pip", "wheel", "-qq", *options, ROOT, cwd=folder)
    (found,) = folder.glob("comfy2mqtt-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command, from the wheel alone."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    run(folder / "bin/python", "-m", "pip", "install", "-qq", wheel, cwd=folder)
    return folder / "bin" / "comfy2mqtt"


def test_the_wheel_has_all_that_a_checkout_has_for_use(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, within in (
        ("custom_nodes", "bridge/_shipped/custom_nodes"),
        ("workflows", "bridge/_shipped/workflows"),
        ("mosquitto", "bridge/_shipped/mosquitto"),
        ("bridge", "bridge"),
    ):
        tracked = run("git", "ls-files", folder, cwd=ROOT).split()
        assert tracked
        for file in tracked:
            assert within + file.removeprefix(folder) in names
    assert not any("__pycache__" in name or name.startswith("tests") for name in names)


def test_the_command_works_from_the_wheel_alone(installed: Path, tmp_path: Path) -> None:
    assert "comfy2mqtt" in run(installed, "--version", cwd=tmp_path)
    graph = ROOT / "workflows" / "demo.json"
    assert "class_type" in run(installed, "convert", graph, cwd=tmp_path)
    told = run(installed, "doctor", "--data", str(tmp_path / "data"), cwd=tmp_path, check=False)
    assert "workflow demo" in told
    run(installed, "mosquitto", "setup", "--folder", str(tmp_path / "broker"), cwd=tmp_path)
    assert "max_packet_size" in "".join(
        file.read_text() for file in (tmp_path / "broker").iterdir() if file.suffix == ".conf"
    )
