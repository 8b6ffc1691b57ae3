"""Packages from npm, each in a place of its own in the cache folder, at the version named."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

NODE = 18


def node() -> str:
    """Return Node's program; skips the test, loudly, where there is none that is new enough."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        pytest.skip("SKIPPED FOR WANT OF node AND npm")
    told = subprocess.run((found, "--version"), capture_output=True, text=True, check=True).stdout
    if int(told.strip().lstrip("v").partition(".")[0]) < NODE:
        pytest.skip(f"SKIPPED: node {told.strip()} IS TOO OLD, {NODE} IS NEEDED")
    return found


def ensure(package: str) -> Path:
    """Return the folder in which `package`, such as `name@1.2.3`, is installed; once for all."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    folder = cache / "comfy2mqtt" / re.sub(r"[^a-z0-9.]+", "-", f"npm-{package}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            options = ("--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional")
            subprocess.run(
                ("npm", "install", "--silent", *options, package), cwd=folder, check=True
            )
            (folder / ".ready").touch()
    return folder
