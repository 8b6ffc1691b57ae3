"""Packages of Debian, each unpacked with what it needs into the cache folder: no root is needed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.peers import cache


def ensure(package: str) -> Path:
    """Return the folder that stands for `/`: `package` there, and what is missing for it here.

    Its version is that of the distribution. Skips the test, loudly, where there is no apt-get.
    """
    if shutil.which("apt-get") is None:
        pytest.skip(f"SKIPPED WITHOUT apt-get, WHICH BRINGS {package}")

    def unpack(folder: Path) -> None:
        # Lists of our own: the system's may be empty, and filling those takes root.
        own = ("-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache")
        (folder / "lists/partial").mkdir(parents=True)
        subprocess.run(("apt-get", "-qq", *own, "update"), check=True)
        plan = subprocess.run(
            ("apt-get", *own, "--simulate", "--no-install-recommends", "install", package),
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        needed = {package, *re.findall(r"^Inst (\S+)", plan, re.MULTILINE)}
        subprocess.run(("apt-get", "-qq", *own, "download", *needed), cwd=folder, check=True)
        for archive in folder.glob("*.deb"):
            subprocess.run(("dpkg-deb", "-x", str(archive), str(folder)), check=True)
            archive.unlink()
        shutil.rmtree(folder / "lists")
        shutil.rmtree(folder / "cache", ignore_errors=True)
        # Erlang's program has the place of its libraries written into it.
        erl = folder / "usr/lib/erlang/bin/erl"
        if erl.exists():
            place = f"ROOTDIR={erl.parents[1]}"
            erl.write_text(erl.read_text().replace("ROOTDIR=/usr/lib/erlang", place))

    return cache.made(f"debian-{package}", unpack)


def environment(root: Path) -> Mapping[str, str]:
    """Return the environment in which Erlang and the libraries below `root` are found."""
    libraries = sorted({str(each.parent) for each in root.rglob("*.so.*")})
    erlang = root / "usr/lib/erlang/bin"
    return {
        **os.environ,
        "LD_LIBRARY_PATH": ":".join(libraries),
        "PATH": f"{erlang}:{os.environ['PATH']}",
    }
