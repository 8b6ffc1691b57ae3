"""A Python for Home Assistant that cannot be made is a reason, and no error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.peers import cache
from tests.peers.homeassistant_integration import environment
from tests.peers.homeassistant_integration.environment import Unavailable


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_why_there_is_no_python_is_in_the_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Unavailable, match=r"no Python 3\.14, and only root"):
        environment.found()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    program(tmp_path, "unshare", "exit 1")
    with pytest.raises(Unavailable, match="nothing can be mounted"):
        environment.found()
    program(tmp_path, "unshare", "exit 0")
    with pytest.raises(Unavailable, match="neither debootstrap nor apt-get"):
        environment.found()
    program(tmp_path, "debootstrap", "echo 'E: Failed getting release file'; exit 1")
    with pytest.raises(Unavailable, match="E: Failed getting release file"):
        environment.found()
    # A Debian that is half made is none the next time.
    assert not cache.folder(environment.DEBIAN).exists()
