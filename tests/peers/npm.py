"""Packages from npm, each in a place of its own in the cache folder, at the version named."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.peers import cache

NODE = 18


def node() -> str:
    """Return Node's program; skips the test, loudly, where there is none that is new enough."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        pytest.skip("SKIPPED WITHOUT node AND npm")
    told = subprocess.run((found, "--version"), capture_output=True, text=True, check=True).stdout
    if int(told.strip().lstrip("v").partition(".")[0]) < NODE:
        pytest.skip(f"SKIPPED: node {told.strip()} IS TOO OLD, {NODE} IS NEEDED")
    return found


def ensure(package: str) -> Path:
    """Return the folder in which `package`, such as `name@1.2.3`, is installed; once for all."""

    def install(folder: Path) -> None:
        options = ("--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional")
        subprocess.run(("npm", "install", "--silent", *options, package), cwd=folder, check=True)

    return cache.made(f"npm-{package}", install)
