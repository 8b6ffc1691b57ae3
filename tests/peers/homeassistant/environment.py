"""The environment that Home Assistant runs in: a Python 3.13 of its own, in the cache folder."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.peers import cache

# Home Assistant 2025.4.4 with its own test harness; it pins what it needs.
HARNESS = "pytest-homeassistant-custom-component==0.13.236"
WANTED = "3.13"


def python() -> Path | None:
    """Return a Python 3.13 that runs, from the PATH or from pyenv; None if there is none."""
    found = shutil.which(f"python{WANTED}")
    candidates = [Path(found)] if found else []
    candidates += sorted(Path("~/.pyenv/versions").expanduser().glob(f"{WANTED}.*/bin/python"))
    return next((each for each in candidates if _runs(each)), None)


def _runs(candidate: Path) -> bool:
    # pyenv has a shim on the PATH for each version that any of its environments has.
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    found = subprocess.run((candidate, "-c", code), capture_output=True, text=True, check=False)
    return found.stdout.strip() == WANTED


def ensure(base: Path) -> Path:
    """Return the environment's interpreter; made first, which takes some minutes, if need be."""

    def install(folder: Path) -> None:
        subprocess.run((base, "-m", "venv", folder), check=True)
        pip = (folder / "bin" / "python", "-m", "pip", "install", "--quiet", HARNESS)
        subprocess.run(pip, check=True)

    return cache.made(HARNESS, install) / "bin" / "python"
