"""Programs of others in the user's cache folder, each made once for all."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path


def made(name: str, fill: Callable[[Path], None]) -> Path:
    """Return the folder that is called after `name`, which `fill` has filled, now or earlier."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    folder = cache / "comfy2mqtt" / re.sub(r"[^a-z0-9.]+", "-", name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            fill(folder)
            (folder / ".ready").touch()
    return folder
