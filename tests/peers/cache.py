"""Programs of others in the user's cache folder, each made once for all."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path


def folder(name: str) -> Path:
    """Return the folder that is called after `name`, whether it is there or not."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    return cache / "comfy2mqtt" / re.sub(r"[^a-z0-9.]+", "-", name)


def made(name: str, fill: Callable[[Path], None]) -> Path:
    """Return the folder that is called after `name`, which `fill` has filled, now or earlier."""
    place = folder(name)
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / ".ready").exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            fill(place)
            (place / ".ready").touch()
    return place
